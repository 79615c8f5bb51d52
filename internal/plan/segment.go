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

// segment emits this host's own piece of a network: the bridge with a gateway
// per subnet.
func (p *planner) segment(n network) {
	p.add(dataplane.Link{
		LinkKey: dataplane.LinkKey{Name: n.bridge}, Kind: dataplane.Bridge,
		MAC: cluster.GatewayMAC(p.local.ID, n.VNI), MTU: n.mtu, Up: true, Alias: Alias(n.Name, "gateway"),
	})
	if slices.ContainsFunc(n.own, func(p netip.Prefix) bool { return p.Addr().Is6() }) {
		p.add(dataplane.Addr{AddrKey: dataplane.AddrKey{Link: n.bridge, Prefix: gatewayLinkLocal}})
	}
	for _, own := range n.own {
		gw := ipam.Gateway(own)
		p.add(
			dataplane.Addr{AddrKey: dataplane.AddrKey{Link: n.bridge, Prefix: netip.PrefixFrom(gw, own.Bits())}},
			dataplane.Route{RouteKey: dataplane.RouteKey{Dst: own}, Link: n.bridge, Src: gw},
		)
	}
}

// tunnel emits the VXLAN device. It needs no address: what the host itself sends
// through it gets the gateway's, by the peer routes' source.
func (p *planner) tunnel(n network) {
	p.add(dataplane.Link{
		LinkKey: dataplane.LinkKey{Name: n.vxlan}, Kind: dataplane.VXLAN,
		MAC: cluster.VTEPMAC(p.local.ID, n.VNI), MTU: n.mtu, Up: true, Alias: Alias(n.Name, "vtep"),
		VXLAN: dataplane.VXLANAttrs{VNI: n.VNI, Port: p.local.Port, Local: p.local.Underlay.Addrs[0]},
	})
}
