package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"
)

// The exit codes: scripts rely on them.
const (
	exitDone        = 0
	exitFailed      = 1
	exitUsage       = 2
	exitNotFound    = 3
	exitConflict    = 4
	exitUnhealthy   = 5
	exitUnreachable = 6
)

// codeError is an error that knows its exit code.
type codeError struct {
	code int
	err  error
}

func (e *codeError) Error() string { return e.err.Error() }
func (e *codeError) Unwrap() error { return e.err }

// silentError ends with a code and says nothing: all has been said, or the
// code is that of the user's own command.
type silentError int

func (e silentError) Error() string { return fmt.Sprintf("exit code %d", int(e)) }

func codef(code int, format string, args ...any) error {
	return &codeError{code: code, err: fmt.Errorf(format, args...)}
}

func usagef(format string, args ...any) error { return codef(exitUsage, format, args...) }

// exitCode returns the exit code for err; nil is 0. Of several joined errors
// the first decides.
func exitCode(err error) int {
	if err == nil {
		return exitDone
	}
	if s, ok := errors.AsType[silentError](err); ok {
		return int(s)
	}
	if c, ok := errors.AsType[*codeError](err); ok {
		return c.code
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return exitUnreachable
	}
	return exitFailed
}

// sayError writes err in one line; joined errors, one line each.
func sayError(w io.Writer, err error) {
	if err == nil {
		return
	}
	if _, silent := errors.AsType[silentError](err); silent {
		return
	}
	if many, ok := err.(interface{ Unwrap() []error }); ok {
		for _, e := range many.Unwrap() {
			sayError(w, e)
		}
		return
	}
	fmt.Fprintf(w, "ovlctl: %s\n", oneLine(err.Error()))
}

// oneLine makes s safe to print on one line of a terminal: what came from
// elsewhere may hold line feeds or escape sequences.
func oneLine(s string) string {
	return clean(strings.ReplaceAll(strings.TrimSpace(s), "\n", "; "))
}

// clean replaces what would control a terminal.
func clean(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || (r >= 0x80 && r < 0xa0) {
			return '?'
		}
		return r
	}, s)
}

// exactly wants one argument for each name, and says which are missing.
func exactly(names ...string) cobra.PositionalArgs {
	return func(c *cobra.Command, args []string) error {
		if len(args) < len(names) {
			return usagef("%s: %s is missing; see %s --help", commandName(c), strings.Join(names[len(args):], " "), c.CommandPath())
		}
		if len(args) > len(names) {
			return usagef("%s: %q is too much; see %s --help", commandName(c), args[len(names)], c.CommandPath())
		}
		return nil
	}
}

// atLeastOne wants one or more of what is named.
func atLeastOne(name string) cobra.PositionalArgs {
	return func(c *cobra.Command, args []string) error {
		if len(args) == 0 {
			return usagef("%s: %s is missing; see %s --help", commandName(c), name, c.CommandPath())
		}
		return nil
	}
}

// commandName is the command without "ovlctl", which begins the line anyway.
func commandName(c *cobra.Command) string {
	return strings.TrimPrefix(c.CommandPath(), c.Root().Name()+" ")
}
