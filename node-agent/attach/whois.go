package attach

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/ovlnet/ovl/internal/cluster"
	"github.com/ovlnet/ovl/internal/ipam"
	"github.com/ovlnet/ovl/internal/plan"
	ovlv1 "github.com/ovlnet/ovl/proto/ovl/v1"
)

// Known is what this host knows, to answer [Known.Whois] from.
type Known struct {
	Self        cluster.Host
	Snapshot    *cluster.Snapshot
	Held        []cluster.Lease // by this host: newer than the snapshot
	Attachments []cluster.Attachment
	segments    cluster.Segments // of this host's subnets; Whois finds them
}

// The kinds of matches.
const (
	kindContainer = "container"
	kindGateway   = "gateway"
	kindPeer      = "peer"
	kindVTEP      = "vtep"
)

// Whois returns all that a veth's name, an address, a MAC or a container's name
// or ID can mean on this host. Without a match, hint says what to do. It is
// pure.
func (k Known) Whois(query string) (matches []*ovlv1.WhoisMatch, hint string) {
	query = strings.TrimSpace(query)
	k.segments = cluster.SegmentsOf(k.Attachments)
	matches = k.byName(query)
	if a, err := netip.ParseAddr(query); err == nil && a.Zone() == "" {
		return append(matches, k.byAddr(a.Unmap())...), k.hintAddr(a.Unmap())
	}
	if m, err := cluster.ParseMAC(strings.ToLower(query)); err == nil {
		return append(matches, k.byMAC(m)...), "no container of this host, and no gateway or VXLAN device of a network that it is on, has this MAC: try `ovlctl endpoint inspect`"
	}
	return matches, "no container, veth or bridge of this host has this name: see `ovlctl ps`, or `ovlctl endpoint inspect` for the other hosts'"
}

// byName finds containers by name, ID and veth, and devices of networks.
func (k Known) byName(query string) []*ovlv1.WhoisMatch {
	var out []*ovlv1.WhoisMatch
	for _, att := range k.Attachments {
		for _, i := range att.Interfaces {
			if att.ID == query || att.Name == query || plan.HostEnd(att, i) == query {
				out = append(out, k.container(att, i))
			}
		}
	}
	for _, l := range k.leases() {
		n, ok := k.Snapshot.Network(l.Network)
		if !ok || l.Host != k.Self.ID {
			continue
		}
		switch bridge, vxlan := devices(n, k.segment(l)); query {
		case bridge:
			out = append(out, k.gateway(n, l))
		case vxlan:
			out = append(out, k.vtep(n, l))
		}
	}
	return out
}

func (k Known) byAddr(a netip.Addr) []*ovlv1.WhoisMatch {
	var out []*ovlv1.WhoisMatch
	for _, att := range k.Attachments {
		for _, i := range att.Interfaces {
			if i.HasAddr(a) {
				out = append(out, k.container(att, i))
			}
		}
	}
	for _, l := range k.leases() {
		n, ok := k.Snapshot.Network(l.Network)
		switch {
		case !ok || !l.Prefix.Contains(a):
		case ipam.Gateway(l.Prefix) == a:
			out = append(out, k.gateway(n, l))
		case l.Host != k.Self.ID:
			m := k.vtep(n, l)
			m.Kind = kindPeer
			out = append(out, m)
		}
	}
	for _, h := range k.hosts() {
		if slices.Contains(h.Underlay, a) {
			out = append(out, &ovlv1.WhoisMatch{Kind: kindVTEP, Host: h.Name, Underlay: a.String(), Addresses: []string{a.String()}})
		}
	}
	return out
}

func (k Known) byMAC(mac cluster.MAC) []*ovlv1.WhoisMatch {
	var out []*ovlv1.WhoisMatch
	for _, att := range k.Attachments {
		for _, i := range att.Interfaces {
			if i.MAC == mac {
				out = append(out, k.container(att, i))
			}
		}
	}
	for _, l := range k.leases() {
		n, ok := k.Snapshot.Network(l.Network)
		if !ok {
			continue
		}
		// A host with several subnets of a network is found once for each: they
		// all lie behind this MAC.
		if cluster.GatewayMAC(l.Host, n.VNI, k.segment(l)) == mac {
			out = append(out, k.gateway(n, l))
		}
		if n.Driver == cluster.DriverOverlay && cluster.VTEPMAC(l.Host, n.VNI) == mac {
			out = append(out, k.vtep(n, l))
		}
	}
	return out
}

func (k Known) container(att cluster.Attachment, i cluster.Interface) *ovlv1.WhoisMatch {
	m := &ovlv1.WhoisMatch{
		Kind: kindContainer, Host: k.Self.Name, Network: i.Network, Container: att.Name, Netns: att.NetNS,
		Interface: i.Name, HostLink: plan.HostEnd(att, i), Mac: i.MAC.String(), Underlay: k.underlay(k.Self),
	}
	addrs := i.Addrs
	if n, ok := k.Snapshot.Network(i.Network); ok && n.Driver == cluster.DriverMacvlan {
		addrs = onSegment(n, i)
	}
	for _, p := range addrs {
		m.Addresses = append(m.Addresses, p.String())
	}
	if len(i.Addrs) > 0 {
		m.Subnet = i.Addrs[0].Masked().String()
	}
	if n, ok := k.Snapshot.Network(i.Network); ok {
		m.Bridge, m.Vxlan = devices(n, i.Segment)
		if n.Driver == cluster.DriverMacvlan {
			m.HostLink = "" // it has no end on the host
		}
	}
	return m
}

func (k Known) gateway(n cluster.Network, l cluster.Lease) *ovlv1.WhoisMatch {
	m := k.vtep(n, l)
	m.Kind, m.Mac = kindGateway, cluster.GatewayMAC(l.Host, n.VNI, k.segment(l)).String()
	m.Addresses = nil
	if gw := ipam.Gateway(l.Prefix); gw.IsValid() {
		m.Addresses = []string{netip.PrefixFrom(gw, l.Prefix.Bits()).String()}
	}
	return m
}

// segment returns the segment of a subnet: of another host's, of which this one does
// not know, the first.
func (k Known) segment(l cluster.Lease) int {
	if l.Host != k.Self.ID {
		return 0
	}
	return k.segments.Of(l.Network, l.Prefix)
}

// vtep describes where a subnet is: the VXLAN device of its host.
func (k Known) vtep(n cluster.Network, l cluster.Lease) *ovlv1.WhoisMatch {
	h := k.host(l.Host)
	m := &ovlv1.WhoisMatch{Kind: kindVTEP, Host: h.Name, Network: n.Name, Subnet: l.Prefix.String(), Underlay: k.underlay(h)}
	if m.Bridge, m.Vxlan = devices(n, k.segment(l)); m.Vxlan != "" {
		m.Mac = cluster.VTEPMAC(l.Host, n.VNI).String()
	}
	return m
}

// devices returns the host's links that a segment of a network lies behind: that
// with its gateways, and that to the other hosts, if there is one.
func devices(n cluster.Network, segment int) (bridge, vxlan string) {
	switch n.Driver {
	case cluster.DriverMacvlan:
		return plan.ShimName(n.VNI), ""
	case cluster.DriverBridge:
		return plan.BridgeName(n.VNI, segment), ""
	case cluster.DriverOverlay:
	}
	return plan.BridgeName(n.VNI, segment), plan.VXLANName(n.VNI)
}

// hintAddr says what is known of an address that nobody has.
func (k Known) hintAddr(a netip.Addr) string {
	for _, l := range k.leases() {
		if l.Host == k.Self.ID && l.Prefix.Contains(a) {
			return fmt.Sprintf("it is in this host's subnet %s of network %s, but no container has it: see `ovlctl ps`", l.Prefix, l.Network)
		}
	}
	for _, n := range k.Snapshot.Networks {
		if _, ok := n.Pool(netip.PrefixFrom(a, a.BitLen())); !ok {
			continue
		}
		if len(k.Snapshot.NetworkLeases(n.Name)) == 0 && !slices.ContainsFunc(k.Held, func(l cluster.Lease) bool { return l.Network == n.Name }) {
			return fmt.Sprintf("it is in network %s, but this host is not on it: ask on one that is, or try `ovlctl endpoint inspect %s`", n.Name, a)
		}
		return fmt.Sprintf("it is in network %s, but no host holds a subnet with it: see `ovlctl subnet ls --network %[1]s`", n.Name)
	}
	return "it is in no network, and no host's underlay address: see `ovlctl network ls`"
}

// leases returns the leases of all hosts; of this one, what it knows itself.
func (k Known) leases() []cluster.Lease {
	out := slices.Clone(k.Held)
	for _, l := range k.Snapshot.Leases {
		if l.Host != k.Self.ID {
			out = append(out, l)
		}
	}
	slices.SortStableFunc(out, func(a, b cluster.Lease) int {
		return cmp.Or(cmp.Compare(a.Network, b.Network), cluster.ComparePrefix(a.Prefix, b.Prefix))
	})
	return out
}

// hosts returns all hosts; of this one, what it knows itself.
func (k Known) hosts() []cluster.Host {
	out := []cluster.Host{k.Self}
	for _, h := range k.Snapshot.Hosts {
		if h.ID != k.Self.ID {
			out = append(out, h)
		}
	}
	return out
}

func (k Known) host(id cluster.HostID) cluster.Host {
	if id == k.Self.ID {
		return k.Self
	}
	if h, ok := k.Snapshot.Host(id); ok {
		return h
	}
	return cluster.Host{ID: id, Name: string(id)}
}

func (k Known) underlay(h cluster.Host) string {
	if a, ok := h.UnderlayFor(k.Self.Underlay); ok {
		return a.String()
	}
	return ""
}
