// Command ovl-controller is the control plane of an ovl cluster: it serves the
// cluster's networks, hosts, subnets and endpoints over gRPC and, unless it is
// given an etcd, runs one within itself.
//
// This package only wires the rooms together; it must never hold a rule of the
// cluster. All state is in etcd: a controller that is killed at any moment
// loses nothing.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/ovlnet/ovl/internal/settings"
	"github.com/ovlnet/ovl/internal/telemetry"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal ends the process at once
	os.Exit(run(ctx, os.Args[1:]))
}

// usageError is a mistake of whoever typed the command: exit code 2.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

// run executes one command line and returns the exit code: 0 done, 1 failed,
// 2 usage.
func run(ctx context.Context, args []string) int {
	cmd := newCommand() //nolint:contextcheck // cobra hands the context on
	cmd.SetArgs(args)
	err := cmd.ExecuteContext(ctx)
	if err == nil {
		return 0
	}
	fmt.Fprintln(os.Stderr, "ovl-controller:", err)
	if _, ok := errors.AsType[usageError](err); ok {
		return 2
	}
	return 1
}

func newCommand() *cobra.Command {
	var o options
	root := &cobra.Command{
		Use:   "ovl-controller",
		Short: "the control plane of an ovl cluster",
		Long: `ovl-controller serves the networks, hosts, subnets and endpoints of an ovl
cluster over gRPC, for ovlctl and for programs.

Without --etcd it runs an etcd of its own on --data-dir, for the agents too: one
binary is a whole control plane. With --etcd any number of controllers share a
cluster; they need no leader and keep nothing themselves.`,
		Example: `  ovl-controller --data-dir /srv/ovl
  ovl-controller --listen :6790 --etcd-listen :6779
  ovl-controller --etcd http://10.0.0.1:2379,http://10.0.0.2:2379`,
		Args:          usageArgs(cobra.NoArgs),
		SilenceErrors: true, SilenceUsage: true,
		PersistentPreRunE: func(cmd *cobra.Command, _ []string) error { return usage(settings.Load(cmd)) },
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := o.check(cmd.Flags().Changed); err != nil {
				return usage(err)
			}
			log, err := o.telemetry.Logger(os.Stderr)
			if err != nil {
				return usage(err)
			}
			return serve(cmd.Context(), o, log)
		},
	}
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usage(err) })
	settings.Bind(root)
	o.bind(root.Flags())
	root.AddCommand(&cobra.Command{
		Use: "version", Short: "print version, commit and Go version", Args: usageArgs(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			_, err := fmt.Fprintln(cmd.OutOrStdout(), "ovl-controller", telemetry.Version())
			return err
		},
	})
	return root
}

func usage(err error) error {
	if err == nil {
		return nil
	}
	return usageError{fmt.Errorf("%w: see ovl-controller --help", err)}
}

func usageArgs(check cobra.PositionalArgs) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error { return usage(check(cmd, args)) }
}
