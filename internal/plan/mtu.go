package plan

import (
	"fmt"
	"slices"

	"github.com/ovlnet/ovl/internal/cluster"
)

// The bytes that VXLAN adds to a packet: outer Ethernet header as carried
// inside (14), VXLAN (8), UDP (8) and the outer IP header (RFC 7348 section 5).
const (
	overheadIPv4 = 14 + 8 + 8 + 20
	overheadIPv6 = 14 + 8 + 8 + 40
)

// leastIPv6 is the least MTU with which the kernel lets a link have IPv6
// (IPV6_MIN_MTU, RFC 8200 section 5).
const leastIPv6 = 1280

// mtu returns what a container on n may send: what the underlay carries less
// the overhead of a tunnel, or less if the network asks for it. With direct
// routing, too: any peer may come to need the tunnel.
func (p *planner) mtu(n cluster.Network) int {
	most := p.local.Underlay.MTU
	switch {
	case n.Driver != cluster.DriverOverlay: // as it is: also what leaves a bridge leaves by the underlay
	case p.local.Underlay.Addrs[0].Is4():
		most -= overheadIPv4
	default:
		most -= overheadIPv6
	}
	if n.MTU > most {
		p.fault(cluster.SeverityWarning, "network "+n.Name,
			fmt.Sprintf("its MTU of %d does not fit %s, which carries %d: using %d", n.MTU, p.local.Underlay.Link, p.local.Underlay.MTU, most),
			"lower the network's MTU, or raise the underlay's")
	}
	if most < leastIPv6 && n.Driver == cluster.DriverOverlay && slices.ContainsFunc(n.Pools, hasIPv6) {
		// The outer packets are cut in pieces, which is slow, and right: a link that
		// cannot carry so much has to do that below IPv6, says the RFC.
		p.fault(cluster.SeverityWarning, "network "+n.Name,
			fmt.Sprintf("%s carries %d bytes, which leaves %d, and IPv6 needs %d: large packets are sent in pieces", p.local.Underlay.Link, p.local.Underlay.MTU, most, leastIPv6),
			"raise the underlay's MTU")
		most = leastIPv6
	}
	if n.MTU > 0 && n.MTU < most {
		return n.MTU
	}
	return most
}

func hasIPv6(pool cluster.Pool) bool { return pool.Prefix.Addr().Is6() }
