package plan

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/ovlnet/ovl/internal/cluster"
	"github.com/ovlnet/ovl/internal/dataplane"
)

// direct returns the address by way of which a peer's subnet is routed without
// VXLAN: the network asks for that, and each of the two hosts has the other's
// address, of the subnet's family, on link. Both decide from the same two
// records, so alike as soon as both have read them.
func (p *planner) direct(n network, lease cluster.Lease, host cluster.Host) (via netip.Addr, ok bool) {
	mine, ok := p.underlayOf(dataplane.FamilyOf(lease.Prefix.Addr()))
	if !n.DirectRouting || !ok {
		return via, false
	}
	via, ok = host.UnderlayFor([]netip.Addr{mine})
	return via, ok && via != mine && covers(p.local.Underlay.OnLink, via) && covers(host.OnLink, mine)
}

// covers reports whether an address is in one of the prefixes.
func covers(prefixes []netip.Prefix, a netip.Addr) bool {
	return slices.ContainsFunc(prefixes, func(p netip.Prefix) bool { return p.Contains(a) })
}

// underlayOf returns this host's underlay address of a family.
func (p *planner) underlayOf(f dataplane.Family) (netip.Addr, bool) {
	i := slices.IndexFunc(p.local.Underlay.Addrs, func(a netip.Addr) bool { return dataplane.FamilyOf(a) == f })
	if i < 0 {
		return netip.Addr{}, false
	}
	return p.local.Underlay.Addrs[i], true
}

// directPeer emits the one row of a peer on the segment. Its neighbour entry is
// the kernel's own business, as that of any other neighbour there.
func (p *planner) directPeer(n network, lease cluster.Lease, via netip.Addr) {
	route := dataplane.Route{RouteKey: dataplane.RouteKey{Dst: lease.Prefix}, Link: p.local.Underlay.Link, Via: via, Src: n.gateway(via)}
	p.state.Routes[route.RouteKey] = route
}

// directPools emits, for each family in which peers may be routed directly, what
// keeps the rest of the network's range from the default route: there the same
// link would be taken as for a peer. It also makes the routes to this network's
// range those of its members alone, which [directRules] relies on.
func (p *planner) directPools(n network) {
	for _, pool := range n.Pools {
		if p.mayRoute(n, dataplane.FamilyOf(pool.Prefix.Addr())) && n.gateway(pool.Prefix.Addr()).IsValid() {
			p.add(dataplane.Route{RouteKey: dataplane.RouteKey{Dst: pool.Prefix}, Unreachable: true})
		}
	}
}

// mayRoute reports whether a peer of n may ever be routed directly in a family.
func (p *planner) mayRoute(n network, f dataplane.Family) bool {
	_, ok := p.underlayOf(f)
	return ok && n.DirectRouting && n.vxlan != ""
}

// directForwards let a network's traffic over the underlay's own link. They are
// there whether a peer is routed so or not: it may have decided a moment earlier.
func (p *planner) directForwards(f dataplane.Family, n pooled) []string {
	if !p.mayRoute(n.network, f) {
		return nil
	}
	var rules []string
	for _, b := range n.bridges() {
		rules = append(rules,
			fmt.Sprintf("-d %s -i %s -o %s -j ACCEPT", n.pool.Prefix, b, p.local.Underlay.Link),
			fmt.Sprintf("-s %s -i %s -o %s -j ACCEPT", n.pool.Prefix, p.local.Underlay.Link, b),
		)
	}
	return rules
}

// directDrops keep everybody else, containers of other networks or strangers who
// take this host for a router, from going that way.
func (p *planner) directDrops(f dataplane.Family, on []pooled) []string {
	var rules []string
	for _, n := range on {
		if p.mayRoute(n.network, f) {
			rules = append(rules, fmt.Sprintf("-d %s -o %s -j DROP", n.pool.Prefix, p.local.Underlay.Link))
		}
	}
	return rules
}

// directRules decide in the raw table what comes in by the underlay's link from a
// network's range: not from this host's own subnets, and not from what no member
// holds. The routing table is the set to look it up in: all of the range that no
// route of a member's subnet covers is unreachable there. By which link the
// answer would go does not matter (--loose), since the sender may have changed
// its mind first. What passes is left untracked, as by the tunnel.
func (p *planner) directRules(f dataplane.Family, n pooled) []string {
	if !p.mayRoute(n.network, f) {
		return nil
	}
	link := p.local.Underlay.Link
	var rules []string
	for _, own := range n.own {
		if dataplane.FamilyOf(own.Addr()) == f {
			rules = append(rules, fmt.Sprintf("-s %s -i %s -j DROP", own, link))
		}
	}
	return append(rules,
		fmt.Sprintf("-s %s -i %s -m rpfilter --loose --invert -j DROP", n.pool.Prefix, link),
		fmt.Sprintf("-s %s -d %[1]s -i %s -m addrtype ! --dst-type LOCAL -j CT --notrack", n.pool.Prefix, link),
	)
}
