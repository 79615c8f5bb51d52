package main

import (
	"context"
	"errors"

	"github.com/spf13/cobra"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/ovlnet/ovl/internal/sandbox"
	ovlv1 "github.com/ovlnet/ovl/proto/ovl/v1"
)

const attachLong = `Puts a network namespace that somebody else has made on networks: that of an LXC
container, of systemd-nspawn, of a service, or one of ip netns. It gets interfaces,
addresses, routes, published ports, and a name by which others reach it.

The namespace is named by its path, by its name in ip netns, or by a process that
is in it. One named by a process is attached as long as that process lives; one that
is mounted at a path, also across restarts of the host, if it is there again then.
Attaching again identically succeeds.

Files are the owner's: nothing in /etc changes. --resolv-conf writes a file for the
container's /etc/resolv.conf, with which it finds others by name.`

const attachExample = `  ip netns add web && ovlctl attach --netns web --name web --network blue
  ovlctl attach --pid "$(lxc-info -pH -n db)" --name db --network blue --ip 10.64.3.9
  ovlctl attach --netns /run/netns/fw --name fw --network blue --network red,interface=lan -p 443:443`

func newAttachCommand(o *options) *cobra.Command {
	var f attachFlags
	c := &cobra.Command{
		Use:               "attach (--netns PATH | --pid N) --name NAME --network NETWORK [flags]",
		Short:             "Put a network namespace of another's on networks",
		Long:              attachLong,
		Example:           attachExample,
		Args:              exactly(),
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(c *cobra.Command, _ []string) error {
			want, err := f.request(o.paths)
			if err != nil {
				return err
			}
			if f.resolv != "" {
				if err := sandbox.MayWriteResolv(f.resolv); err != nil {
					return err
				}
			}
			return o.onAgent(c.Context(), func(ctx context.Context, cl *client) error {
				a, err := o.attach(ctx, cl, f.pid, want)
				if err != nil {
					return err
				}
				if f.resolv != "" {
					if err := writeResolv(f.resolv, a.GetInterfaces()); err != nil {
						return err
					}
				}
				return psView(nil).made(o, changed(c, "output"), a)
			})
		},
	}
	f.register(c, o)
	return c
}

// attach asks the agent, having found out what it cannot know.
func (o *options) attach(ctx context.Context, cl *client, pid int, want *ovlv1.AttachRequest) (*ovlv1.Attachment, error) {
	what := "attach " + want.GetName()
	if _, ok := o.here(want.GetName()); ok {
		return nil, codef(exitConflict, "%s: there is a sandbox of that name: put it on networks with ovlctl connect, or choose another name", what)
	}
	if !isThere(want.GetNetns()) {
		return nil, codef(exitNotFound, "%s: %s: there is no such network namespace; see ip netns, or name a process in it with --pid", what, want.GetNetns())
	}
	p, err := watchProcess(pid)
	if err != nil {
		return nil, codef(exitNotFound, "%s: %w", what, err)
	}
	defer p.close()
	a, err := cl.attachments().Attach(ctx, want)
	if err != nil {
		return nil, cl.explain(what, err)
	}
	if p.ended() {
		// What the agent found at its number may have been another's.
		err := codef(exitNotFound, "%s: process %d has ended meanwhile", what, pid)
		return nil, errors.Join(err, cl.explain(what+": undo", cl.detach(ctx, a.GetId())))
	}
	return a, nil
}

func writeResolv(path string, interfaces []*ovlv1.Interface) error {
	r, err := resolvOf("", sandbox.Wish{}, interfaces)
	if err != nil {
		return err
	}
	return r.Write(path)
}

func newDetachCommand(o *options) *cobra.Command {
	return &cobra.Command{
		Use:   "detach NAME...",
		Short: "Take network namespaces off their networks again",
		Long: `Takes what ovlctl attach has attached off its networks: interfaces, routes and
published ports go, the addresses and the name are free again. The namespace itself
stays, and may be gone already.`,
		Example:           "  ovlctl detach web\n  ovlctl detach web db",
		Args:              atLeastOne("NAME"),
		ValidArgsFunction: o.completeMany(attachmentNames),
		RunE: func(c *cobra.Command, args []string) error {
			return each(args, func(name string) error {
				return o.onAgent(c.Context(), func(ctx context.Context, cl *client) error { return o.detach(ctx, cl, name) })
			})
		},
	}
}

func (o *options) detach(ctx context.Context, cl *client, name string) error {
	if _, ok := o.here(name); ok {
		return codef(exitConflict, "detach %s: it is a sandbox: take it off a network with ovlctl disconnect, or remove it with ovlctl rm", name)
	}
	_, err := cl.attachments().Detach(ctx, &ovlv1.DetachRequest{Id: name})
	if status.Code(err) == codes.NotFound {
		return codef(exitNotFound, "detach %s: there is no such container on this host; see ovlctl ps", name)
	}
	if err != nil {
		return cl.explain("detach "+name, err)
	}
	return psView(nil).names(o, []*ovlv1.Attachment{{Name: name}})
}
