package plan

import (
	"net/netip"
	"slices"

	"github.com/ovlnet/ovl/internal/cluster"
	"github.com/ovlnet/ovl/internal/dataplane"
	"github.com/ovlnet/ovl/internal/ipam"
)

// Alias returns the alias of the links that belong to one thing on a network:
// "gateway" for the bridge, "vtep" for the VXLAN device, or an attachment's ID.
func Alias(network, what string) string { return dataplane.AliasPrefix + network + "/" + what }

// gatewayLinkLocal is the link-local address of every bridge with an IPv6
// subnet. The kernel solicits the neighbours of what it forwards from such an
// address and, without one, not at all: ndisc_send_ns in net/ipv6/ndisc.c. It
// is a row since the kernel is kept from making one of its own, which would be
// of no use for as long as duplicate address detection takes.
var gatewayLinkLocal = netip.MustParsePrefix("fe80::1/64")

// segment is a part of a network on this host: a bridge, and the subnets of the
// containers that are its ports.
type segment struct {
	number int
	bridge string
	own    []netip.Prefix // sorted
}

// cut sorts the subnets of a network by segment. One without containers is in
// the first, whether that has a bridge otherwise or not.
func (p *planner) cut(n network) []segment {
	var out []segment
	for _, own := range n.own {
		number := p.belongs.Of(n.Name, own)
		i, found := slices.BinarySearchFunc(out, number, func(s segment, number int) int { return s.number - number })
		if !found {
			out = slices.Insert(out, i, segment{number: number, bridge: BridgeName(n.VNI, number)})
		}
		out[i].own = append(out[i].own, own)
	}
	return out
}

// bridges returns the network's bridges as rules name them: the first, and all
// others by one pattern, so that the rules do not grow with the segments. The
// dot keeps the pattern from the bridges of VNIs that begin alike.
func (n network) bridges() []string {
	var out []string
	for _, s := range n.segments {
		if s.number > 0 {
			return append(out, BridgeName(n.VNI, 0)+".+")
		}
		out = append(out, s.bridge)
	}
	return out
}

// bridgeTo returns the bridge behind which an address of an interface is, if this
// host holds it.
func (n network) bridgeTo(itf cluster.Interface, a netip.Prefix) (string, bool) {
	if a.IsSingleIP() && !n.static[a.Addr()] {
		return "", false
	}
	own := itf.SubnetFor(a).Addr()
	for _, s := range n.segments {
		if covers(s.own, own) {
			return s.bridge, true
		}
	}
	return "", false
}

// bridged emits this host's own piece of a network: the bridges, with a gateway
// per subnet.
func (p *planner) bridged(n network) {
	for _, s := range n.segments {
		p.add(dataplane.Link{
			LinkKey: dataplane.LinkKey{Name: s.bridge}, Kind: dataplane.Bridge,
			MAC: cluster.GatewayMAC(p.local.ID, n.VNI, s.number), MTU: n.mtu, Up: true, Alias: Alias(n.Name, "gateway"),
		})
		if slices.ContainsFunc(s.own, func(p netip.Prefix) bool { return p.Addr().Is6() }) {
			p.add(dataplane.Addr{AddrKey: dataplane.AddrKey{Link: s.bridge, Prefix: gatewayLinkLocal}})
		}
		for _, own := range s.own {
			gw := ipam.Gateway(own)
			p.add(
				dataplane.Addr{AddrKey: dataplane.AddrKey{Link: s.bridge, Prefix: netip.PrefixFrom(gw, own.Bits())}},
				dataplane.Route{RouteKey: dataplane.RouteKey{Dst: own}, Link: s.bridge, Src: gw},
			)
		}
	}
}

// tunnel emits the VXLAN device. It needs no address: what the host itself sends
// through it gets the gateway's, by the peer routes' source. (With services it has
// one, for others.)
func (p *planner) tunnel(n network) {
	p.add(dataplane.Link{
		LinkKey: dataplane.LinkKey{Name: n.vxlan}, Kind: dataplane.VXLAN,
		MAC: cluster.VTEPMAC(p.local.ID, n.VNI), MTU: n.mtu, Up: true, Alias: Alias(n.Name, "vtep"),
		VXLAN: dataplane.VXLANAttrs{VNI: n.VNI, Port: p.local.Port, Local: p.local.Underlay.Addrs[0]},
	})
}
