package main

import (
	"context"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	ovlv1 "github.com/ovlnet/ovl/proto/ovl/v1"
)

func newNetworkCommand(o *options) *cobra.Command {
	return newNounCommand("network", "Make, show and remove networks", []string{"net", "networks"},
		newNetworkCreate(o), newNetworkList(o), newNetworkInspect(o),
		newNetworkUpdate(o), newNetworkRemove(o), newNetworkPrune(o))
}

func networkView() view[*ovlv1.Network] {
	return view[*ovlv1.Network]{
		name: (*ovlv1.Network).GetName,
		columns: []column[*ovlv1.Network]{
			{title: "NAME", cell: (*ovlv1.Network).GetName},
			{title: "DRIVER", cell: func(n *ovlv1.Network) string { return n.GetDriver().String() }},
			{title: "VNI", cell: func(n *ovlv1.Network) string { return number(n.GetVni()) }},
			{title: "SUBNETS", cell: func(n *ovlv1.Network) string { return list(n.GetSubnets()) }},
			{title: "HOST-PREFIX", cell: hostPrefixes},
			{title: "OUTSIDE", cell: outside},
			{title: "MTU", wide: true, cell: networkMTU},
			{title: "NAT66", wide: true, cell: func(n *ovlv1.Network) string { return yesNo(n.GetNat66()) }},
			{title: "DIRECT-ROUTING", wide: true, cell: func(n *ovlv1.Network) string { return yesNo(n.GetDirectRouting()) }},
			{title: "SERVICES", wide: true, cell: func(n *ovlv1.Network) string { return yesNo(n.GetServices()) }},
			{title: "STATIC-RANGE", wide: true, cell: func(n *ovlv1.Network) string { return list(n.GetStaticRanges()) }},
			{title: "DNS-DOMAIN", wide: true, cell: (*ovlv1.Network).GetDnsDomain},
			{title: "PARENT", wide: true, cell: (*ovlv1.Network).GetParent},
			{title: "GATEWAYS", wide: true, cell: func(n *ovlv1.Network) string { return list(n.GetGateways()) }},
			{title: "IP-RANGES", wide: true, cell: func(n *ovlv1.Network) string { return list(n.GetIpRanges()) }},
			{title: "LABELS", wide: true, cell: func(n *ovlv1.Network) string { return labels(n.GetLabels()) }},
			{title: "CREATED", wide: true, cell: func(n *ovlv1.Network) string { return when(n.GetCreated()) }},
		},
	}
}

func hostPrefixes(n *ovlv1.Network) string {
	var out []string
	for _, p := range n.GetHostPrefixes() {
		out = append(out, "/"+number(p))
	}
	return strings.Join(out, ",")
}

// outside says how traffic leaves the network, for each family in which it
// differs.
func outside(n *ovlv1.Network) string {
	switch {
	case n.GetInternal():
		return "none"
	case n.GetDriver() == ovlv1.Driver_macvlan:
		return "segment" // past the host
	}
	var ways []string
	for _, s := range n.GetSubnets() {
		way := "routed"
		switch six := strings.Contains(s, ":"); {
		case six && n.GetNat66():
			way = "nat66"
		case !six && n.GetMasquerade():
			way = "masquerade"
		}
		if !slices.Contains(ways, way) {
			ways = append(ways, way)
		}
	}
	return list(ways)
}

func networkMTU(n *ovlv1.Network) string {
	if n.GetMtu() == 0 {
		return "auto"
	}
	return number(n.GetMtu())
}

func newNetworkList(o *options) *cobra.Command {
	return &cobra.Command{
		Use:               "ls",
		Aliases:           []string{"list"},
		Short:             "List networks",
		Example:           "  ovlctl network ls\n  ovlctl network ls -o json",
		Args:              exactly(),
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(c *cobra.Command, _ []string) error {
			return o.onController(c.Context(), func(ctx context.Context, cl *client) error {
				all, err := cl.listNetworks(ctx)
				if err != nil {
					return cl.explain("list networks", err)
				}
				return networkView().list(o, all)
			})
		},
	}
}

func newNetworkInspect(o *options) *cobra.Command {
	return &cobra.Command{
		Use:               "inspect NAME",
		Aliases:           []string{"show"},
		Short:             "Show a network",
		Example:           "  ovlctl network inspect blue -o yaml",
		Args:              exactly("NAME"),
		ValidArgsFunction: o.completeOne(networkNames),
		RunE: func(c *cobra.Command, args []string) error {
			return o.onController(c.Context(), func(ctx context.Context, cl *client) error {
				n, err := cl.networks().GetNetwork(ctx, &ovlv1.GetNetworkRequest{Name: args[0]})
				if err != nil {
					return cl.explain("show network "+args[0], err)
				}
				return networkView().one(o, n)
			})
		},
	}
}

func (c *client) listNetworks(ctx context.Context) ([]*ovlv1.Network, error) {
	return collect(func(token string) ([]*ovlv1.Network, string, error) {
		r, err := c.networks().ListNetworks(ctx, &ovlv1.ListNetworksRequest{PageSize: pageSize, PageToken: token})
		return r.GetNetworks(), r.GetNextPageToken(), err
	})
}
