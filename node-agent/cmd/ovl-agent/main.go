// Command ovl-agent is the agent of one host: it holds the host's subnets,
// keeps the kernel as the cluster wants it, and attaches containers.
//
// This package only wires the rooms together; it is the one place that chooses
// Linux as the kernel and etcd as the store.
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
	defer stop()
	os.Exit(run(ctx, os.Args[1:]))
}

// errUsage marks an error of the command line: exit code 2.
var errUsage = errors.New("usage")

// run executes one command line and returns the exit code: 0 done, 1 failed,
// 2 usage.
func run(ctx context.Context, args []string) int {
	cmd := newCommand() //nolint:contextcheck // cobra hands the context on
	cmd.SetArgs(args)
	err := cmd.ExecuteContext(ctx)
	if err == nil {
		return 0
	}
	fmt.Fprintln(os.Stderr, "ovl-agent:", err)
	if errors.Is(err, errUsage) {
		return 2
	}
	return 1
}

func newCommand() *cobra.Command {
	var o options
	root := &cobra.Command{
		Use:   "ovl-agent",
		Short: "the agent of one host of an ovl cluster",
		Long: `ovl-agent joins this host's containers to the networks of an ovl cluster.

It leases subnets from etcd, keeps bridges, VXLAN devices, routes, neighbours,
forwarding entries and firewall rules as the cluster wants them, and attaches
containers for ovlctl, CNI and Docker. Stopping it leaves the data path in place;
"ovl-agent cleanup" removes it.`,
		Example: `  ovl-agent --etcd http://10.0.0.1:6779
  ovl-agent --etcd http://10.0.0.1:6779 --underlay-interface eth1 --name rack1-7
  ovl-agent cleanup`,
		Args:          usageArgs(cobra.NoArgs),
		SilenceErrors: true, SilenceUsage: true,
		PersistentPreRunE: func(cmd *cobra.Command, _ []string) error { return usage(settings.Load(cmd)) },
		RunE:              func(cmd *cobra.Command, _ []string) error { return serve(cmd.Context(), &o) },
	}
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usage(err) })
	settings.Bind(root)
	o.bind(root)
	root.AddCommand(newCleanupCommand(&o), &cobra.Command{
		Use: "version", Short: "print version, commit and Go version", Args: usageArgs(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			_, err := fmt.Fprintln(cmd.OutOrStdout(), "ovl-agent", telemetry.Version())
			return err
		},
	})
	return root
}

func usage(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%w: %w", errUsage, err)
}

func usageArgs(check cobra.PositionalArgs) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error { return usage(check(cmd, args)) }
}
