package main

import (
	"context"
	"net/netip"
	"slices"

	"github.com/spf13/cobra"

	ovlv1 "github.com/ovlnet/ovl/proto/ovl/v1"
)

func newSubnetCommand(o *options) *cobra.Command {
	return newNounCommand("subnet", "Show which host has which subnet", []string{"subnets"}, newSubnetList(o))
}

func subnetView() view[*ovlv1.Subnet] {
	return view[*ovlv1.Subnet]{
		name: func(s *ovlv1.Subnet) string { return s.GetNetwork() + "/" + s.GetPrefix() },
		columns: []column[*ovlv1.Subnet]{
			{title: "NETWORK", cell: (*ovlv1.Subnet).GetNetwork},
			{title: "SUBNET", cell: (*ovlv1.Subnet).GetPrefix},
			{title: "HOST", cell: (*ovlv1.Subnet).GetHost},
			{title: "UNDERLAY", cell: func(s *ovlv1.Subnet) string { return list(s.GetUnderlay()) }},
			{title: "VTEP-MAC", cell: (*ovlv1.Subnet).GetVtepMac},
			{title: "HOST-ID", wide: true, cell: (*ovlv1.Subnet).GetHostId},
			{title: "REVISION", wide: true, cell: func(s *ovlv1.Subnet) string { return number(s.GetRevision()) }},
		},
	}
}

func newSubnetList(o *options) *cobra.Command {
	var network, host string
	var static bool
	c := &cobra.Command{
		Use:     "ls",
		Aliases: []string{"list"},
		Short:   "List the subnets that hosts have taken",
		Long: `Lists the subnets that hosts have taken and, each as a /32 or /128, the static
addresses of their containers. --static shows these alone, --static=false leaves them out.`,
		Example:           "  ovlctl subnet ls --network blue\n  ovlctl subnet ls --host h1 -o json\n  ovlctl subnet ls --static=false",
		Args:              exactly(),
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(c *cobra.Command, _ []string) error {
			return o.onController(c.Context(), func(ctx context.Context, cl *client) error {
				all, err := cl.listSubnets(ctx, network, host)
				if err != nil {
					return cl.explain("list subnets", err)
				}
				if c.Flags().Changed("static") {
					all = slices.DeleteFunc(all, func(s *ovlv1.Subnet) bool { return isStatic(s) != static })
				}
				return subnetView().list(o, all)
			})
		},
	}
	addFilters(c, o, &network, &host)
	c.Flags().BoolVar(&static, "static", false, "only static addresses; --static=false: only subnets (default: both)")
	return c
}

// isStatic reports whether a subnet is a container's own address.
func isStatic(s *ovlv1.Subnet) bool {
	p, err := netip.ParsePrefix(s.GetPrefix())
	return err == nil && p.IsSingleIP()
}

// addFilters adds the two filters that lists of what is on networks take.
func addFilters(c *cobra.Command, o *options, network, host *string) {
	c.Flags().StringVar(network, "network", "", "only of this network")
	c.Flags().StringVar(host, "host", "", "only of the host of this name or ID")
	completeFlag(c, "network", o.live(networkNames))
	completeFlag(c, "host", o.live(hostNames))
}

func (c *client) listSubnets(ctx context.Context, network, host string) ([]*ovlv1.Subnet, error) {
	return collect(func(token string) ([]*ovlv1.Subnet, string, error) {
		r, err := c.subnets().ListSubnets(ctx, &ovlv1.ListSubnetsRequest{
			PageSize: pageSize, PageToken: token, Network: network, Host: host,
		})
		return r.GetSubnets(), r.GetNextPageToken(), err
	})
}
