// Command ovl-controller is the control plane of an ovl cluster: it serves the
// cluster's networks, hosts, subnets and endpoints over gRPC and, unless it is
// given an etcd, runs one within itself.
//
// This package only wires the rooms together; it must never hold a rule of the
// cluster. All state is in etcd: a controller that is killed at any moment
// loses nothing.
package main

import (
	"os"

	"github.com/spf13/cobra"

	"github.com/ovlnet/ovl/internal/build"
	"github.com/ovlnet/ovl/internal/settings"
)

func main() { settings.Main(newCommand()) }

func newCommand() *cobra.Command {
	var o options
	root := &cobra.Command{
		Use:   "ovl-controller",
		Short: "the control plane of an ovl cluster",
		Long: `ovl-controller serves the networks, hosts, subnets and endpoints of an ovl
cluster over gRPC, for ovlctl and for programs.

Without --etcd it runs an etcd of its own on --data-dir, for the agents too: one
binary is a whole control plane. With --etcd any number of controllers share a
cluster; they need no leader and keep nothing themselves but the CA, which they must
have in common (--ca-cert and --ca-key).

At its first start it makes a CA in --data-dir/identity, and beside it what lets
ovlctl on this machine in as admin. Hosts join with "ovl-agent join" and a token of
"ovlctl token create"; from then on everything is mutual TLS 1.3.`,
		Example: `  ovl-controller --data-dir /srv/ovl
  ovl-controller --listen 10.0.0.1:6790 --etcd-listen 10.0.0.1:6779
  ovl-controller --etcd https://10.0.0.1:2379,https://10.0.0.2:2379 --ca-cert /etc/ovl/ca.pem --ca-key /etc/ovl/ca-key.pem`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := o.check(cmd.Flags().Changed); err != nil {
				return settings.Usage(err)
			}
			log, err := o.telemetry.Logger(os.Stderr)
			if err != nil {
				return settings.Usage(err)
			}
			return serve(cmd.Context(), o, log)
		},
	}
	settings.Daemon(root, build.Version())
	o.bind(root.Flags())
	return root
}
