package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	ovlv1 "github.com/ovlnet/ovl/proto/ovl/v1"
)

func newStatusCommand(o *options) *cobra.Command {
	return &cobra.Command{
		Use:   "status",
		Short: "Show on one screen how the cluster is",
		Long: `Shows the controller, etcd, the hosts, the networks and what is wrong.

Exit code 5 says that something is wrong: etcd does not answer, a host is down
or has problems. -o json and yaml print the controller's status.`,
		Example:           "  ovlctl status\n  ovlctl status -o json",
		Args:              exactly(),
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(c *cobra.Command, _ []string) error {
			return o.onController(c.Context(), func(ctx context.Context, cl *client) error {
				s, err := cl.readOverview(ctx)
				if err != nil {
					return cl.explain("show status", err)
				}
				if err := s.print(o, cl.address); err != nil {
					return err
				}
				if !s.healthy() {
					return silentError(exitUnhealthy)
				}
				return nil
			})
		},
	}
}

// overview is what the screen shows.
type overview struct {
	status   *ovlv1.ControllerStatus
	hosts    []*ovlv1.Host
	networks []*ovlv1.Network
}

func (c *client) readOverview(ctx context.Context) (overview, error) {
	s, err := c.cluster().GetStatus(ctx, &ovlv1.GetStatusRequest{})
	if err != nil {
		return overview{}, err
	}
	v := overview{status: s}
	if !s.GetEtcdHealthy() {
		return v, nil // the lists come from etcd: asking would only take until the deadline
	}
	if v.hosts, err = c.listHosts(ctx); err != nil {
		return overview{}, err
	}
	v.networks, err = c.listNetworks(ctx)
	return v, err
}

// healthy reports whether nothing is wrong. A draining host is not: somebody
// asked for it.
func (v overview) healthy() bool {
	if !v.status.GetEtcdHealthy() || anyError(v.status.GetProblems()) {
		return false
	}
	for _, h := range v.hosts {
		if h.GetState() == "down" || h.GetState() == "unhealthy" {
			return false
		}
	}
	return true
}

func (v overview) print(o *options, address string) error {
	switch o.output {
	case formatJSON, formatYAML:
		return printMessage(o, v.status)
	case formatName:
		_, err := fmt.Fprintln(o.stdout, o.verdict(v.healthy(), "healthy", "unhealthy"))
		return err
	}
	if err := printTable(o.stdout, v.summary(o, address)); err != nil {
		return err
	}
	if len(v.hosts) > 0 {
		fmt.Fprintln(o.stdout)
		if err := hostView(o).list(o, v.hosts); err != nil {
			return err
		}
	}
	if len(v.networks) > 0 {
		fmt.Fprintln(o.stdout)
		if err := networkView().list(o, v.networks); err != nil {
			return err
		}
	}
	return v.verdict(o)
}

func (v overview) summary(o *options, address string) [][]string {
	s := v.status
	kind := "external " + list(s.GetEtcdEndpoints())
	if s.GetEtcdEmbedded() {
		kind = "embedded"
	}
	state := "healthy"
	if !s.GetEtcdHealthy() {
		state = "not healthy"
	}
	return [][]string{
		{"controller", fmt.Sprintf("%s, version %s, up %s", address, s.GetVersion(), o.since(s.GetStarted()))},
		{"etcd", fmt.Sprintf("%s, %s, revision %d", kind, state, s.GetRevision())},
		{"hosts", fmt.Sprintf("%d of %d ready", s.GetHostsReady(), s.GetHosts())},
		{"networks", fmt.Sprintf("%d, with %d subnets and %d endpoints", s.GetNetworks(), s.GetSubnets(), s.GetEndpoints())},
	}
}

// verdict ends the screen with what is wrong, which is data here: people
// asked for it.
func (v overview) verdict(o *options) error {
	fmt.Fprintln(o.stdout)
	sayProblems(o.stdout, v.status.GetProblems())
	_, err := fmt.Fprintln(o.stdout, o.verdict(v.healthy(), "healthy", "unhealthy"))
	return err
}
