// Command ovl-cni is the CNI plugin of type "ovl": it translates between the
// CNI specification and the agent's socket, and nothing else.
//
// It must never touch the kernel or keep state: the agent makes interfaces,
// chooses addresses and remembers. The invariant it keeps is that a command
// tried again has the same answer, and that every command ends.
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"

	"github.com/containernetworking/cni/pkg/skel"
	"github.com/containernetworking/cni/pkg/types"
	"github.com/containernetworking/cni/pkg/version"

	"github.com/ovlnet/ovl/internal/build"
)

// maxStdin bounds the configuration that a runtime gives, in bytes.
const maxStdin = 4 << 20

func main() {
	// A process that asks one question has nothing to do at once: its threads would
	// only wake each other, for a tenth of its time.
	runtime.GOMAXPROCS(1)
	about := "CNI plugin ovl " + build.Version().String()
	if len(os.Args) > 1 {
		os.Exit(person(os.Args[1:], about))
	}
	if version, err := run(about); err != nil {
		_ = refusal{version, err}.PrintTo(os.Stdout) // if that is closed there is nobody to tell
		os.Exit(1)
	}
}

// refusal is an error as the specification has it: the library leaves the version out.
type refusal struct {
	CNIVersion string `json:"cniVersion,omitempty"`
	*types.Error
}

// PrintTo prints it, as [types.Result] does.
func (r refusal) PrintTo(to io.Writer) error {
	e := json.NewEncoder(to)
	e.SetIndent("", "    ")
	e.SetEscapeHTML(false)
	return e.Encode(r)
}

// person answers somebody who typed the command.
func person(args []string, about string) int {
	switch args[0] {
	case "version", "--version":
		fmt.Println(build.Version())
	case "help", "--help", "-h":
		fmt.Printf("%s\n\nContainer runtimes run it, with CNI_COMMAND and its like in the environment and a network configuration on stdin:\n\n%s\n", about, example)
	default:
		fmt.Fprintf(os.Stderr, "ovl-cni: %q: it takes no arguments but version and help: a container runtime runs it, with CNI_COMMAND in the environment\n", args[0])
		return 2
	}
	return 0
}

const example = `  {"cniVersion": "1.1.0", "name": "blue", "plugins": [{"type": "ovl", "network": "blue"}]}`

// run does what CNI_COMMAND says, in the version of the specification that the
// configuration is of.
func run(about string) (spoken string, err *types.Error) {
	if command := os.Getenv("CNI_COMMAND"); command != "" && command != "VERSION" {
		raw, err := boundStdin()
		if err != nil {
			return "", err
		}
		var conf struct {
			CNIVersion string `json:"cniVersion"`
		}
		_ = json.Unmarshal(raw, &conf) // the library says what is wrong with it
		spoken = conf.CNIVersion
	}
	p := plugin{getenv: os.Getenv, stdout: os.Stdout, patience: patience, comeback: comeback}
	return spoken, skel.PluginMainFuncsWithError(skel.CNIFuncs{Add: p.add, Del: p.del, Check: p.check, GC: p.gc, Status: p.status},
		version.PluginSupports("0.3.1", "0.4.0", "1.0.0", "1.1.0"), about)
}

// boundStdin reads the configuration and puts what it read back in the place of
// stdin: the library would read without end.
func boundStdin() ([]byte, *types.Error) {
	raw, err := io.ReadAll(io.LimitReader(os.Stdin, maxStdin+1))
	if err != nil {
		return nil, types.NewError(types.ErrIOFailure, "read the network configuration: "+err.Error(), "")
	}
	if len(raw) > maxStdin {
		return nil, types.NewError(types.ErrDecodingFailure, fmt.Sprintf("the network configuration is longer than %d bytes", maxStdin), "")
	}
	r, w, err := os.Pipe()
	if err != nil {
		return nil, types.NewError(types.ErrIOFailure, "make a pipe: "+err.Error(), "")
	}
	os.Stdin = r
	go func() {
		_, err := w.Write(raw) // a reader that has gone needs no more
		_ = errors.Join(err, w.Close())
	}()
	return raw, nil
}
