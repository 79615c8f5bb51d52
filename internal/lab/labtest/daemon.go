package labtest

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// Daemon is a program that a test keeps running on a host, beside those of the
// lab. It ends with its test.
type Daemon struct {
	Name string
	lab  *Lab
	host string
	args []string
	log  string
	cmd  *exec.Cmd
	done chan struct{}
	dead bool // killed since it was started: its ID may be another one's by now
}

// StartDaemon starts a program on a host. When the test fails, its last words
// are logged.
func (l *Lab) StartDaemon(tb testing.TB, host, name string, args ...string) *Daemon {
	tb.Helper()
	d := &Daemon{Name: name, lab: l, host: host, args: args, log: filepath.Join(tb.TempDir(), name+".log")}
	d.Start(tb)
	tb.Cleanup(func() {
		d.Kill(tb)
		if tb.Failed() {
			tb.Logf("%s on %s:\n%s", name, host, tail(d.log, 60))
		}
	})
	return d
}

// Start starts the program again; what it writes is added to its log.
func (d *Daemon) Start(tb testing.TB) {
	tb.Helper()
	// Not the test's own context: that ends before the cleanups, which end the
	// daemons one by one.
	cmd, err := d.lab.Command(tb.Context(), d.host, d.args...)
	if err != nil {
		tb.Fatal(err)
	}
	cmd.Cancel = func() error { return nil }
	log, err := os.OpenFile(d.log, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		tb.Fatal(err)
	}
	defer log.Close()
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		tb.Fatal(err)
	}
	done := make(chan struct{})
	d.cmd, d.done, d.dead = cmd, done, false
	go func() {
		_ = cmd.Wait() // ended by a signal, as a rule
		close(done)
	}()
}

// Kill ends the program with SIGKILL, and what it started and did not put into
// a session of its own.
func (d *Daemon) Kill(tb testing.TB) {
	tb.Helper()
	if !d.dead {
		_ = unix.Kill(-d.cmd.Process.Pid, unix.SIGKILL) // it may have ended
	}
	<-d.done
	d.dead = true
}

// Ended returns a channel that is closed when the program has ended.
func (d *Daemon) Ended() <-chan struct{} { return d.done }

// Log returns what the program has written.
func (d *Daemon) Log(tb testing.TB) string {
	tb.Helper()
	b, err := os.ReadFile(d.log)
	if err != nil {
		tb.Fatal(err)
	}
	return string(b)
}

// tail returns the last n lines of a file.
func tail(path string, n int) string {
	b, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	i := len(b)
	for ; n > 0 && i > 0; n-- {
		i--
		for i > 0 && b[i-1] != '\n' {
			i--
		}
	}
	return string(b[i:])
}
