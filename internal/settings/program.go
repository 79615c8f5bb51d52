package settings

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
)

// usageError is a mistake of whoever typed the command.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

// Usage marks err, if there is one, as a mistake in the command line: [Run] then
// exits with 2 and points at --help.
func Usage(err error) error {
	if err == nil {
		return nil
	}
	return usageError{err}
}

// UsageArgs is check with its errors marked by [Usage].
func UsageArgs(check cobra.PositionalArgs) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error { return Usage(check(cmd, args)) }
}

// Daemon makes root the command of a program of ours that runs until it is told
// to stop: its flags also come from the environment and from --config, its errors
// are one line, and it has a command that prints version.
func Daemon(root *cobra.Command, version fmt.Stringer) {
	root.Args = UsageArgs(cobra.NoArgs)
	root.SilenceErrors, root.SilenceUsage = true, true
	root.PersistentPreRunE = func(cmd *cobra.Command, _ []string) error { return Usage(Load(cmd)) }
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return Usage(err) })
	Bind(root)
	root.AddCommand(&cobra.Command{
		Use: "version", Short: "print version, commit and Go version", Args: UsageArgs(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			_, err := fmt.Fprintln(cmd.OutOrStdout(), root.Name(), version)
			return err
		},
	})
}

// Main runs root with the arguments of the process and exits: see [Run]. The
// first SIGINT or SIGTERM ends the command's context, a second one the process.
func Main(root *cobra.Command) {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop)
	os.Exit(Run(ctx, root, os.Args[1:]))
}

// Run executes one command line and returns the exit code: 0 done, 1 failed, 2
// usage. An error is one line on stderr.
func Run(ctx context.Context, root *cobra.Command, args []string) int {
	root.SetArgs(args)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return 0
	}
	if _, ok := errors.AsType[usageError](err); ok {
		fmt.Fprintf(os.Stderr, "%s: %v: see %s --help\n", root.Name(), err, root.Name())
		return 2
	}
	fmt.Fprintf(os.Stderr, "%s: %v\n", root.Name(), err)
	return 1
}
