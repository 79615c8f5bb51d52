package main

import (
	"context"

	"github.com/spf13/cobra"

	ovlv1 "github.com/ovlnet/ovl/proto/ovl/v1"
)

func whoisView() view[*ovlv1.WhoisMatch] {
	return view[*ovlv1.WhoisMatch]{
		name: func(m *ovlv1.WhoisMatch) string {
			return first(m.GetContainer(), m.GetInterface(), m.GetSubnet(), m.GetHost())
		},
		columns: []column[*ovlv1.WhoisMatch]{
			{title: "KIND", cell: (*ovlv1.WhoisMatch).GetKind},
			{title: "HOST", cell: (*ovlv1.WhoisMatch).GetHost},
			{title: "NETWORK", cell: (*ovlv1.WhoisMatch).GetNetwork},
			{title: "CONTAINER", cell: (*ovlv1.WhoisMatch).GetContainer},
			{title: "INTERFACE", cell: (*ovlv1.WhoisMatch).GetInterface},
			{title: "HOST-LINK", cell: (*ovlv1.WhoisMatch).GetHostLink},
			{title: "ADDRESSES", cell: func(m *ovlv1.WhoisMatch) string { return list(m.GetAddresses()) }},
			{title: "MAC", cell: (*ovlv1.WhoisMatch).GetMac},
			{title: "NETNS", wide: true, cell: (*ovlv1.WhoisMatch).GetNetns},
			{title: "BRIDGE", wide: true, cell: (*ovlv1.WhoisMatch).GetBridge},
			{title: "VXLAN", wide: true, cell: (*ovlv1.WhoisMatch).GetVxlan},
			{title: "SUBNET", wide: true, cell: (*ovlv1.WhoisMatch).GetSubnet},
			{title: "UNDERLAY", wide: true, cell: (*ovlv1.WhoisMatch).GetUnderlay},
		},
	}
}

func newWhoisCommand(o *options) *cobra.Command {
	return &cobra.Command{
		Use:   "whois VETH|IP|MAC|CONTAINER",
		Short: "Tell which veth, container, namespace, network and host belong together",
		Example: `  ovlctl whois ove1a2b3c4d5e6
  ovlctl whois 10.64.3.2 -o wide
  ovlctl whois web -o json`,
		Args:              exactly("VETH|IP|MAC|CONTAINER"),
		ValidArgsFunction: o.completeOne(attachmentNames),
		RunE: func(c *cobra.Command, args []string) error {
			return o.onAgent(c.Context(), func(ctx context.Context, cl *client) error {
				r, err := cl.agent().Whois(ctx, &ovlv1.WhoisRequest{Query: args[0]})
				if err != nil {
					return cl.explain("whois "+args[0], err)
				}
				if len(r.GetMatches()) == 0 {
					return codef(exitNotFound, "whois %s: nothing on this host knows it; try ovlctl endpoint inspect %s", args[0], args[0])
				}
				return whoisView().list(o, r.GetMatches())
			})
		},
	}
}
