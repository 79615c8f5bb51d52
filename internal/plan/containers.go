package plan

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"

	"github.com/ovlnet/ovl/internal/cluster"
	"github.com/ovlnet/ovl/internal/dataplane"
	"github.com/ovlnet/ovl/internal/ipam"
)

// containers emits the interfaces of the attachments and what is in their
// namespaces.
func (p *planner) containers(nets []network) {
	byName := make(map[string]network, len(nets))
	for _, n := range nets {
		byName[n.Name] = n
	}
	atts := p.local.Attachments
	byID := func(a, b cluster.Attachment) int { return cmp.Compare(a.ID, b.ID) }
	if !slices.IsSortedFunc(atts, byID) { // mostly they are, and a thousand are large
		atts = slices.SortedFunc(slices.Values(atts), byID)
	}
	p.state.ReserveInterfaces(len(atts))
	for _, att := range atts {
		for _, itf := range att.Interfaces {
			n, ok := byName[itf.Network]
			if what := p.misfit(n, ok, att, itf); what != "" {
				p.fault(cluster.SeverityError, fmt.Sprintf("container %s on network %s", att.Name, itf.Network), what, "remove and start the container again")
				continue
			}
			switch {
			case !n.on(): // told of the network, not of each container
			case n.Driver == cluster.DriverMacvlan:
				p.onSegment(n, att, itf)
			default:
				p.veth(n, att, itf)
				p.addresses(n, att, itf)
				p.ways(n, itf)
			}
		}
	}
}

// misfit tells why an interface has no place in the network n, or "".
func (p *planner) misfit(n network, known bool, att cluster.Attachment, itf cluster.Interface) string {
	if !known {
		return "the network is gone, or this host has lost its subnet of it"
	}
	if itf.NetworkCreated != 0 && itf.NetworkCreated != n.CreateRevision {
		return "the network was deleted; the one of that name is another"
	}
	if n.Driver == cluster.DriverMacvlan && att.Stage != cluster.Placed {
		return "a container engine cannot join a network of the driver macvlan through ovl"
	}
	for _, a := range itf.Addrs {
		if a.IsSingleIP() && !n.static[a.Addr()] {
			return fmt.Sprintf("this host no longer holds its address %s", a.Addr())
		}
		own, ok := n.subnetOf(itf.SubnetFor(a).Addr())
		if !ok {
			return fmt.Sprintf("this host no longer holds the subnet of its address %s", a)
		}
		if own != itf.SubnetFor(a) || !a.IsSingleIP() && ipam.CheckAddress(own, a.Addr()) != nil {
			return fmt.Sprintf("its address %s does not fit the subnet %s", a, own)
		}
		if at := p.belongs.Of(n.Name, own); at != itf.Segment {
			return fmt.Sprintf("it is on segment %d, and the subnet of its address %s on segment %d", itf.Segment, a, at)
		}
	}
	return ""
}

// veth emits both ends of an interface.
func (p *planner) veth(n network, att cluster.Attachment, itf cluster.Interface) {
	host := HostEnd(att, itf)
	p.speaks(host, itf)
	if att.Stage.Lent() {
		return // the engine has it in hand
	}
	alias := Alias(n.Name, att.ID)
	p.add(
		dataplane.Link{
			LinkKey: dataplane.LinkKey{NS: dataplane.NSOf(att), Name: itf.Name}, Kind: dataplane.Veth,
			MAC: itf.MAC, MTU: n.mtu, Up: att.Stage != cluster.Offered, Alias: alias, Peer: host,
		},
		dataplane.Link{
			LinkKey: dataplane.LinkKey{Name: host}, Kind: dataplane.Veth,
			MAC: hostEndMAC(), MTU: n.mtu, Up: true, Alias: alias, Master: BridgeName(n.VNI, itf.Segment),
			// Who asks the host for his own published port, or for a service that he
			// himself is, gets the answer by the way that he came: the bridge itself
			// forwards it where br_netfilter has it translated (br_nf_pre_routing_finish).
			Hairpin: len(att.Ports) > 0 || n.Services,
		},
	)
	p.port(BridgeName(n.VNI, itf.Segment), host, itf.MAC)
	p.shape(dataplane.QdiscKey{Link: host}, itf.Bandwidth.Ingress, n.mtu)
	p.shape(dataplane.QdiscKey{NS: dataplane.NSOf(att), Link: itf.Name}, itf.Bandwidth.Egress, n.mtu)
}

// port emits that mac is behind a port of a bridge. Without, frames to a container that
// has not spoken yet, or not for five minutes, would go to all ports. A bridge has one
// entry of a MAC; no honest journal has it twice.
func (p *planner) port(bridge, link string, mac cluster.MAC) {
	at := dataplane.FDBKey{Link: bridge, MAC: mac}
	if p.behind[at] {
		return
	}
	if p.behind == nil {
		p.behind = map[dataplane.FDBKey]bool{}
	}
	p.behind[at] = true
	p.add(dataplane.FDB{FDBKey: dataplane.FDBKey{Link: link, MAC: mac}})
}

// frameHead is what a frame has before its packet, in bytes: MAC addresses, type and
// an 802.1q tag.
const frameHead = 18

// shape emits what limits a direction of an interface: a queue where its packets
// enter the pair, since only there can they wait.
func (p *planner) shape(at dataplane.QdiscKey, r cluster.Rate, mtu int) {
	if r.Bits == 0 {
		return
	}
	// A frame that is larger than the burst would never go.
	p.add(dataplane.NewQdisc(at, uint32(r.Bits/8), max(r.Burst/8, uint64(mtu+frameHead))))
}

// addresses emits what an interface has within the container: addresses, the
// route to its subnet, and the way onwards. The default route of each family
// goes through the first interface that has that family and is not internal;
// the other interfaces get a route to the rest of their network.
//
// An engine makes these routes itself, and takes it ill if there are any in their
// place. So ours stand behind its own, and count where it does not know that its own
// have gone.
func (p *planner) addresses(n network, att cluster.Attachment, itf cluster.Interface) {
	if att.Stage != cluster.Placed && att.Stage != cluster.Adopted {
		return
	}
	ns, spare := dataplane.NSOf(att), att.Stage == cluster.Adopted
	for _, a := range itf.Addrs {
		around, gw := a.Masked(), ipam.Gateway(itf.SubnetFor(a))
		if a.IsSingleIP() { // nothing is around it but the way onwards
			around = netip.PrefixFrom(gw, gw.BitLen())
		}
		p.add(
			dataplane.Addr{AddrKey: dataplane.AddrKey{NS: ns, Link: itf.Name, Prefix: a}},
			dataplane.Route{RouteKey: dataplane.RouteKey{NS: ns, Dst: around}, Link: itf.Name, Src: a.Addr(), Spare: spare},
		)
		if spare {
			p.wayToNames(ns, itf.Name, gw)
		}
		def := dataplane.RouteKey{NS: ns, Dst: netip.PrefixFrom(zeroOf(gw), 0)}
		if _, taken := p.state.Routes[def]; !taken && !n.Internal && !att.Onward {
			p.add(dataplane.Route{RouteKey: def, Link: itf.Name, Via: gw, Spare: spare})
			if !spare {
				continue
			}
		}
		if pool, _ := n.Pool(a.Masked()); pool.Prefix != around {
			p.add(dataplane.Route{RouteKey: dataplane.RouteKey{NS: ns, Dst: pool.Prefix}, Link: itf.Name, Via: gw, Spare: spare})
		}
	}
}

func zeroOf(a netip.Addr) netip.Addr {
	if a.Is4() {
		return netip.IPv4Unspecified()
	}
	return netip.IPv6Unspecified()
}

// hostEndMAC is the MAC of the host's end of every veth. A bridge takes for itself
// what is sent to the MAC of a port (br_fdb_add_local in net/bridge/br_fdb.c), so that
// on each of ours a frame to this one is for the host and no port: see
// [planner.portGuard]. It begins with fe, so that a bridge without a MAC of its own
// would never choose it, and is explicit so that udev does not.
func hostEndMAC() cluster.MAC { return cluster.MAC{0xfe, 'o', 'v', 'l', 0, 1} }
