package main

import (
	"context"

	"github.com/spf13/cobra"

	ovlv1 "github.com/ovlnet/ovl/proto/ovl/v1"
)

func newEndpointCommand(o *options) *cobra.Command {
	return newNounCommand("endpoint", "Show who is on the networks, on all hosts", []string{"endpoints", "ep"},
		newEndpointList(o), newEndpointInspect(o))
}

func endpointView() view[*ovlv1.Endpoint] {
	return view[*ovlv1.Endpoint]{
		name: (*ovlv1.Endpoint).GetName,
		columns: []column[*ovlv1.Endpoint]{
			{title: "NAME", cell: (*ovlv1.Endpoint).GetName},
			{title: "NETWORK", cell: (*ovlv1.Endpoint).GetNetwork},
			{title: "HOST", cell: (*ovlv1.Endpoint).GetHost},
			{title: "ADDRESSES", cell: func(e *ovlv1.Endpoint) string { return list(e.GetAddresses()) }},
			{title: "MAC", cell: (*ovlv1.Endpoint).GetMac},
			{title: "ALIASES", wide: true, cell: func(e *ovlv1.Endpoint) string { return list(e.GetAliases()) }},
			{title: "LABELS", wide: true, cell: func(e *ovlv1.Endpoint) string { return labels(e.GetLabels()) }},
			{title: "ID", wide: true, cell: (*ovlv1.Endpoint).GetId},
			{title: "HOST-ID", wide: true, cell: (*ovlv1.Endpoint).GetHostId},
		},
	}
}

func newEndpointList(o *options) *cobra.Command {
	var network, host string
	c := &cobra.Command{
		Use:               "ls",
		Aliases:           []string{"list"},
		Short:             "List the containers on the networks",
		Example:           "  ovlctl endpoint ls --network blue\n  ovlctl endpoint ls --host h1 -o name",
		Args:              exactly(),
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(c *cobra.Command, _ []string) error {
			return o.onController(c.Context(), func(ctx context.Context, cl *client) error {
				all, err := cl.listEndpoints(ctx, network, host)
				if err != nil {
					return cl.explain("list endpoints", err)
				}
				return endpointView().list(o, all)
			})
		},
	}
	addFilters(c, o, &network, &host)
	return c
}

func newEndpointInspect(o *options) *cobra.Command {
	var network string
	c := &cobra.Command{
		Use:     "inspect ID|NAME|IP|MAC",
		Aliases: []string{"show"},
		Short:   "Show the endpoints of that ID, name, address or MAC",
		Long: `Shows the endpoints of that ID, name, address or MAC. One name can stand on
several networks, so JSON and YAML are an array.`,
		Example:           "  ovlctl endpoint inspect web\n  ovlctl endpoint inspect 10.64.3.2 -o json",
		Args:              exactly("ID|NAME|IP|MAC"),
		ValidArgsFunction: o.completeOne(endpointNames),
		RunE: func(c *cobra.Command, args []string) error {
			return o.onController(c.Context(), func(ctx context.Context, cl *client) error {
				r, err := cl.endpoints().GetEndpoint(ctx, &ovlv1.GetEndpointRequest{Query: args[0], Network: network})
				if err != nil {
					return cl.explain("show endpoint "+args[0], err)
				}
				return endpointView().each(o, r.GetEndpoints())
			})
		},
	}
	c.Flags().StringVar(&network, "network", "", "only on this network")
	completeFlag(c, "network", o.live(networkNames))
	return c
}

func (c *client) listEndpoints(ctx context.Context, network, host string) ([]*ovlv1.Endpoint, error) {
	return collect(func(token string) ([]*ovlv1.Endpoint, string, error) {
		r, err := c.endpoints().ListEndpoints(ctx, &ovlv1.ListEndpointsRequest{
			PageSize: pageSize, PageToken: token, Network: network, Host: host,
		})
		return r.GetEndpoints(), r.GetNextPageToken(), err
	})
}
