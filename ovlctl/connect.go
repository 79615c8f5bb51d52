package main

import (
	"context"

	"github.com/spf13/cobra"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/ovlnet/ovl/internal/cluster"
	"github.com/ovlnet/ovl/internal/sandbox"
	ovlv1 "github.com/ovlnet/ovl/proto/ovl/v1"
)

func newConnectCommand(o *options) *cobra.Command {
	var ips, aliases []string
	var mac string
	c := &cobra.Command{
		Use:   "connect NETWORK CONTAINER",
		Short: "Put a running container on one more network",
		Long: `Puts a container of this host on one more network while it runs: it gets one
more interface. Its other networks lose no packet, and its default route stays
where it is, if it has one. Connecting again identically succeeds.`,
		Example: `  ovlctl connect red web
  ovlctl connect red web --ip 10.65.1.9 --alias db`,
		Args:              exactly("NETWORK", "CONTAINER"),
		ValidArgsFunction: o.completeEach(networkNames, containerNames),
		RunE: func(c *cobra.Command, args []string) error {
			if err := checkNetworkAndContainer("connect", args); err != nil {
				return err
			}
			i := &ovlv1.InterfaceRequest{Network: args[0]}
			for _, ip := range ips {
				if err := addIP(i, "--ip", ip); err != nil {
					return err
				}
			}
			if mac != "" {
				if err := setMAC(i, mac); err != nil {
					return err
				}
			}
			if err := addAliases(i, aliases); err != nil {
				return err
			}
			return o.onAgent(c.Context(), func(ctx context.Context, cl *client) error { return o.connect(ctx, cl, args[1], i) })
		},
	}
	fl := c.Flags()
	fl.StringArrayVar(&ips, "ip", nil, "address wanted, one of each family at most")
	fl.StringVar(&mac, "mac", "", "MAC wanted")
	fl.StringArrayVar(&aliases, "alias", nil, "another name on this network")
	return c
}

// connect asks the agent, and brings the files of a sandbox up to date.
func (o *options) connect(ctx context.Context, cl *client, name string, i *ovlv1.InterfaceRequest) error {
	what := "connect container " + name + " to network " + i.GetNetwork()
	if err := o.ownNetwork(what, name); err != nil {
		return err
	}
	a, err := cl.attachments().Connect(ctx, &ovlv1.ConnectRequest{Id: name, Interface: i})
	if s, ok := o.here(name); ok && status.Code(err) == codes.NotFound {
		var found bool
		if found, err = cl.attached(ctx, name); err == nil {
			a, err = o.connectFirst(ctx, cl, s, found, i)
		}
	}
	if err != nil {
		return cl.explain(what, err)
	}
	return o.refresh(ctx, cl, a)
}

// connectFirst connects a sandbox that the agent does not know, since it has
// been on no network so far. If it does know it, the network is what is missing,
// and the agent says so again.
func (o *options) connectFirst(ctx context.Context, cl *client, s sandbox.Sandbox, found bool, i *ovlv1.InterfaceRequest) (*ovlv1.Attachment, error) {
	if found {
		return cl.attachments().Connect(ctx, &ovlv1.ConnectRequest{Id: s.Name, Interface: i})
	}
	_, wish, err := s.Kept()
	if err != nil {
		return nil, err
	}
	return cl.attachments().Attach(ctx, &ovlv1.AttachRequest{
		Id: s.Name, Name: s.Name, Netns: s.NetNS(), Hostname: wish.Hostname, Interfaces: []*ovlv1.InterfaceRequest{i},
	})
}

// here returns the sandbox of that name, if there is one on this host; it may
// also be the name or ID of another runtime's container.
func (o *options) here(name string) (s sandbox.Sandbox, ok bool) {
	s, err := o.paths.Sandbox(name)
	return s, err == nil && s.Exists()
}

// ownNetwork returns an error if the container is a sandbox whose networks are
// not its own to change.
func (o *options) ownNetwork(what, name string) error {
	s, ok := o.here(name)
	if !ok {
		return nil
	}
	mode, _, err := s.Kept()
	if err != nil {
		return err
	}
	if other, shared := mode.Container(); shared {
		return codef(exitConflict, "%s: it shares the network of %s: connect or disconnect that", what, other)
	}
	if mode == sandbox.HostMode {
		return codef(exitConflict, "%s: it is on the host's network; run it anew on networks of its own", what)
	}
	return nil
}

// refresh brings the files of the sandbox of an attachment, and of those that
// share its network, up to date. What another runtime made has its own files.
func (o *options) refresh(ctx context.Context, cl *client, a *ovlv1.Attachment) error {
	s, ok := o.here(a.GetName())
	if !ok || s.NetNS() != a.GetNetns() {
		return nil
	}
	// Of several changes at a time the last to get here sees them all.
	unlock, err := s.Lock()
	if err != nil {
		return err
	}
	defer unlock()
	a, err = cl.attachments().GetAttachment(ctx, &ovlv1.GetAttachmentRequest{Id: a.GetId()})
	if err != nil {
		return cl.explain("update files of sandbox "+s.Name, err)
	}
	sharing, err := s.Sharing()
	if err != nil {
		return err
	}
	return each(append(sharing, s.Name), func(name string) error { return o.updateFiles(name, a.GetInterfaces()) })
}

func (o *options) updateFiles(name string, interfaces []*ovlv1.Interface) error {
	s, err := o.paths.Sandbox(name)
	if err != nil {
		return err
	}
	mode, wish, err := s.Kept()
	if err != nil {
		return err
	}
	f, err := filesOf(name, mode, wish, interfaces)
	if err != nil {
		return err
	}
	return s.UpdateFiles(f)
}

func checkNetworkAndContainer(verb string, args []string) error {
	if err := cluster.CheckName(args[0]); err != nil {
		return usagef("%s: network: %w", verb, err)
	}
	if args[1] == "" {
		return usagef("%s: CONTAINER is empty; see ovlctl ps", verb)
	}
	return nil
}

// containerNames are what ovlctl ps lists.
func containerNames(ctx context.Context, o *options) ([]string, error) {
	sandboxes, err := sandboxNames(ctx, o)
	if err != nil {
		return nil, err
	}
	attached, err := attachmentNames(ctx, o)
	return append(sandboxes, attached...), err
}

// completeEach completes each argument with names of its own kind.
func (o *options) completeEach(finds ...completer) cobra.CompletionFunc {
	return func(c *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
		if len(args) >= len(finds) {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return found(o.live(finds[len(args)])(c))
	}
}
