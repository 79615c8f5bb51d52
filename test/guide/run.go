package guide

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"
)

// Reader is somebody who follows a guide: a shell on this machine and one on
// each host of the lab that the guide last made.
type Reader struct {
	Dir string // where the shell on this machine is
	Bin string // where the binaries are
	// Patience bounds the repetition of a step: what another host has to hear of
	// first takes milliseconds, unless the machine is busy.
	Patience time.Duration

	lab    string
	shells map[string]*shell
}

// labUp is the command that makes the lab in which the next steps are.
var labUp = regexp.MustCompile(`^(?:\S*/)?ovlctl lab up\b(?:.* --name[ =](\S+))?`)

// Do types the command of a step and compares what it prints with what is
// shown.
func (r *Reader) Do(ctx context.Context, s Step) (Outcome, error) {
	sh, err := r.shell(ctx, s.Host)
	if err != nil {
		return Outcome{}, fmt.Errorf("line %d: %w", s.Line, err)
	}
	deadline := time.Now().Add(r.Patience)
	for {
		o, err := sh.run(s.Command)
		if err != nil {
			return o, fmt.Errorf("line %d: %w", s.Line, err)
		}
		err = s.Check(o)
		if err == nil {
			r.made(s)
		}
		if err == nil || !s.Soon || time.Now().After(deadline) {
			return o, err
		}
		select {
		case <-time.After(20 * time.Millisecond): // another host is asked again
		case <-ctx.Done():
			return o, err
		}
	}
}

// made notes which lab a step has made.
func (r *Reader) made(s Step) {
	m := labUp.FindStringSubmatch(s.Command)
	if m == nil || s.Host != Machine {
		return
	}
	if r.lab = m[1]; r.lab == "" {
		r.lab = "lab"
	}
}

// shell returns the shell on a host. There is one for each, so that variables
// and background jobs stay.
func (r *Reader) shell(ctx context.Context, host string) (*shell, error) {
	key := r.lab + "/" + host
	if host == Machine {
		key = Machine
	}
	if sh := r.shells[key]; sh != nil {
		return sh, nil
	}
	argv := []string{"bash", "--norc", "--noprofile"}
	if host != Machine {
		if r.lab == "" {
			return nil, fmt.Errorf("find host %s: the guide has made no lab yet", host)
		}
		argv = append([]string{filepath.Join(r.Bin, "ovlctl"), "lab", "exec", "--name", r.lab, host, "--"}, argv...)
	}
	sh, err := startShell(ctx, r.Dir, environment(os.Environ(), r.Bin), argv...)
	if err != nil {
		return nil, err
	}
	if r.shells == nil {
		r.shells = map[string]*shell{}
	}
	r.shells[key] = sh
	return sh, nil
}

// Close ends the shells.
func (r *Reader) Close() {
	for _, sh := range r.shells {
		sh.close()
	}
}

// environment is env with the binaries in bin first in PATH, and nothing that
// colours, pages or names a controller.
func environment(env []string, bin string) []string {
	env = slices.DeleteFunc(slices.Clone(env), func(kv string) bool {
		return strings.HasPrefix(kv, "OVL_") || strings.HasPrefix(kv, "PATH=") || strings.HasPrefix(kv, "LC_") || strings.HasPrefix(kv, "LANG")
	})
	return append(env, "PATH="+bin+":"+os.Getenv("PATH")+":/usr/local/sbin:/usr/sbin:/sbin", "NO_COLOR=1", "LC_ALL=C.UTF-8", "COLUMNS=200")
}
