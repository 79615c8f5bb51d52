package wire

import (
	"fmt"
	"slices"

	"github.com/ovlnet/ovl/internal/cluster"
	ovlv1 "github.com/ovlnet/ovl/proto/ovl/v1"
)

var drivers = map[ovlv1.Driver]cluster.Driver{
	ovlv1.Driver_overlay: cluster.DriverOverlay,
	ovlv1.Driver_bridge:  cluster.DriverBridge,
	ovlv1.Driver_macvlan: cluster.DriverMacvlan,
}

// Driver returns the message's spelling of d; DRIVER_UNSPECIFIED for one that
// this version does not know.
func Driver(d cluster.Driver) ovlv1.Driver {
	for p, c := range drivers {
		if c == d {
			return p
		}
	}
	return ovlv1.Driver_DRIVER_UNSPECIFIED
}

// ParseDriver returns the driver that p names. Unspecified means overlay, as
// the .proto file says.
func ParseDriver(p ovlv1.Driver) (cluster.Driver, error) {
	if p == ovlv1.Driver_DRIVER_UNSPECIFIED {
		return cluster.DriverOverlay, nil
	}
	d, ok := drivers[p]
	if !ok {
		return "", fmt.Errorf("parse driver %d: unknown to this version", int32(p))
	}
	return d, nil
}

// Network returns n as a message.
func Network(n cluster.Network) *ovlv1.Network {
	p := &ovlv1.Network{
		Name: n.Name, Vni: uint32(n.VNI), Driver: Driver(n.Driver),
		Internal: n.Internal, Masquerade: n.Masquerade, Nat66: n.NAT66, DirectRouting: n.DirectRouting, Services: n.Services,
		Mtu: unsigned(n.MTU), StaticRanges: prefixTexts(n.StaticRanges),
		DnsDomain: n.DNSDomain, Parent: n.Parent, Labels: labels(n.Labels),
		Created: timestamp(n.Created), Revision: n.Revision,
	}
	for _, pool := range n.Pools {
		p.Subnets = append(p.Subnets, pool.Prefix.String())
		p.HostPrefixes = append(p.HostPrefixes, unsigned(pool.HostPrefix))
		if pool.Gateway.IsValid() {
			p.Gateways = append(p.Gateways, pool.Gateway.String())
		}
		if pool.Range.IsValid() {
			p.IpRanges = append(p.IpRanges, pool.Range.String())
		}
	}
	return p
}

// ParseNetwork returns the fact in p. The message does not carry the revision
// of creation, so the result has none.
func ParseNetwork(p *ovlv1.Network) (cluster.Network, error) {
	fail := func(err error) (cluster.Network, error) {
		return cluster.Network{}, fmt.Errorf("parse network %q: %w", p.GetName(), err)
	}
	driver, err := ParseDriver(p.GetDriver())
	if err != nil {
		return fail(err)
	}
	pools, err := parsePools(p.GetSubnets(), p.GetHostPrefixes())
	if err != nil {
		return fail(err)
	}
	if err := parseSegment(pools, p); err != nil {
		return fail(err)
	}
	static, err := parsePrefixes(p.GetStaticRanges())
	if err != nil {
		return fail(err)
	}
	return cluster.Network{
		Name: p.GetName(), VNI: cluster.VNI(p.GetVni()), Driver: driver, Pools: pools,
		Internal: p.GetInternal(), Masquerade: p.GetMasquerade(), NAT66: p.GetNat66(), DirectRouting: p.GetDirectRouting(), Services: p.GetServices(),
		MTU: int(p.GetMtu()), StaticRanges: static,
		DNSDomain: p.GetDnsDomain(), Parent: p.GetParent(), Labels: labels(p.GetLabels()),
		Created: parseTimestamp(p.GetCreated()), Revision: p.GetRevision(),
	}, nil
}

func parsePools(subnets []string, lengths []uint32) ([]cluster.Pool, error) {
	if len(subnets) != len(lengths) {
		return nil, fmt.Errorf("%d subnets with %d host prefixes: want one for each", len(subnets), len(lengths))
	}
	var pools []cluster.Pool
	for i, s := range subnets {
		p, err := parsePrefix(s)
		if err != nil {
			return nil, err
		}
		if lengths[i] > uint32(p.Addr().BitLen()) {
			return nil, fmt.Errorf("host prefix /%d of %s: beyond its family", lengths[i], p)
		}
		pools = append(pools, cluster.Pool{Prefix: p, HostPrefix: int(lengths[i])})
	}
	return pools, nil
}

// parseSegment puts what a macvlan network says of its segment into the pools.
func parseSegment(pools []cluster.Pool, p *ovlv1.Network) error {
	gateways, err := parseAddrs(p.GetGateways())
	if err != nil {
		return err
	}
	ranges, err := parsePrefixes(p.GetIpRanges())
	if err != nil {
		return err
	}
	for _, a := range gateways {
		at := slices.IndexFunc(pools, func(pool cluster.Pool) bool { return pool.Prefix.Contains(a) })
		if at < 0 || pools[at].Gateway.IsValid() {
			return fmt.Errorf("gateway %s: want one in each subnet", a)
		}
		pools[at].Gateway = a
	}
	for _, r := range ranges {
		at := slices.IndexFunc(pools, func(pool cluster.Pool) bool { return pool.Prefix.Overlaps(r) })
		if at < 0 || pools[at].Range.IsValid() {
			return fmt.Errorf("range %s: want one in each subnet", r)
		}
		pools[at].Range = r
	}
	return nil
}
