package plan

import (
	"net/netip"
	"slices"

	"github.com/ovlnet/ovl/internal/cluster"
	"github.com/ovlnet/ovl/internal/dataplane"
	"github.com/ovlnet/ovl/internal/ipam"
)

// ways emits what leads from this host to an interface's addresses: where each is,
// and the route to a static one. The neighbour is a row, not left to the kernel to find
// out. It would ask all ports of the bridge; and when an address comes back with a
// container of another MAC, an entry of the last one would be in the way until it is
// found to be stale.
//
// The rows hang on the container and not on the lease, so that a host which gives
// an address back has lost the way to it before another can have it.
func (p *planner) ways(n network, itf cluster.Interface) {
	bridge := BridgeName(n.VNI, itf.Segment)
	for _, a := range itf.Addrs {
		p.add(dataplane.Neigh{NeighKey: dataplane.NeighKey{Link: bridge, IP: a.Addr()}, MAC: itf.MAC})
		if a.IsSingleIP() {
			p.add(dataplane.Route{RouteKey: dataplane.RouteKey{Dst: a}, Link: bridge, Src: ipam.Gateway(itf.SubnetFor(a))})
		}
	}
}

// sources returns the prefixes from which this host's containers send: its
// subnets and, as one, the static range of which it has addresses.
func (n pooled) sources() []netip.Prefix {
	var out []netip.Prefix
	for _, own := range n.own {
		if n.pool.Prefix.Overlaps(own) {
			out = append(out, own)
		}
	}
	if n.hasStatic() {
		out = append(out, n.StaticRange(n.pool))
	}
	return out
}

// hasStatic reports whether this host has static addresses of the pool.
func (n pooled) hasStatic() bool {
	for a := range n.static {
		if n.pool.Prefix.Contains(a) {
			return true
		}
	}
	return false
}

// redirectRules keep this host from telling a container that it could reach
// another on its bridge without the gateway, where one forwards between two:
// containers believe it for minutes (ip_rt_gc_timeout), and would send to
// the bridge what has moved to another host meanwhile. A sysctl would not do:
// send_redirects of a link counts only if that of all links is off, too
// (IN_DEV_TX_REDIRECTS), and IPv6 has none.
func redirectRules(f dataplane.Family, on []pooled) []string {
	if !slices.ContainsFunc(on, func(n pooled) bool { return len(n.sources()) > 1 }) {
		return nil
	}
	if f == dataplane.IPv6 {
		return []string{"-o ovb+ -p ipv6-icmp -m icmp6 --icmpv6-type 137 -j DROP"}
	}
	return []string{"-o ovb+ -p icmp -m icmp --icmp-type 5 -j DROP"}
}
