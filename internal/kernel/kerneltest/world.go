package kerneltest

import (
	"net/netip"

	"github.com/ovlnet/ovl/internal/cluster"
	"github.com/ovlnet/ovl/internal/dataplane"
)

const (
	bridge   = "ovb5"
	vxlan    = "ovx5"
	vxlanSix = "ovx6"
	shim     = "ovm7"
)

// world is the rows of a host with a container in each namespace: a dual-stack
// network over an IPv4 underlay with two peers behind the tunnel and one on the
// segment, a VXLAN device over IPv6, and macvlans on the uplink's segment.
func world(namespaces ...dataplane.NS) dataplane.State {
	s := dataplane.NewState(
		peers(dataplane.IPv4, "10.64.2.0/24"), peers(dataplane.IPv4, "fd64::/64"), peers(dataplane.IPv6, "10.64.2.1/32"), peers(dataplane.IPv6, "fd64::/128"), set(dataplane.Networks, 0),
		set(dataplane.Sources, dataplane.IPv4), set(dataplane.Sources, dataplane.IPv6), set(dataplane.Owners, dataplane.IPv4), set(dataplane.Owners, dataplane.IPv6),
		peer("192.0.2.2", "10.64.2.0/24"), peer("192.0.2.3", "10.64.3.0/24"), peer("192.0.2.3", "fd64:0:0:3::/64"), peer("2001:db8::9", "10.64.2.1/32"), peer("2001:db8::9", "fd64::1/128"), dataplane.OnHost(5), dataplane.OnHost(1<<24-1),
		dataplane.NewGuard(dataplane.NFInet, "chain begin { type filter hook input priority -310; }", "udp dport 4789 goto tunnel",
			"chain tunnel", "meta nfproto ipv4 @th,224,16 0x0800 ip saddr . @th,96,24 . @th,336,32 & 0xffffff00 @peers_ipv4_24_over_ipv4 accept", "@th,96,24 != @networks accept", "counter drop"),
		dataplane.NewGuard(dataplane.NFBridge, "chain begin { type filter hook prerouting priority -300; }", `meta iifname != "ove*" accept`,
			"ether type ip meta iifname . ether saddr . ip saddr @sources_ipv4 accept", "ether type ip6 goto six", "counter drop",
			"chain six", "meta iifname . ether saddr . ip6 saddr @sources_ipv6 accept", "ip6 saddr :: icmpv6 type 135 accept",
			"icmpv6 type 135 ether daddr set ip6 saddr map @owners_ipv6 accept", "counter drop",
			"chain asked", "ether type arp ether daddr set arp daddr ip map @owners_ipv4 accept",
			"ether type arp ether daddr & 01:00:00:00:00:00 == 01:00:00:00:00:00 ether daddr set fe:6f:76:6c:00:01 accept"),
		dataplane.NewChain(dataplane.ChainKey{Family: dataplane.IPv4, FirewallOf: "filter", Name: "OVL-FORWARD"},
			"-i ovb5 -o ovx5 -j ACCEPT", "-d 10.64.0.0/16 -i ovb5 -j REJECT --reject-with icmp-net-unreachable", "-i ovb+ -j DROP"),
		dataplane.NewChain(dataplane.ChainKey{Family: dataplane.IPv4, FirewallOf: "nat", Name: "OVL-POSTROUTING"},
			"-s 10.64.1.0/24 ! -d 10.64.0.0/16 -j MASQUERADE --random-fully"),
		dataplane.NewChain(dataplane.ChainKey{Family: dataplane.IPv4, FirewallOf: "raw", Name: "OVL-PREROUTING"},
			"-p udp -m udp --dport 4789 -j CT --notrack"),
		dataplane.NewChain(dataplane.ChainKey{Family: dataplane.IPv6, FirewallOf: "filter", Name: "OVL-FORWARD"},
			"-i ovb5 -o ovx5 -j ACCEPT", "-i ovb+ -j DROP"),
		dataplane.NewChain(dataplane.ChainKey{Family: dataplane.IPv4, FirewallOf: "filter", Name: "OVL-EMPTY"}),
		jump(dataplane.IPv4, "filter", "FORWARD", "OVL-FORWARD"),
		jump(dataplane.IPv4, "nat", "POSTROUTING", "OVL-POSTROUTING"),
		jump(dataplane.IPv4, "raw", "PREROUTING", "OVL-PREROUTING"),
		jump(dataplane.IPv6, "filter", "FORWARD", "OVL-FORWARD"),

		dataplane.Link{LinkKey: dataplane.LinkKey{Name: bridge}, Kind: dataplane.Bridge, MAC: mac(1), MTU: 1430, Up: true, Alias: "ovl/1/blue/bridge"},
		dataplane.Link{
			LinkKey: dataplane.LinkKey{Name: vxlan}, Kind: dataplane.VXLAN, MAC: mac(2), MTU: 1430, Up: true, Alias: "ovl/1/blue/vxlan",
			VXLAN: dataplane.VXLANAttrs{VNI: 5, Port: 4789, Local: ip("192.0.2.1")},
		},
		dataplane.Link{
			LinkKey: dataplane.LinkKey{Name: vxlanSix}, Kind: dataplane.VXLAN, MAC: mac(3), MTU: 1410, Up: true, Alias: "ovl/1/red/vxlan",
			VXLAN: dataplane.VXLANAttrs{VNI: 6, Port: 4789, Local: ip("2001:db8::1")},
		},
		dataplane.Link{LinkKey: dataplane.LinkKey{Name: shim}, Kind: dataplane.Macvlan, MAC: mac(4), MTU: 1500, Up: true, Alias: "ovl/1/lan/shim", Parent: Uplink},
		address("", shim, "192.0.2.129/28"), route("", "192.0.2.128/28", shim, "", "192.0.2.129"),
		address("", bridge, "10.64.1.1/24"), address("", bridge, "fd64:0:0:1::1/64"),
		// A pair that waits on the host for a container engine.
		dataplane.Link{LinkKey: dataplane.LinkKey{Name: "ovp00000000000w"}, Kind: dataplane.Veth, MAC: mac(0x70), MTU: 1430, Alias: "ovl/1/blue/waits", Peer: "ove00000000000w"},
		dataplane.Link{LinkKey: dataplane.LinkKey{Name: "ove00000000000w"}, Kind: dataplane.Veth, MAC: mac(0x71), MTU: 1430, Up: true, Alias: "ovl/1/blue/waits", Master: bridge},
		address("", vxlan, "10.64.1.0/32"), address("", vxlan, "fd64:0:0:1::/128"),
		route("", "10.64.1.0/24", bridge, "", "10.64.1.1"), route("", "fd64:0:0:1::/64", bridge, "", "fd64:0:0:1::1"),
		enabled("net/ipv4/ip_forward"), enabled("net/ipv6/conf/all/forwarding"),
		fdb(vxlanSix, 9, "2001:db8::9"),
		unreachable("10.64.0.0/16"), unreachable("fd64::/48"),
		route("", "10.64.7.0/24", Uplink, "192.0.2.7", "10.64.1.1"), route("", "fd64:0:0:7::/64", Uplink, "2001:db8::7", "fd64:0:0:1::1"),
	)
	for i := range byte(2) {
		peer := netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 64, 2 + i, 0}), 24)
		six := netip.PrefixFrom(netip.AddrFrom16([16]byte{0: 0xfd, 1: 0x64, 7: 2 + i}), 64)
		s.Add(
			neigh(vxlan, peer.Addr().String(), 0x10+i), neigh(vxlan, six.Addr().String(), 0x10+i),
			fdb(vxlan, 0x10+i, netip.AddrFrom4([4]byte{192, 0, 2, 2 + i}).String()),
			onlink(route("", peer.String(), vxlan, peer.Addr().String(), "10.64.1.1")),
			onlink(route("", six.String(), vxlan, six.Addr().String(), "fd64:0:0:1::1")),
		)
	}
	for i, ns := range namespaces {
		s.Add(container(ns, byte(i))...)
	}
	return s
}

// container is the rows of one container.
func container(ns dataplane.NS, i byte) []dataplane.Row {
	host := "ove00000000000" + string('a'+rune(i))
	alias := "ovl/1/blue/c" + string('a'+rune(i))
	four := netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 64, 1, 10 + i}), 24).String()
	six := netip.PrefixFrom(netip.AddrFrom16([16]byte{0: 0xfd, 1: 0x64, 7: 1, 15: 0x10 + i}), 64)
	wire := netip.PrefixFrom(netip.AddrFrom4([4]byte{192, 0, 2, 130 + i}), 24).String()
	return []dataplane.Row{
		dataplane.Link{LinkKey: dataplane.LinkKey{NS: ns, Name: "eth0"}, Kind: dataplane.Veth, MAC: mac(0x20 + i), MTU: 1430, Up: true, Alias: alias, Peer: host},
		dataplane.Link{LinkKey: dataplane.LinkKey{Name: host}, Kind: dataplane.Veth, MAC: mac(0x40 + i), MTU: 1430, Up: true, Alias: alias, Master: bridge, Hairpin: i == 0},
		dataplane.Link{LinkKey: dataplane.LinkKey{NS: ns, Name: "lan0"}, Kind: dataplane.Macvlan, MAC: mac(0x60 + i), MTU: 1400, Up: true, Alias: "ovl/1/lan/c" + string('a'+rune(i)), Parent: Uplink},
		dataplane.NewQdisc(dataplane.QdiscKey{NS: ns, Link: "eth0"}, 1_250_000, 15_000), dataplane.NewQdisc(dataplane.QdiscKey{Link: host}, 12_500_000, 1<<20),
		address(ns, "lan0", wire), route(ns, "192.0.2.0/24", "lan0", "", netip.MustParsePrefix(wire).Addr().String()),
		address(ns, "eth0", four), address(ns, "eth0", six.String()),
		route(ns, "10.64.1.0/24", "eth0", "", netip.MustParsePrefix(four).Addr().String()),
		route(ns, "0.0.0.0/0", "eth0", "10.64.1.1", ""),
		route(ns, "fd64:0:0:1::/64", "eth0", "", six.Addr().String()),
		route(ns, "::/0", "eth0", "fd64:0:0:1::1", ""),
		spare(route(ns, "10.64.0.0/16", "eth0", "10.64.1.1", "")), spare(route(ns, "fd64::/48", "eth0", "fd64:0:0:1::1", "")),
		dataplane.Source(host, mac(0x20+i), netip.MustParsePrefix(four).Addr()), dataplane.Source(host, mac(0x20+i), six.Addr()),
		dataplane.Owner(netip.MustParsePrefix(four).Addr(), mac(0x20+i)), dataplane.Owner(six.Addr(), mac(0x20+i)),
		neigh(bridge, netip.MustParsePrefix(four).Addr().String(), 0x20+i), neigh(bridge, six.Addr().String(), 0x20+i),
		port(host, 0x20+i),
	}
}

func set(kind dataplane.SetKind, f dataplane.Family) dataplane.Set {
	return dataplane.Set{SetKey: dataplane.SetKey{Kind: kind, Family: f}}
}

func peers(over dataplane.Family, like string) dataplane.Set {
	return dataplane.Set{SetKey: dataplane.PeerSet(over, netip.MustParsePrefix(like))}
}

func peer(addr, from string) dataplane.Element {
	return dataplane.Peer(ip(addr), 5, netip.MustParsePrefix(from))
}

func mac(i byte) cluster.MAC { return cluster.MAC{2, 0x4a, 0, 0, 0, i} }

func ip(s string) netip.Addr { return netip.MustParseAddr(s) }

func jump(f dataplane.Family, table, from, to string) dataplane.Jump {
	return dataplane.Jump{JumpKey: dataplane.JumpKey{Family: f, FirewallOf: table, From: from, To: to}}
}

func address(ns dataplane.NS, link, p string) dataplane.Addr {
	return dataplane.Addr{AddrKey: dataplane.AddrKey{NS: ns, Link: link, Prefix: netip.MustParsePrefix(p)}}
}

func enabled(name string) dataplane.Sysctl {
	return dataplane.Sysctl{SysctlKey: dataplane.SysctlKey{Name: name}, Value: "1"}
}

func neigh(link, addr string, m byte) dataplane.Neigh {
	return dataplane.Neigh{NeighKey: dataplane.NeighKey{Link: link, IP: ip(addr)}, MAC: mac(m)}
}

func fdb(link string, m byte, dst string) dataplane.FDB {
	return dataplane.FDB{FDBKey: dataplane.FDBKey{Link: link, MAC: mac(m)}, Dst: ip(dst)}
}

// port is the entry of a bridge that leads to a port.
func port(link string, m byte) dataplane.FDB {
	return dataplane.FDB{FDBKey: dataplane.FDBKey{Link: link, MAC: mac(m)}}
}

func route(ns dataplane.NS, dst, link, via, src string) dataplane.Route {
	r := dataplane.Route{RouteKey: dataplane.RouteKey{NS: ns, Dst: netip.MustParsePrefix(dst)}, Link: link}
	if via != "" {
		r.Via = ip(via)
	}
	if src != "" {
		r.Src = ip(src)
	}
	return r
}

func unreachable(dst string) dataplane.Route {
	return dataplane.Route{RouteKey: dataplane.RouteKey{Dst: netip.MustParsePrefix(dst)}, Unreachable: true}
}

func spare(r dataplane.Route) dataplane.Route {
	r.Spare = true
	return r
}

func onlink(r dataplane.Route) dataplane.Route {
	r.OnLink = true
	return r
}
