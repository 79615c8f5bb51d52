package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	ovlv1 "github.com/ovlnet/ovl/proto/ovl/v1"
)

func newNetworkRemove(o *options) *cobra.Command {
	var force bool
	c := &cobra.Command{
		Use:               "rm NAME...",
		Aliases:           []string{"remove", "delete"},
		Short:             "Remove networks",
		Example:           "  ovlctl network rm blue\n  ovlctl network rm blue red --yes",
		Args:              atLeastOne("NAME"),
		ValidArgsFunction: o.completeMany(networkNames),
		RunE: func(c *cobra.Command, args []string) error {
			if err := o.confirm("remove " + plural("network", args)); err != nil {
				return err
			}
			return o.onController(c.Context(), func(ctx context.Context, cl *client) error {
				return each(args, func(name string) error {
					_, err := cl.networks().DeleteNetwork(ctx, &ovlv1.DeleteNetworkRequest{Name: name, Force: force})
					if err != nil {
						return cl.explain("remove network "+name, err)
					}
					fmt.Fprintln(o.stdout, name)
					return nil
				})
			})
		},
	}
	c.Flags().BoolVarP(&force, "force", "f", false, "also while containers are on it")
	return c
}

func newNetworkPrune(o *options) *cobra.Command {
	return &cobra.Command{
		Use:               "prune",
		Short:             "Remove the networks that no container is on",
		Example:           "  ovlctl network prune --yes",
		Args:              exactly(),
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(c *cobra.Command, _ []string) error {
			var names []string
			if err := o.onController(c.Context(), func(ctx context.Context, cl *client) (err error) {
				names, err = cl.unusedNetworks(ctx)
				return cl.explain("list networks", err)
			}); err != nil {
				return err
			}
			if len(names) == 0 {
				o.say("no network is without containers")
				return nil
			}
			if err := o.confirm("remove " + plural("network", names)); err != nil {
				return err
			}
			return o.onController(c.Context(), func(ctx context.Context, cl *client) error {
				return each(names, func(name string) error { return o.prune(ctx, cl, name) })
			})
		},
	}
}

// prune removes a network that was unused a moment ago. That it has come into
// use, or is gone, since then is no failure.
func (o *options) prune(ctx context.Context, cl *client, name string) error {
	_, err := cl.networks().DeleteNetwork(ctx, &ovlv1.DeleteNetworkRequest{Name: name})
	switch status.Code(err) {
	case codes.OK:
		_, err = fmt.Fprintln(o.stdout, name)
		return err
	case codes.FailedPrecondition, codes.NotFound:
		return nil
	default:
		return cl.explain("remove network "+name, err)
	}
}

func (c *client) unusedNetworks(ctx context.Context) ([]string, error) {
	all, err := c.listNetworks(ctx)
	if err != nil {
		return nil, err
	}
	ends, err := c.listEndpoints(ctx, "", "")
	if err != nil {
		return nil, err
	}
	used := map[string]bool{}
	for _, e := range ends {
		used[e.GetNetwork()] = true
	}
	var names []string
	for _, n := range all {
		if !used[n.GetName()] {
			names = append(names, n.GetName())
		}
	}
	return names, nil
}

// each does the same for every name, whatever becomes of the others.
func each(names []string, do func(string) error) error {
	var errs []error
	for _, n := range names {
		errs = append(errs, do(n))
	}
	return errors.Join(errs...)
}

func plural(noun string, names []string) string {
	if len(names) > 1 {
		noun += "s"
	}
	return noun + " " + strings.Join(names, ", ")
}
