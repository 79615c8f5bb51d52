// Command ovl-agent is the agent of one host: it holds the host's subnets,
// keeps the kernel as the cluster wants it, and attaches containers.
//
// This package only wires the rooms together; it is the one place that chooses
// Linux as the kernel and etcd as the store.
package main

import (
	"github.com/spf13/cobra"

	"github.com/ovlnet/ovl/internal/build"
	"github.com/ovlnet/ovl/internal/settings"
)

func main() { settings.Main(newCommand()) }

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
		Example: `  ovl-agent join --controller 10.0.0.1:6790 --token ovl1-…
  ovl-agent --underlay-interface eth1
  ovl-agent cleanup`,
		RunE: func(cmd *cobra.Command, _ []string) error { return serve(cmd.Context(), &o) },
	}
	settings.Daemon(root, build.Version())
	o.bind(root)
	root.AddCommand(newJoinCommand(&o), newCleanupCommand(&o), newInstallCNICommand())
	return root
}
