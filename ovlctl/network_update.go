package main

import (
	"context"

	"github.com/spf13/cobra"

	ovlv1 "github.com/ovlnet/ovl/proto/ovl/v1"
)

const networkUpdateExample = `  ovlctl network update blue --mtu 1400
  ovlctl network update blue --internal=false --no-masquerade
  ovlctl network update blue --label team=web`

func newNetworkUpdate(o *options) *cobra.Command {
	var (
		internal, masquerade, noMasquerade, nat66, services bool
		mtu                                                 uint32
		domain                                              string
		words                                               []string
		revision                                            int64
	)
	c := &cobra.Command{
		Use:               "update NAME",
		Short:             "Change a network",
		Long:              "Changes what the flags name and leaves the rest. --label replaces all labels.",
		Example:           networkUpdateExample,
		Args:              exactly("NAME"),
		ValidArgsFunction: o.completeOne(networkNames),
	}
	f := c.Flags()
	f.BoolVar(&internal, "internal", false, "no way out, and none in")
	f.BoolVar(&masquerade, "masquerade", false, "IPv4 to the outside gets the host's address")
	f.BoolVar(&noMasquerade, "no-masquerade", false, "IPv4 to the outside keeps the container's address")
	f.BoolVar(&nat66, "nat66", false, "IPv6 to the outside gets the host's address")
	f.BoolVar(&services, "services", false, "the hosts lead connections to its containers, as kube-proxy does: track them")
	f.Uint32Var(&mtu, "mtu", 0, "bytes (0: what the underlay allows)")
	f.StringVar(&domain, "dns-domain", "", "domain of the names on this network")
	f.StringArrayVar(&words, "label", nil, "label, KEY=VALUE; --label '' removes all")
	f.Int64Var(&revision, "revision", 0, "only if the network is still at this revision")
	c.MarkFlagsMutuallyExclusive("masquerade", "no-masquerade")
	c.RunE = func(c *cobra.Command, args []string) error {
		req := &ovlv1.UpdateNetworkRequest{Name: args[0], Revision: revision}
		if changed(c, "internal") {
			req.Internal = &internal
		}
		if changed(c, "masquerade") {
			req.Masquerade = &masquerade
		}
		if changed(c, "no-masquerade") {
			on := !noMasquerade
			req.Masquerade = &on
		}
		if changed(c, "nat66") {
			req.Nat66 = &nat66
		}
		if changed(c, "services") {
			req.Services = &services
		}
		if changed(c, "mtu") {
			req.Mtu = &mtu
		}
		if changed(c, "dns-domain") {
			req.DnsDomain = &domain
		}
		if err := setLabels(req, changed(c, "label"), words); err != nil {
			return err
		}
		if req.Internal == nil && req.Masquerade == nil && req.Nat66 == nil && req.Services == nil && req.Mtu == nil && req.DnsDomain == nil && !req.SetLabels {
			return usagef("update network %s: nothing to change; see ovlctl network update --help", args[0])
		}
		return o.onController(c.Context(), func(ctx context.Context, cl *client) error {
			n, err := cl.networks().UpdateNetwork(ctx, req)
			if err != nil {
				return cl.explain("update network "+args[0], err)
			}
			return networkView().made(o, changed(c, "output"), n)
		})
	}
	return c
}

func setLabels(req *ovlv1.UpdateNetworkRequest, given bool, words []string) error {
	if !given {
		return nil
	}
	req.SetLabels = true
	if len(words) == 1 && words[0] == "" {
		return nil
	}
	var err error
	req.Labels, err = parseLabels(words)
	return err
}
