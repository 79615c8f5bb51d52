package main

import (
	"context"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	ovlv1 "github.com/ovlnet/ovl/proto/ovl/v1"
)

const networkCreateLong = `Makes a network. Making what already exists identically succeeds.

Without --subnet it gets the next free range of the default pool. Each host
that runs containers of the network takes a piece of that range, as large as
--host-prefix says.

With --driver bridge a network ends at each host. With --driver macvlan its
containers are on the physical segment of --parent, beside the hosts: --subnet
is that of the segment, and hosts take their pieces of --ip-range. Unless
--host-prefix says otherwise a piece is a sixteenth of the range, but not smaller
than a /28 nor larger than a /24; in IPv6 it is 16 bits longer than the range.`

const networkCreateExample = `  ovlctl network create blue
  ovlctl network create blue --subnet 10.64.0.0/16 --host-prefix 24
  ovlctl network create both --subnet 10.65.0.0/16 --subnet fd65::/48
  ovlctl network create db --subnet 10.66.0.0/16 --static-range 10.66.255.0/24
  ovlctl network create vault --internal --label team=db
  ovlctl network create cache --driver bridge
  ovlctl network create lan --driver macvlan --parent eth1 --subnet 192.168.1.0/24 \
      --gateway 192.168.1.254 --ip-range 192.168.1.128/26`

// networkFlags are the flags of create, as typed.
type networkFlags struct {
	driver       string
	noMasquerade bool
	labels       []string
	hostPrefixes []uint
	request      ovlv1.CreateNetworkRequest
}

func newNetworkCreate(o *options) *cobra.Command {
	var f networkFlags
	c := &cobra.Command{
		Use:               "create NAME",
		Short:             "Make a network",
		Long:              networkCreateLong,
		Example:           networkCreateExample,
		Args:              exactly("NAME"),
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(c *cobra.Command, args []string) error {
			req, err := f.build(args[0])
			if err != nil {
				return err
			}
			return o.onController(c.Context(), func(ctx context.Context, cl *client) error {
				n, err := cl.networks().CreateNetwork(ctx, req)
				if err != nil {
					return cl.explain("create network "+args[0], err)
				}
				return networkView().made(o, changed(c, "output"), n)
			})
		},
	}
	f.register(c)
	return c
}

func (f *networkFlags) register(c *cobra.Command) {
	r, fl := &f.request, c.Flags()
	fl.StringArrayVar(&r.Subnets, "subnet", nil, "address range in CIDR notation, one of each family at most")
	fl.UintSliceVar(&f.hostPrefixes, "host-prefix", nil, "length of the piece that a host takes, for each --subnet (24, or 64 for IPv6; macvlan: see above)")
	fl.Lookup("host-prefix").DefValue = "" // pflag would show it as []
	fl.StringVar(&f.driver, "driver", ovlv1.Driver_overlay.String(), "overlay, bridge or macvlan")
	fl.BoolVar(&r.Internal, "internal", false, "no way out, and none in")
	fl.BoolVar(&f.noMasquerade, "no-masquerade", false, "IPv4 to the outside keeps the container's address")
	fl.BoolVar(&r.Nat66, "nat66", false, "IPv6 to the outside gets the host's address")
	fl.BoolVar(&r.DirectRouting, "direct-routing", false, "hosts on the same segment route without VXLAN")
	fl.BoolVar(&r.Services, "services", false, "the hosts lead connections to its containers, as kube-proxy does: track them")
	fl.Uint32Var(&r.Mtu, "mtu", 0, "bytes (0: what the underlay allows)")
	fl.Uint32Var(&r.Vni, "vni", 0, "VXLAN network identifier (0: the next free one)")
	fl.StringArrayVar(&r.StaticRanges, "static-range", nil, "part of a --subnet for addresses that move between hosts, one in each at most")
	fl.StringVar(&r.DnsDomain, "dns-domain", "", "domain of the names on this network")
	fl.StringVar(&r.Parent, "parent", "", "macvlan: interface of the physical segment, such as eth1, or eth1.100 for its VLAN 100")
	fl.StringArrayVar(&r.Gateways, "gateway", nil, "macvlan: gateway of the segment, one of each family at most (the first address)")
	fl.StringArrayVar(&r.IpRanges, "ip-range", nil, "macvlan: part of a --subnet that is for containers, one of each family at most (all of it)")
	fl.StringArrayVar(&f.labels, "label", nil, "label, KEY=VALUE")
	fixed(c, "driver", slices.Collect(driverNames)...)
}

func (f *networkFlags) build(name string) (*ovlv1.CreateNetworkRequest, error) {
	r := &f.request
	r.Name = name
	d, ok := ovlv1.Driver_value[f.driver]
	if !ok || d == 0 {
		return nil, usagef("--driver %q: want one of %s", f.driver, strings.Join(slices.Collect(driverNames), ", "))
	}
	r.Driver = ovlv1.Driver(d)
	for _, p := range f.hostPrefixes {
		if p > 128 {
			return nil, usagef("--host-prefix %d: want at most 128", p)
		}
		r.HostPrefixes = append(r.HostPrefixes, uint32(p))
	}
	if len(r.HostPrefixes) > max(1, len(r.Subnets)) {
		return nil, usagef("--host-prefix: %d given for %d of --subnet", len(r.HostPrefixes), len(r.Subnets))
	}
	if f.noMasquerade {
		r.Masquerade = new(bool)
	}
	var err error
	r.Labels, err = parseLabels(f.labels)
	return r, err
}

// driverNames yields what --driver takes, in the order of the enum.
func driverNames(yield func(string) bool) {
	for _, n := range slices.Sorted(maps.Keys(ovlv1.Driver_name)) {
		if n != 0 && !yield(ovlv1.Driver_name[n]) {
			return
		}
	}
}

// parseLabels turns KEY=VALUE words into a map; the same key twice is a
// mistake worth telling.
func parseLabels(words []string) (map[string]string, error) {
	m := map[string]string{}
	for _, w := range words {
		k, v, ok := strings.Cut(w, "=")
		if !ok || k == "" {
			return nil, usagef("--label %q: want KEY=VALUE", w)
		}
		if _, twice := m[k]; twice {
			return nil, usagef("--label %q: %s is given twice", w, k)
		}
		m[k] = v
	}
	return m, nil
}
