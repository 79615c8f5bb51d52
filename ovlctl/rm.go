package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/ovlnet/ovl/internal/sandbox"
)

func newRmCommand(o *options) *cobra.Command {
	var force bool
	c := &cobra.Command{
		Use:   "rm [-f] NAME...",
		Short: "Remove sandboxes",
		Long: `Removes sandboxes: detaches them, gives their addresses back, and removes their
namespaces and files. One in which something runs, or whose network another
sandbox shares, is refused unless -f says to kill what runs in it.`,
		Example:           "  ovlctl rm web\n  ovlctl rm -f web db",
		Args:              atLeastOne("NAME"),
		ValidArgsFunction: o.completeMany(sandboxNames),
		RunE: func(c *cobra.Command, args []string) error {
			return each(args, func(name string) error {
				if err := o.remove(c.Context(), name, force); err != nil {
					return err
				}
				fmt.Fprintln(o.stdout, name)
				return nil
			})
		},
	}
	c.Flags().BoolVarP(&force, "force", "f", false, "kill what runs in it")
	return c
}

// remove removes one sandbox: what runs in it first, what it is called by last,
// so that one whose removal failed is still there to be removed.
func (o *options) remove(ctx context.Context, name string, force bool) error {
	s, err := o.paths.Sandbox(name)
	if err != nil {
		return usagef("remove sandbox: %w", err)
	}
	return o.onAgent(ctx, func(ctx context.Context, cl *client) error {
		if !s.Exists() {
			return cl.absent(ctx, name)
		}
		if err := notShared(s, force); err != nil {
			return err
		}
		if err := stop(ctx, s, force); err != nil {
			return err
		}
		if mode, _, err := s.Kept(); err == nil && mode != "" {
			return s.Remove() // the agent never heard of it
		}
		// Also of one that was on no network: the attachment may be a leftover.
		err := cl.detach(ctx, name)
		if force && status.Code(err) == codes.Unavailable {
			// Its interfaces die with the namespace; the agent sees that it is gone.
			o.say("sandbox %s: the agent does not answer; it will give the addresses back when it is up", name)
			err = nil
		}
		if err != nil {
			return cl.explain("remove sandbox "+name, err)
		}
		return s.Remove()
	})
}

// absent says why a sandbox that is not there cannot be removed.
func (c *client) absent(ctx context.Context, name string) error {
	if found, err := c.attached(ctx, name); err == nil && found {
		return codef(exitConflict, "remove sandbox %s: it is no sandbox of ovlctl run: its runtime removes it; what ovlctl attach attached, ovlctl detach detaches", name)
	}
	return codef(exitNotFound, "remove sandbox %s: there is none on this host; see ovlctl ps", name)
}

// notShared refuses to take away the network of other sandboxes. By force it is
// theirs to see that they have none.
func notShared(s sandbox.Sandbox, force bool) error {
	if force {
		return nil
	}
	sharing, err := s.Sharing()
	if err != nil {
		return err
	}
	if len(sharing) > 0 {
		return codef(exitConflict, "remove sandbox %s: %s shares its network; remove that first, or say -f", s.Name, sharing[0])
	}
	return nil
}

func stop(ctx context.Context, s sandbox.Sandbox, force bool) error {
	if force {
		return s.Stop(ctx)
	}
	pids, err := s.Processes()
	if err != nil {
		return err
	}
	if len(pids) > 0 {
		return codef(exitConflict, "remove sandbox %s: process %d runs in it; end it, or say -f", s.Name, pids[0])
	}
	return nil
}
