package plan

import (
	"fmt"
	"net"
	"net/netip"
	"slices"

	"github.com/ovlnet/ovl/internal/cluster"
	"github.com/ovlnet/ovl/internal/dataplane"
)

// guards emits what keeps strangers out of the tunnel and what may enter a bridge
// from its ports; [planner.speaks] says who may send there as whom.
func (p *planner) guards(nets []network) {
	if p.tunnelled(nets) && p.able(dataplane.NFInet,
		"tunnel", "frames from hosts that are no members are not kept out of the networks") {
		p.tunnelGuard(nets)
	}
	if slices.ContainsFunc(nets, func(n network) bool { return n.Driver != cluster.DriverMacvlan }) && p.able(dataplane.NFBridge,
		"containers", "those on one host can take each other's addresses") {
		p.portGuard()
	}
}

// able reports whether the kernel can have a guard; that it cannot is a problem.
func (p *planner) able(in dataplane.NFTable, subject, what string) bool {
	if !p.local.NoGuard[in] {
		return true
	}
	family := map[dataplane.NFTable]string{dataplane.NFInet: "inet", dataplane.NFBridge: "bridge"}[in]
	p.fault(cluster.SeverityWarning, subject, fmt.Sprintf("%s: this kernel's nf_tables has no filter of family %s", what, family),
		"a kernel with CONFIG_NF_TABLES_INET and CONFIG_NF_TABLES_BRIDGE has; see docs/design/guards.md")
	return false
}

// tunnelGuard lets a frame for one of this host's networks in if it comes from a host
// of the cluster and says that it is from a subnet which that host holds in that
// network; [planner.admit] says which those are. VXLAN of other programs on the same
// port goes by.
func (p *planner) tunnelGuard(nets []network) {
	outer, networks := dataplane.FamilyOf(p.local.Underlay.Addrs[0]), dataplane.SetKey{Kind: dataplane.Networks}
	p.add(dataplane.Set{SetKey: networks})
	lines := []string{
		// Where a packet is for this host: what is only forwarded, as all between
		// containers is, costs nothing here, and fragments are put together.
		"chain arrivals { type filter hook input priority -310; }",
		fmt.Sprintf("udp dport %d goto tunnel", p.local.Port),
		"chain tunnel",
	}
	for _, prefix := range leased(nets) {
		set := dataplane.PeerSet(outer, prefix)
		p.add(dataplane.Set{SetKey: set})
		lines = append(lines, peerRule(set))
	}
	for _, n := range nets {
		if n.vxlan != "" {
			p.add(dataplane.OnHost(n.VNI))
		}
	}
	p.add(dataplane.NewGuard(
		dataplane.NFInet,
		append(lines, "@th,96,24 != @"+networks.Name()+" accept", fmt.Sprintf("meta nfproto %s counter drop", outer))...,
	))
}

// leased returns the kinds of leases that there can be of the networks with a tunnel:
// a prefix for each family and length, in order, subnets before static addresses, which
// are rarer.
func leased(nets []network) []netip.Prefix {
	var kinds []netip.Prefix
	add := func(a netip.Addr, bits int) {
		if zero := netip.PrefixFrom(zeroOf(a), bits); !slices.Contains(kinds, zero) {
			kinds = append(kinds, zero)
		}
	}
	for _, n := range nets {
		for _, pool := range n.Pools {
			if n.vxlan == "" {
				continue
			}
			add(pool.Prefix.Addr(), pool.HostPrefix)
			if n.StaticRange(pool).IsValid() || n.answers(dataplane.FamilyOf(pool.Prefix.Addr())) {
				add(pool.Prefix.Addr(), pool.Prefix.Addr().BitLen())
			}
		}
	}
	slices.SortFunc(kinds, cluster.ComparePrefix)
	return kinds
}

// peerRule lets in what the elements of a set name. The raw fields are of the frame
// behind the headers of UDP and VXLAN (8 bytes each) and Ethernet: its VNI, its type,
// its source address. Nothing else than IP is let in: no ARP, and by its hop limit no
// neighbour discovery, which is believed with 255 alone (RFC 4861) and would fill the
// table of neighbours; what one host forwards to another has less.
func peerRule(set dataplane.SetKey) string {
	host, inner, size := "ip saddr", "@th,224,16 0x0800", 4
	source := "@th,336,32"
	if set.Inner == dataplane.IPv6 {
		inner, size, source = "@th,224,16 0x86dd @th,296,8 != 0xff", 16, "@th,304,128"
	}
	if set.Family == dataplane.IPv6 {
		host = "ip6 saddr"
	}
	if int(set.Bits) < size*8 {
		source += " & 0x" + net.CIDRMask(int(set.Bits), size*8).String()
	}
	return fmt.Sprintf("meta nfproto %s %s %s . @th,96,24 . %s @%s accept", set.Family, inner, host, source, set.Name())
}

// answers reports whether hosts speak for themselves in a network's tunnel: where
// containers are not masqueraded they ask another host, or a port that it publishes,
// by way of the underlay, and it knows a way back through the tunnel.
func (n network) answers(f dataplane.Family) bool { return !n.Internal && !n.masqueraded(f) }

// admit emits what lets a peer's frames in: from its address, in the name of what it
// holds. What a host says of itself may be anything: it lets nobody in that sends from
// here.
func (p *planner) admit(n network, lease cluster.Lease, host cluster.Host) {
	addr, ok := host.UnderlayFor(p.local.Underlay.Addrs[:1])
	if !ok || !p.elsewhere(addr) || p.local.NoGuard[dataplane.NFInet] {
		return
	}
	// Not by Add, which makes an interface value of each row: there may be thousands.
	e := dataplane.Peer(addr, n.VNI, lease.Prefix)
	p.state.Elements[e.ElementKey] = e
	f := dataplane.FamilyOf(lease.Prefix.Addr())
	if !n.answers(f) {
		return
	}
	for _, own := range host.Underlay {
		if dataplane.FamilyOf(own) == f && p.elsewhere(own) && !covers(p.pools, own) {
			e := dataplane.Peer(addr, n.VNI, netip.PrefixFrom(own, own.BitLen()))
			p.state.Elements[e.ElementKey] = e
		}
	}
}

// elsewhere reports whether an address may be another host's.
func (p *planner) elsewhere(a netip.Addr) bool {
	return a.IsGlobalUnicast() && !slices.Contains(p.local.Underlay.Addrs, a)
}

// askHost leads a question to all to the host alone: no container answers it. What the
// host says, as which it listens on the bridge, is its own affair.
func askHost() string {
	return fmt.Sprintf("ether daddr & 01:00:00:00:00:00 == 01:00:00:00:00:00 ether daddr set %s accept", hostEndMAC())
}

// portGuard decides about every frame that a container sends. Each rule lets
// something through, since what a frame is too short for matches nothing, and what
// is left in the end is dropped: other protocols than IP, which no network carries
// between hosts, and all that is tagged for a VLAN.
func (p *planner) portGuard() {
	p.add(
		dataplane.Set{SetKey: dataplane.SetKey{Kind: dataplane.Sources, Family: dataplane.IPv4}},
		dataplane.Set{SetKey: dataplane.SetKey{Kind: dataplane.Sources, Family: dataplane.IPv6}},
		dataplane.Set{SetKey: dataplane.SetKey{Kind: dataplane.Owners, Family: dataplane.IPv4}},
		dataplane.Set{SetKey: dataplane.SetKey{Kind: dataplane.Owners, Family: dataplane.IPv6}},
		dataplane.NewGuard(
			dataplane.NFBridge,
			"chain frames { type filter hook prerouting priority -300; }",
			`meta iifname != "`+dataplane.VethPrefix+`*" accept`,
			"ether type ip meta iifname . ether saddr . ip saddr @sources_ipv4 accept",
			"ether type ip6 meta iifname . ether saddr . ip6 saddr @sources_ipv6 goto packets_ipv6",
			"ether type arp goto claims_arp",
			// From no address one asks whether one's own is free (RFC 4862). It is: nobody
			// else here could speak from it.
			"ether type ip6 meta l4proto icmpv6 ip6 saddr :: drop",
			"counter drop",

			"chain packets_ipv6",
			// The kernel finds what is behind extension headers, or finds nothing,
			// as in a fragment that lacks some of them: then no protocol matches.
			"meta l4proto != icmpv6 accept",
			"meta l4proto icmpv6 goto claims_icmpv6",
			"counter drop",

			"chain claims_icmpv6",
			"icmpv6 type 134 counter drop", // router advertisement
			"icmpv6 type 137 counter drop", // redirect
			// Nobody on the bridge routes, or wants to hear who is in which group, and each
			// of these would go to all its ports: those of a thousand containers that
			// start are ten million frames, and whose place they take in the queue of the
			// processor (net.core.netdev_max_backlog) is lost.
			"icmpv6 type 133 drop", // router solicitation
			"icmpv6 type 131 drop", // report of a multicast listener (RFC 2710)
			"icmpv6 type 132 drop", // and that it listens no more
			"icmpv6 type 143 drop", // both, in version 2 (RFC 3810)
			"icmpv6 type 136 meta iifname . ether saddr . icmpv6 taddr @sources_ipv6 accept",
			"icmpv6 type 136 counter drop",
			// Who looks for a neighbour asks the one that it is, or if it is none, the host.
			"icmpv6 type 135 ether daddr set icmpv6 taddr map @owners_ipv6 accept",
			"icmpv6 type 135 "+askHost(),
			// Also this must not match a message whose beginning is not there; the rest
			// of one in fragments may pass, if the fragment's header is the first.
			"icmpv6 type != 134 accept",
			"ip6 nexthdr 44 @nh,336,16 > 0x0007 accept",
			"counter drop",

			"chain claims_arp", // of Ethernet and IPv4 only; first those that ask
			"ether type arp @nh,0,64 0x0001080006040001 meta iifname . ether saddr . arp saddr ip @sources_ipv4"+
				" meta iifname . arp saddr ether . arp saddr ip @sources_ipv4 goto asked_arp",
			"ether type arp @nh,0,48 0x000108000604 meta iifname . ether saddr . arp saddr ip @sources_ipv4"+
				" meta iifname . arp saddr ether . arp saddr ip @sources_ipv4 accept",
			// From none one asks whether one's own address is free (RFC 5227). It is.
			"ether type arp @nh,0,48 0x000108000604 arp saddr ip 0.0.0.0 meta iifname . ether saddr . arp daddr ip @sources_ipv4"+
				" meta iifname . arp saddr ether . arp daddr ip @sources_ipv4 drop",
			"counter drop",

			"chain asked_arp",
			// Who asks for his own address announces it, to all (RFC 5227).
			"ether type arp meta iifname . ether saddr . arp daddr ip @sources_ipv4 accept",
			"ether type arp ether daddr set arp daddr ip map @owners_ipv4 accept",
			askHost(),
			"accept",
		),
	)
}

// speaks emits as whom a container may send at the port link, and that questions for
// that address go to it instead of to all ports of the bridge: with its MAC, from its
// addresses, and where it has IPv6 from the link-local address that the kernel makes
// of the MAC.
func (p *planner) speaks(link string, itf cluster.Interface) {
	if p.local.NoGuard[dataplane.NFBridge] {
		return
	}
	as := func(a netip.Addr) { p.add(dataplane.Source(link, itf.MAC, a), dataplane.Owner(a, itf.MAC)) }
	for _, a := range itf.Addrs {
		as(a.Addr())
		if a.Addr().Is6() {
			as(linkLocal(itf.MAC))
		}
	}
}

// linkLocal returns the link-local address of an interface with that MAC (RFC 4291,
// appendix A).
func linkLocal(m cluster.MAC) netip.Addr {
	return netip.AddrFrom16([16]byte{0: 0xfe, 1: 0x80, 8: m[0] ^ 2, 9: m[1], 10: m[2], 11: 0xff, 12: 0xfe, 13: m[3], 14: m[4], 15: m[5]})
}
