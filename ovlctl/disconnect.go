package main

import (
	"context"

	"github.com/spf13/cobra"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	ovlv1 "github.com/ovlnet/ovl/proto/ovl/v1"
)

func newDisconnectCommand(o *options) *cobra.Command {
	return &cobra.Command{
		Use:   "disconnect NETWORK CONTAINER",
		Short: "Take a running container off a network",
		Long: `Takes a container of this host off a network while it runs. Its other networks
lose no packet. If its default route went through this network it moves to the
next one that is not internal. The last network may go too: then the container
is on none.`,
		Example:           "  ovlctl disconnect red web",
		Args:              exactly("NETWORK", "CONTAINER"),
		ValidArgsFunction: o.completeEach(networkNames, containerNames),
		RunE: func(c *cobra.Command, args []string) error {
			if err := checkNetworkAndContainer("disconnect", args); err != nil {
				return err
			}
			return o.onAgent(c.Context(), func(ctx context.Context, cl *client) error { return o.disconnect(ctx, cl, args[1], args[0]) })
		},
	}
}

func (o *options) disconnect(ctx context.Context, cl *client, name, network string) error {
	what := "disconnect container " + name + " from network " + network
	if err := o.ownNetwork(what, name); err != nil {
		return err
	}
	a, err := cl.attachments().Disconnect(ctx, &ovlv1.DisconnectRequest{Id: name, Network: network})
	if _, ok := o.here(name); ok && status.Code(err) == codes.NotFound {
		return codef(exitNotFound, "%s: it is not on this network; see ovlctl ps", what)
	}
	if err != nil {
		return cl.explain(what, err)
	}
	return o.refresh(ctx, cl, a)
}
