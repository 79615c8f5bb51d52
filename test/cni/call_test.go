package cni

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"testing"

	"github.com/containernetworking/cni/pkg/types"
	types100 "github.com/containernetworking/cni/pkg/types/100"
)

// call is one run of a plugin, as a runtime does it.
type call struct {
	plugin  string // empty: ovl
	command string
	id      string
	netns   string
	ifName  string // empty: eth0
	args    string
	conf    string
}

// conf is a configuration of network blue with further fields.
func conf(fields ...string) string {
	return `{"cniVersion":"1.1.0","name":"blue","type":"ovl"` + strings.Join(append([]string{""}, fields...), ",") + `}`
}

// answer is what a plugin printed.
type answer struct {
	stdout string
	failed bool
}

// start starts the plugin on a node; the returned function waits for its answer.
func (n node) start(t testing.TB, c call) func() answer {
	t.Helper()
	env := []string{"env", "CNI_PATH=" + n.path, "CNI_COMMAND=" + c.command, "CNI_IFNAME=eth0"}
	for k, v := range map[string]string{"CNI_CONTAINERID": c.id, "CNI_NETNS": c.netns, "CNI_IFNAME": c.ifName, "CNI_ARGS": c.args} {
		if v != "" {
			env = append(env, k+"="+v)
		}
	}
	program := "ovl"
	if c.plugin != "" {
		program = c.plugin
	}
	for dir := range strings.SplitSeq(n.path, ":") {
		if (dir == strings.Split(n.path, ":")[0]) == (program == "ovl") {
			program = dir + "/" + program
			break
		}
	}
	cmd, err := n.Command(t.Context(), n.host, append(env, program)...)
	if err != nil {
		t.Fatal(err)
	}
	var stdout, stderr bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(c.conf), &stdout, &stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return func() answer {
		err := cmd.Wait()
		if _, ok := errors.AsType[*exec.ExitError](err); err != nil && !ok {
			t.Fatal(err)
		}
		if stderr.Len() > 0 {
			t.Errorf("%s said on stderr: %s", c.command, &stderr)
		}
		return answer{stdout.String(), err != nil}
	}
}

// ask runs the plugin.
func (n node) ask(t testing.TB, c call) answer {
	t.Helper()
	return n.start(t, c)()
}

// done runs the plugin, which must succeed, and returns what it printed.
func (n node) done(t testing.TB, c call) answer {
	t.Helper()
	a := n.ask(t, c)
	if a.failed {
		t.Fatalf("%s %s: %s", c.command, c.id, a.stdout)
	}
	return a
}

// refused runs the plugin, which must fail with that code and say that.
func (n node) refused(t testing.TB, c call, code uint, says string) {
	t.Helper()
	a := n.ask(t, c)
	var e types.Error
	if err := json.Unmarshal([]byte(a.stdout), &e); err != nil || !a.failed {
		t.Errorf("%s %s: printed %q (failed: %v), want error %d", c.command, c.id, a.stdout, a.failed, code)
		return
	}
	if e.Code != code || !strings.Contains(e.Error(), says) {
		t.Errorf("%s %s: error %d: %v; want %d and %q", c.command, c.id, e.Code, &e, code, says)
	}
}

// result is what an ADD printed.
func (a answer) result(t testing.TB) types100.Result {
	t.Helper()
	var res types100.Result
	if err := json.Unmarshal([]byte(a.stdout), &res); err != nil {
		t.Fatalf("%v: %s", err, a.stdout)
	}
	return res
}

// prev is the field by which CHECK and DEL are told what ADD printed.
func (a answer) prev() string { return `"prevResult":` + a.stdout }

// addresses of a result, for comparison.
func addresses(r types100.Result) string {
	var out []string
	for _, ip := range r.IPs {
		out = append(out, ip.Address.String())
	}
	return fmt.Sprint(out)
}
