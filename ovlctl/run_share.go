package main

import (
	"cmp"
	"context"
	"errors"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/ovlnet/ovl/internal/sandbox"
	ovlv1 "github.com/ovlnet/ovl/proto/ovl/v1"
)

// findShared finds the network namespace that the sandbox is to share. One
// that shares another's leads to that one.
func (l *launcher) findShared(ctx context.Context) error {
	l.netns = sandbox.HostNetNS
	name, shared := l.spec.mode.Container()
	if !shared {
		return nil
	}
	if name == l.spec.name {
		return usagef("--network container:%s: that is itself", name)
	}
	s, err := l.o.paths.Sandbox(name)
	if err != nil {
		return usagef("--network container: %w", err)
	}
	mode, wish, err := s.Kept()
	if errors.Is(err, sandbox.ErrMissing) {
		return l.findForeign(ctx, name)
	}
	if err != nil {
		return err
	}
	if mode != "" {
		l.spec.mode = mode
		if err := l.findShared(ctx); err != nil {
			return err
		}
	} else {
		l.netns = s.NetNS()
	}
	l.joins = wish
	return nil
}

// findForeign finds the network namespace of another runtime's container.
func (l *launcher) findForeign(ctx context.Context, name string) error {
	a, err := l.agent.attachments().GetAttachment(ctx, &ovlv1.GetAttachmentRequest{Id: name})
	if status.Code(err) == codes.NotFound {
		return codef(exitNotFound, "there is no container %s on this host; see ovlctl ps", name)
	}
	l.netns = a.GetNetns()
	return l.agent.explain("ask for container "+name, err)
}

func (l *launcher) create() error {
	if l.netns == "" {
		return l.sandbox.Create()
	}
	return l.sandbox.Join(l.spec.mode, l.netns)
}

// wish is what the flags say of the files; of the resolver, what they leave
// open is as with the container whose network is shared.
func (l *launcher) wish() sandbox.Wish {
	w := l.spec.wish()
	if len(w.Servers) == 0 {
		w.Servers = l.joins.Servers
	}
	if len(w.Search) == 0 {
		w.Search = l.joins.Search
	}
	if len(w.Options) == 0 {
		w.Options = l.joins.Options
	}
	w.Hostname = cmp.Or(w.Hostname, l.spec.name)
	return w
}

// sharedInterfaces returns the interfaces that a sandbox of that mode shares. The
// host's are not the agent's.
func (c *client) sharedInterfaces(ctx context.Context, mode sandbox.Mode) ([]*ovlv1.Interface, error) {
	name, shared := mode.Container()
	if !shared {
		return nil, nil
	}
	a, err := c.attachments().GetAttachment(ctx, &ovlv1.GetAttachmentRequest{Id: name})
	if status.Code(err) == codes.NotFound {
		return nil, nil // it is on no network
	}
	return a.GetInterfaces(), c.explain("ask for container "+name, err)
}
