package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	ovlv1 "github.com/ovlnet/ovl/proto/ovl/v1"
)

func newHostCommand(o *options) *cobra.Command {
	return newNounCommand("host", "Show, drain and forget hosts", []string{"hosts"},
		newHostList(o), newHostInspect(o), newHostDrain(o), newHostRemove(o))
}

func hostView(o *options) view[*ovlv1.Host] {
	return view[*ovlv1.Host]{
		name: (*ovlv1.Host).GetName,
		columns: []column[*ovlv1.Host]{
			{title: "NAME", cell: (*ovlv1.Host).GetName},
			{title: "ID", cell: (*ovlv1.Host).GetId},
			{title: "UNDERLAY", cell: func(h *ovlv1.Host) string { return list(h.GetUnderlay()) }},
			{title: "STATE", cell: (*ovlv1.Host).GetState},
			{title: "SUBNETS", cell: func(h *ovlv1.Host) string { return number(h.GetSubnets()) }},
			{title: "ENDPOINTS", cell: func(h *ovlv1.Host) string { return number(h.GetEndpoints()) }},
			{title: "VERSION", cell: (*ovlv1.Host).GetVersion},
			{title: "UP", wide: true, cell: func(h *ovlv1.Host) string { return o.since(h.GetStarted()) }},
			{title: "VXLAN-PORT", wide: true, cell: func(h *ovlv1.Host) string { return number(h.GetVxlanPort()) }},
			{title: "REVISION", wide: true, cell: func(h *ovlv1.Host) string { return number(h.GetAppliedRevision()) }},
			{title: "PROBLEMS", wide: true, cell: func(h *ovlv1.Host) string { return problemsLine(h.GetProblems()) }},
		},
	}
}

func newHostList(o *options) *cobra.Command {
	return &cobra.Command{
		Use:               "ls",
		Aliases:           []string{"list"},
		Short:             "List hosts",
		Example:           "  ovlctl host ls -o wide",
		Args:              exactly(),
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(c *cobra.Command, _ []string) error {
			return o.onController(c.Context(), func(ctx context.Context, cl *client) error {
				all, err := cl.listHosts(ctx)
				if err != nil {
					return cl.explain("list hosts", err)
				}
				return hostView(o).list(o, all)
			})
		},
	}
}

func newHostInspect(o *options) *cobra.Command {
	return &cobra.Command{
		Use:               "inspect NAME",
		Aliases:           []string{"show"},
		Short:             "Show a host",
		Example:           "  ovlctl host inspect h1",
		Args:              exactly("NAME"),
		ValidArgsFunction: o.completeOne(hostNames),
		RunE: func(c *cobra.Command, args []string) error {
			return o.onController(c.Context(), func(ctx context.Context, cl *client) error {
				h, err := cl.hosts().GetHost(ctx, &ovlv1.GetHostRequest{Name: args[0]})
				if err != nil {
					return cl.explain("show host "+args[0], err)
				}
				return hostView(o).one(o, h)
			})
		},
	}
}

func newHostDrain(o *options) *cobra.Command {
	var undo bool
	c := &cobra.Command{
		Use:   "drain NAME",
		Short: "Make a host take no new containers",
		Long: `Makes a host take no new containers. Those that run there go on; when the last one
on a subnet goes, the host gives the subnet back.`,
		Example:           "  ovlctl host drain h1\n  ovlctl host drain h1 --undo",
		Args:              exactly("NAME"),
		ValidArgsFunction: o.completeOne(hostNames),
		RunE: func(c *cobra.Command, args []string) error {
			return o.onController(c.Context(), func(ctx context.Context, cl *client) error {
				h, err := cl.hosts().DrainHost(ctx, &ovlv1.DrainHostRequest{Name: args[0], Undo: undo})
				if err != nil {
					return cl.explain("drain host "+args[0], err)
				}
				return hostView(o).made(o, changed(c, "output"), h)
			})
		},
	}
	c.Flags().BoolVar(&undo, "undo", false, "let it take containers again")
	return c
}

func newHostRemove(o *options) *cobra.Command {
	var force bool
	c := &cobra.Command{
		Use:               "rm NAME",
		Aliases:           []string{"remove", "delete"},
		Short:             "Forget a host with its subnets and endpoints",
		Example:           "  ovlctl host rm h3 --yes",
		Args:              exactly("NAME"),
		ValidArgsFunction: o.completeOne(hostNames),
		RunE: func(c *cobra.Command, args []string) error {
			if err := o.confirm("remove host " + args[0]); err != nil {
				return err
			}
			return o.onController(c.Context(), func(ctx context.Context, cl *client) error {
				_, err := cl.hosts().DeleteHost(ctx, &ovlv1.DeleteHostRequest{Name: args[0], Force: force})
				if err != nil {
					return cl.explain("remove host "+args[0], err)
				}
				fmt.Fprintln(o.stdout, args[0])
				return nil
			})
		},
	}
	c.Flags().BoolVarP(&force, "force", "f", false, "also while its agent is up")
	return c
}

func (c *client) listHosts(ctx context.Context) ([]*ovlv1.Host, error) {
	return collect(func(token string) ([]*ovlv1.Host, string, error) {
		r, err := c.hosts().ListHosts(ctx, &ovlv1.ListHostsRequest{PageSize: pageSize, PageToken: token})
		return r.GetHosts(), r.GetNextPageToken(), err
	})
}
