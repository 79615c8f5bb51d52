package plan

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/ovlnet/ovl/internal/cluster"
	"github.com/ovlnet/ovl/internal/dataplane"
	"github.com/ovlnet/ovl/internal/ipam"
)

// parent is the link of this host that a network's segment is on.
type parent struct {
	link string // empty: this host has none, and so no rows of the network
	mtu  int
	// With a VLAN of ours the link is that, and it is on base.
	vlan uint16
	base string
}

// on reports whether n can be on this host: a macvlan network is not where its
// parent is missing.
func (n network) on() bool { return n.Driver != cluster.DriverMacvlan || n.parent.link != "" }

// parentOf finds the parent of a macvlan network among the links of this host:
// the one of that name or, for eth0.100, the VLAN 100 of eth0, which then is a
// link of ours.
func (p *planner) parentOf(n cluster.Network) parent {
	if l, ok := p.hostLink(n.Parent); ok {
		p.judge(n, l)
		if l.Kind == string(dataplane.Macvlan) {
			return parent{}
		}
		return parent{link: l.Name, mtu: l.MTU}
	}
	base, id, vlan := vlanOf(n.Parent)
	if l, ok := p.hostLink(base); vlan && ok {
		p.judge(n, l)
		return parent{link: VLANName(n.VNI), mtu: l.MTU, vlan: id, base: l.Name}
	}
	what := fmt.Sprintf("this host has no interface %s", n.Parent)
	if vlan {
		what = fmt.Sprintf("this host has neither an interface %s nor %s, of which that would be the VLAN %d", n.Parent, base, id)
	}
	p.fault(cluster.SeverityError, "network "+n.Name, what, "bring it up, or run containers of this network on hosts that have it")
	return parent{}
}

// vlanOf returns what a name such as eth0.100 says: the VLAN 100 of eth0.
func vlanOf(name string) (base string, id uint16, ok bool) {
	dot := strings.LastIndexByte(name, '.')
	if dot < 1 {
		return "", 0, false
	}
	n, err := strconv.ParseUint(name[dot+1:], 10, 16)
	if err != nil || n < 1 || n > 4094 || strconv.FormatUint(n, 10) != name[dot+1:] {
		return "", 0, false
	}
	return name[:dot], uint16(n), true
}

// Parents returns the names of the links on which a network is, or would be on a
// host that has one of them.
func Parents(n cluster.Network) []string {
	if n.Driver != cluster.DriverMacvlan {
		return nil
	}
	if base, _, ok := vlanOf(n.Parent); ok {
		return []string{n.Parent, base}
	}
	return []string{n.Parent}
}

// judge tells what is wrong with a link as a parent.
func (p *planner) judge(n cluster.Network, l dataplane.HostLink) {
	switch {
	case l.Kind == string(dataplane.Macvlan):
		// The kernel would put ours on what that is on, wherever it is
		// (macvlan_common_newlink in drivers/net/macvlan.c).
		p.fault(cluster.SeverityError, "network "+n.Name, fmt.Sprintf("interface %s is a macvlan itself", l.Name), "make the network with the interface below it as its parent")
	case !l.Up:
		p.fault(cluster.SeverityWarning, "network "+n.Name, fmt.Sprintf("interface %s is down, and so is all that is on it", l.Name), "bring it up: `ip link set "+l.Name+" up`")
	}
}

// parentMTU returns the MTU of a network on a parent that carries so many bytes:
// there is nothing around its packets.
func (p *planner) parentMTU(n cluster.Network, most int) int {
	if n.MTU > most {
		p.fault(cluster.SeverityWarning, "network "+n.Name,
			fmt.Sprintf("its MTU of %d does not fit %s, which carries %d: using that", n.MTU, n.Parent, most), "lower the network's MTU, or raise that of "+n.Parent)
	}
	if n.MTU > 0 && n.MTU < most {
		return n.MTU
	}
	return most
}

func (p *planner) hostLink(name string) (dataplane.HostLink, bool) {
	i := slices.IndexFunc(p.local.Links, func(l dataplane.HostLink) bool { return l.Name == name })
	if i < 0 {
		return dataplane.HostLink{}, false
	}
	return p.local.Links[i], true
}

// macvlan emits this host's own place on a segment: a macvlan beside those of its
// containers, since none of them is heard by the parent itself, with the first
// address of each of its pieces and the routes to them. The other hosts'
// containers are reached as any machine there.
func (p *planner) macvlan(n network) {
	if !n.on() {
		return
	}
	if n.parent.vlan != 0 {
		p.add(dataplane.Link{
			LinkKey: dataplane.LinkKey{Name: n.parent.link}, Kind: dataplane.VLAN, Parent: n.parent.base, VLANID: n.parent.vlan,
			MAC: cluster.SegmentMAC(p.local.ID, n.VNI), MTU: n.parent.mtu, Up: true, Alias: Alias(n.Name, "vlan"),
		})
	}
	shim := ShimName(n.VNI)
	p.add(dataplane.Link{
		LinkKey: dataplane.LinkKey{Name: shim}, Kind: dataplane.Macvlan, Parent: n.parent.link,
		MAC: cluster.GatewayMAC(p.local.ID, n.VNI, 0), MTU: n.mtu, Up: true, Alias: Alias(n.Name, "gateway"),
	})
	for _, own := range n.own {
		gw := ipam.Gateway(own)
		p.add(
			dataplane.Addr{AddrKey: dataplane.AddrKey{Link: shim, Prefix: netip.PrefixFrom(gw, own.Bits())}},
			dataplane.Route{RouteKey: dataplane.RouteKey{Dst: own}, Link: shim, Src: gw},
		)
	}
	p.squatters(n)
}

// squatters reports hosts that got an underlay address within a piece of this
// host after it was taken.
func (p *planner) squatters(n network) {
	for _, h := range p.snapshot.Hosts {
		for _, a := range h.Underlay {
			if own, in := n.subnetOf(a); in {
				p.fault(cluster.SeverityWarning, "network "+n.Name, fmt.Sprintf("host %s has the address %s, which is in %s, this host's piece of the segment", h.Name, a, own),
					"give that host another address, or make the network anew with an --ip-range without it")
			}
		}
	}
}

// onSegment emits an interface that is on a segment itself, with addresses that
// are as long as the segment's and the segment's own gateway.
func (p *planner) onSegment(n network, att cluster.Attachment, itf cluster.Interface) {
	ns := dataplane.NSOf(att)
	p.add(dataplane.Link{
		LinkKey: dataplane.LinkKey{NS: ns, Name: itf.Name}, Kind: dataplane.Macvlan, Parent: n.parent.link,
		MAC: itf.MAC, MTU: n.mtu, Up: true, Alias: Alias(n.Name, att.ID),
	})
	p.shape(dataplane.QdiscKey{NS: ns, Link: itf.Name}, itf.Bandwidth.Egress, n.mtu)
	for _, a := range itf.Addrs {
		pool, _ := n.Pool(a.Masked())
		p.add(
			dataplane.Addr{AddrKey: dataplane.AddrKey{NS: ns, Link: itf.Name, Prefix: netip.PrefixFrom(a.Addr(), pool.Prefix.Bits())}},
			dataplane.Route{RouteKey: dataplane.RouteKey{NS: ns, Dst: pool.Prefix}, Link: itf.Name, Src: a.Addr()},
		)
		def := dataplane.RouteKey{NS: ns, Dst: netip.PrefixFrom(zeroOf(a.Addr()), 0)}
		if _, taken := p.state.Routes[def]; !taken && !n.Internal {
			p.add(dataplane.Route{RouteKey: def, Link: itf.Name, Via: pool.Gateway})
		}
	}
}
