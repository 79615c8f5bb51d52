package main

import (
	"errors"
	"os"
	"os/signal"

	"golang.org/x/sys/unix"

	"github.com/ovlnet/ovl/internal/sandbox"
)

// The exit codes of a shell for a command that is none (POSIX, XCU 2.8.2).
const (
	exitNotExecutable  = 126
	exitCommandMissing = 127
)

// commandError gives the error of starting a user's command the exit code that
// a shell gives.
func commandError(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, sandbox.ErrNotFound):
		return &codeError{code: exitCommandMissing, err: err}
	case errors.Is(err, sandbox.ErrNotExecutable):
		return &codeError{code: exitNotExecutable, err: err}
	case errors.Is(err, sandbox.ErrMissing):
		return &codeError{code: exitNotFound, err: err}
	}
	return err
}

// attend passes signals on to the command until it ends, and returns its exit
// code.
func (o *options) attend(p *sandbox.Process) (int, error) {
	signals := make(chan os.Signal, 16)
	signal.Notify(signals, o.passedOn()...)
	defer signal.Stop(signals)
	type result struct {
		code int
		err  error
	}
	done := make(chan result, 1)
	go func() {
		code, err := p.Wait()
		done <- result{code, err}
	}()
	for {
		select {
		case sig := <-signals:
			_ = p.Signal(sig) // fails only if the command has just ended
		case r := <-done:
			return r.code, r.err
		}
	}
}

// passedOn are the signals that the command gets from us. What keys make on a
// terminal the kernel sends to the whole foreground group, which the command
// is in, so that a second copy would be one too many.
func (o *options) passedOn() []os.Signal {
	signals := []os.Signal{unix.SIGTERM, unix.SIGHUP, unix.SIGUSR1, unix.SIGUSR2, unix.SIGCONT}
	if !o.terminal(o.stdin) {
		signals = append(signals, unix.SIGINT, unix.SIGQUIT, unix.SIGWINCH)
	}
	return signals
}
