package plan

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/ovlnet/ovl/internal/cluster"
	"github.com/ovlnet/ovl/internal/dataplane"
)

// peers emits the rows that lead to the other hosts' subnets of a network.
func (p *planner) peers(n network) {
	var last netip.Prefix // of the accepted peers, which come sorted
	leases := p.snapshot.NetworkLeases(n.Name)
	p.state.Reserve(len(leases))
	p.state.ReserveElements(len(leases))
	for _, lease := range leases {
		if lease.Host == p.local.ID {
			continue
		}
		to, problem := p.peer(n, lease)
		if problem == "" && last.IsValid() && last.Overlaps(lease.Prefix) {
			problem = fmt.Sprintf("it overlaps %s of another host", last)
		}
		if problem == "" {
			problem = n.clash(lease.Prefix)
		}
		if problem != "" {
			p.fault(cluster.SeverityError, fmt.Sprintf("subnet %s of network %s", lease.Prefix, n.Name),
				fmt.Sprintf("no way to host %s: %s", lease.Host, problem), "see `ovlctl host ls` and `ovlctl subnet ls`")
			continue
		}
		last = lease.Prefix
		if !to.addr.IsValid() {
			continue
		}
		// Also of one that is routed directly: it may not know that yet.
		p.admit(n, lease, to.host)
		if to.direct {
			p.directPeer(n, lease, to.addr)
		} else {
			p.tunnelPeer(n, lease, to.addr)
		}
	}
}

// clash tells which subnet or static address of this host another's lease
// overlaps, or "".
func (n network) clash(other netip.Prefix) string {
	if n.static[other.Addr()] {
		return fmt.Sprintf("this host has %s", other.Addr())
	}
	for _, own := range n.own {
		if own.Overlaps(other) {
			return fmt.Sprintf("it overlaps %s of this host", own)
		}
	}
	return ""
}

// way is how a peer is reached.
type way struct {
	host   cluster.Host
	addr   netip.Addr // of its underlay; not valid = not at all, and no problem
	direct bool       // without the tunnel
}

// peer returns the way to the host that holds lease, or why it cannot be a peer.
// What comes out of the store may be anything.
func (p *planner) peer(n network, lease cluster.Lease) (to way, problem string) {
	pool, ok := n.Pool(lease.Prefix)
	if !ok {
		return to, "it is not in the network's subnets"
	}
	if !n.IsStatic(lease.Prefix) {
		if lease.Prefix.Bits() != pool.HostPrefix {
			return to, fmt.Sprintf("a host's subnet of %s has length /%d", pool.Prefix, pool.HostPrefix)
		}
		if static := n.StaticRange(pool); static.IsValid() && static.Overlaps(lease.Prefix) {
			return to, fmt.Sprintf("the static range %s has a part of it", static)
		}
	}
	if !n.gateway(lease.Prefix.Addr()).IsValid() {
		return to, "" // this host holds none of that family yet: no rows, no problem
	}
	host, ok := p.snapshot.Host(lease.Host)
	if !ok {
		return to, "the cluster has no such host"
	}
	if via, ok := p.direct(n, lease, host); ok {
		return way{host, via, true}, ""
	}
	addr, ok := host.UnderlayFor(p.local.Underlay.Addrs[:1])
	switch {
	case !ok:
		return to, fmt.Sprintf("it has no underlay address of the family of %s", p.local.Underlay.Addrs[0])
	case slices.Contains(p.local.Underlay.Addrs, addr):
		return to, fmt.Sprintf("it claims this host's underlay address %s", addr)
	case host.VXLANPort != p.local.Port:
		return to, fmt.Sprintf("it uses VXLAN port %d, this host %d", host.VXLANPort, p.local.Port)
	}
	return way{host, addr, false}, ""
}

// tunnelPeer emits the three rows of a peer behind VXLAN: the route to its
// subnet by way of the subnet's own network address (to a static address, by way
// of itself), where that address is (at the peer's VTEP MAC), and where that MAC
// is (at the peer's underlay address).
func (p *planner) tunnelPeer(n network, lease cluster.Lease, underlay netip.Addr) {
	via := lease.Prefix.Addr()
	mac := cluster.VTEPMAC(lease.Host, n.VNI)
	neigh := dataplane.Neigh{NeighKey: dataplane.NeighKey{Link: n.vxlan, IP: via}, MAC: mac}
	fdb := dataplane.FDB{FDBKey: dataplane.FDBKey{Link: n.vxlan, MAC: mac}, Dst: underlay}
	route := dataplane.Route{RouteKey: dataplane.RouteKey{Dst: lease.Prefix}, Link: n.vxlan, Via: via, OnLink: true, Src: n.gateway(via)}
	// Not by Add, which makes an interface value of each row: there may be
	// thousands.
	p.state.Neighs[neigh.NeighKey] = neigh
	p.state.FDB[fdb.FDBKey] = fdb
	p.state.Routes[route.RouteKey] = route
}
