package labtest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ovlnet/ovl/internal/lab"
)

// Lab is a lab that ends with its test.
type Lab struct {
	*lab.Lab
}

// Up makes a lab; when the test fails, its daemons' last words are logged.
func Up(t testing.TB, c lab.Config) *Lab {
	t.Helper()
	// Short: the path of a unix socket in it has 107 bytes at most, unix(7).
	root, err := os.MkdirTemp("", "ovl") //nolint:usetesting // t.TempDir is too long
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(root) })
	c.Root, c.BinDir, c.Tether = filepath.Join(root, "labs"), os.Getenv(binariesEnv), true
	made, err := lab.Up(t.Context(), c, nil)
	if err != nil {
		lab.SkipIfForbidden(t, err)
		t.Fatal(err)
	}
	l := &Lab{Lab: made}
	t.Cleanup(func() {
		if t.Failed() {
			l.logDaemons(t)
		}
		if err := l.Down(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return l
}

// Result is what a command ended with.
type Result struct {
	Stdout, Stderr string
	Code           int // -1: it did not end by itself
}

// Do runs a command on a host and returns what it ended with.
func (l *Lab) Do(tb testing.TB, host string, args ...string) Result {
	tb.Helper()
	cmd, err := l.Command(tb.Context(), host, args...)
	if err != nil {
		tb.Fatal(err)
	}
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err = cmd.Run()
	r := Result{Stdout: stdout.String(), Stderr: stderr.String()}
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		r.Code = exit.ExitCode()
	} else if err != nil {
		tb.Fatal(err)
	}
	return r
}

// Run runs a command on a host, which must succeed, and returns what it wrote
// to stdout, without the white space around it.
func (l *Lab) Run(tb testing.TB, host string, args ...string) string {
	tb.Helper()
	r := l.Do(tb, host, args...)
	if r.Code != 0 {
		tb.Fatalf("%s on %s: exit code %d: %s", strings.Join(args, " "), host, r.Code, strings.TrimSpace(r.Stderr))
	}
	return strings.TrimSpace(r.Stdout)
}

// JSON runs a command on a host, which must succeed, and decodes its stdout
// into v. No output at all, as of `ip -j route` without routes, leaves v.
func (l *Lab) JSON(tb testing.TB, v any, host string, args ...string) {
	tb.Helper()
	out := l.Run(tb, host, args...)
	if out == "" {
		return
	}
	if err := json.Unmarshal([]byte(out), v); err != nil {
		tb.Fatalf("%s on %s: decode: %v: %s", strings.Join(args, " "), host, err, out)
	}
}

// logDaemons logs the end of every daemon's log.
func (l *Lab) logDaemons(t testing.TB) {
	t.Helper()
	for _, h := range l.Hosts() {
		out, err := l.Exec(context.Background(), h.Name, "sh", "-c", "tail -n 25 /var/log/ovl/*.log")
		if err == nil {
			t.Logf("%s:\n%s", h.Name, out)
		}
	}
}
