package integration

import (
	"crypto/sha256"
	"net"
	"net/netip"
	"slices"
	"testing"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
)

// noise are frames that are none of anybody's business beyond the host on which
// a container sends them.
type noise struct {
	t      *testing.T
	mac    net.HardwareAddr // of the container
	own    []netip.Addr     // its addresses, of both families
	frames [][]byte
}

var (
	everybody  = net.HardwareAddr{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}
	linkLayer0 = net.HardwareAddr{0, 0, 0, 0, 0, 0}
)

func (n *noise) add(all ...gopacket.SerializableLayer) {
	n.t.Helper()
	buf := gopacket.NewSerializeBuffer()
	if err := gopacket.SerializeLayers(buf, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}, all...); err != nil {
		n.t.Fatal(err)
	}
	n.frames = append(n.frames, buf.Bytes())
}

// groupMAC returns the MAC of an IP multicast group (RFC 1112 section 6.4,
// RFC 2464 section 7), and the broadcast address for what is no group.
func groupMAC(a netip.Addr) net.HardwareAddr {
	b := a.AsSlice()
	switch {
	case a.Is4() && a.IsMulticast():
		return net.HardwareAddr{1, 0, 0x5e, b[1] & 0x7f, b[2], b[3]}
	case a.Is6() && a.IsMulticast():
		return net.HardwareAddr{0x33, 0x33, b[12], b[13], b[14], b[15]}
	default:
		return everybody
	}
}

// arp asks all for an address, claims it, and asks one directly.
func (n *noise) arp(self, target netip.Addr, gateway net.HardwareAddr) {
	for _, q := range []struct {
		to       net.HardwareAddr
		op       uint16
		src, dst netip.Addr
	}{
		{everybody, layers.ARPRequest, self, target},
		{gateway, layers.ARPRequest, self, target},
		{everybody, layers.ARPRequest, target, target}, // gratuitous, and a lie
		{everybody, layers.ARPReply, target, self},
	} {
		n.add(&layers.Ethernet{SrcMAC: n.mac, DstMAC: q.to, EthernetType: layers.EthernetTypeARP}, &layers.ARP{
			AddrType: layers.LinkTypeEthernet, Protocol: layers.EthernetTypeIPv4, HwAddressSize: 6, ProtAddressSize: 4, Operation: q.op,
			SourceHwAddress: n.mac, SourceProtAddress: q.src.AsSlice(), DstHwAddress: linkLayer0, DstProtAddress: q.dst.AsSlice(),
		})
	}
}

// udp sends a datagram.
func (n *noise) udp(src, dst netip.Addr, mac net.HardwareAddr, from, to layers.UDPPort) {
	udp := &layers.UDP{SrcPort: from, DstPort: to}
	if dst.Is4() {
		ip := &layers.IPv4{Version: 4, TTL: 64, Protocol: layers.IPProtocolUDP, SrcIP: src.AsSlice(), DstIP: dst.AsSlice()}
		_ = udp.SetNetworkLayerForChecksum(ip) // of a right layer
		n.add(&layers.Ethernet{SrcMAC: n.mac, DstMAC: mac, EthernetType: layers.EthernetTypeIPv4}, ip, udp, gopacket.Payload("noise"))
		return
	}
	ip := &layers.IPv6{Version: 6, HopLimit: 64, NextHeader: layers.IPProtocolUDP, SrcIP: src.AsSlice(), DstIP: dst.AsSlice()}
	_ = udp.SetNetworkLayerForChecksum(ip)
	n.add(&layers.Ethernet{SrcMAC: n.mac, DstMAC: mac, EthernetType: layers.EthernetTypeIPv6}, ip, udp, gopacket.Payload("noise"))
}

// icmp sends an ICMPv6 message.
func (n *noise) icmp(src, dst netip.Addr, mac net.HardwareAddr, kind uint8, body gopacket.SerializableLayer) {
	ip := &layers.IPv6{Version: 6, HopLimit: 255, NextHeader: layers.IPProtocolICMPv6, SrcIP: src.AsSlice(), DstIP: dst.AsSlice()}
	icmp := &layers.ICMPv6{TypeCode: layers.CreateICMPv6TypeCode(kind, 0)}
	_ = icmp.SetNetworkLayerForChecksum(ip)
	n.add(&layers.Ethernet{SrcMAC: n.mac, DstMAC: mac, EthernetType: layers.EthernetTypeIPv6}, ip, icmp, body)
}

// discovery asks for an address by neighbour discovery: as one does, and of the
// gateway alone.
func (n *noise) discovery(self, target netip.Addr, gateway net.HardwareAddr) {
	b := target.As16()
	group := netip.AddrFrom16([16]byte{0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, b[13], b[14], b[15]})
	solicit := &layers.ICMPv6NeighborSolicitation{TargetAddress: target.AsSlice(), Options: layers.ICMPv6Options{{Type: layers.ICMPv6OptSourceAddress, Data: n.mac}}}
	n.icmp(self, group, groupMAC(group), layers.ICMPv6TypeNeighborSolicitation, solicit)
	n.icmp(self, group, gateway, layers.ICMPv6TypeNeighborSolicitation, solicit)
	n.icmp(self, target, gateway, layers.ICMPv6TypeNeighborSolicitation, solicit)
	all := netip.MustParseAddr("ff02::1")
	n.icmp(self, all, groupMAC(all), layers.ICMPv6TypeNeighborAdvertisement, &layers.ICMPv6NeighborAdvertisement{
		Flags: 0x20, TargetAddress: target.AsSlice(), Options: layers.ICMPv6Options{{Type: layers.ICMPv6OptTargetAddress, Data: n.mac}},
	})
}

// noiseOf returns everything that a container may shout: with its own addresses
// or with none, about targets, and to MACs that are not on its bridge.
func noiseOf(t *testing.T, mac, gateway net.HardwareAddr, own, targets []netip.Addr, outside netip.Addr, strangers []net.HardwareAddr) [][]byte {
	t.Helper()
	n := &noise{t: t, mac: mac, own: own}
	random := sha256.Sum256(mac)
	strangers = append(strangers, append(net.HardwareAddr{2}, random[:5]...))
	for _, self := range own {
		for _, target := range targets {
			switch {
			case self.Is4() && target.Is4():
				n.arp(self, target, gateway)
			case self.Is6() && target.Is6():
				n.discovery(self, target, gateway)
			default:
				continue
			}
			for _, stranger := range append(strangers, everybody, gateway) { // unknown unicast, IP in a broadcast frame, and as it should be
				n.udp(self, target, stranger, 9, 9)
			}
		}
	}
	for _, self := range own {
		n.outward(self, outside, gateway)
	}
	n.groups(gateway)
	n.configuration(gateway)
	for _, kind := range []layers.EthernetType{0x88cc, 0x88b5, 0x8137, 0x0004} { // LLDP, an experiment, IPX, no type but a length
		for _, to := range append(strangers, everybody, net.HardwareAddr{1, 0x80, 0xc2, 0, 0, 0x0e}, gateway) {
			n.add(&layers.Ethernet{SrcMAC: mac, DstMAC: to, EthernetType: kind}, gopacket.Payload("noise of no protocol"))
		}
	}
	return n.frames
}

// outward sends to the outside what connection tracking does not follow: a
// connection that begins with a broadcast frame, a wrong checksum, the end of a
// connection that nobody has begun.
func (n *noise) outward(self, outside netip.Addr, gateway net.HardwareAddr) {
	if self.Is4() != outside.Is4() {
		return
	}
	n.udp(self, outside, everybody, 4000, 4000)
	n.udp(self, outside, gateway, 4000, 4000)
	n.udp(self, outside, gateway, 4001, 4001)
	last := slices.Clone(n.frames[len(n.frames)-1])
	last[len(last)-1] ^= 0xff // under the checksum
	n.frames[len(n.frames)-1] = last
	for _, tcp := range []*layers.TCP{{RST: true}, {FIN: true, ACK: true, Ack: 7}, {SYN: true, ACK: true, Ack: 7}} {
		tcp.SrcPort, tcp.DstPort, tcp.Seq, tcp.Window = 4002, 4002, 7, 100
		n.tcp(self, outside, gateway, tcp)
	}
}

// tcp sends a segment.
func (n *noise) tcp(src, dst netip.Addr, mac net.HardwareAddr, tcp *layers.TCP) {
	if dst.Is4() {
		ip := &layers.IPv4{Version: 4, TTL: 64, Protocol: layers.IPProtocolTCP, SrcIP: src.AsSlice(), DstIP: dst.AsSlice()}
		_ = tcp.SetNetworkLayerForChecksum(ip) // of a right layer
		n.add(&layers.Ethernet{SrcMAC: n.mac, DstMAC: mac, EthernetType: layers.EthernetTypeIPv4}, ip, tcp)
		return
	}
	ip := &layers.IPv6{Version: 6, HopLimit: 64, NextHeader: layers.IPProtocolTCP, SrcIP: src.AsSlice(), DstIP: dst.AsSlice()}
	_ = tcp.SetNetworkLayerForChecksum(ip)
	n.add(&layers.Ethernet{SrcMAC: n.mac, DstMAC: mac, EthernetType: layers.EthernetTypeIPv6}, ip, tcp)
}

// groups sends to every kind of group and broadcast address, to its MAC as one
// does and to the gateway's, so that a router is asked to carry it.
func (n *noise) groups(gateway net.HardwareAddr) {
	var to []netip.Addr
	for _, s := range []string{
		"255.255.255.255", "192.168.77.255", "10.255.255.255", "0.0.0.0", "224.0.0.1", "224.0.0.22", "224.0.0.251", "239.1.2.3", "232.1.1.1",
		"ff01::1", "ff02::1", "ff02::2", "ff02::16", "ff02::fb", "ff02::1:2", "ff05::1:3", "ff08::1", "ff0e::1234",
	} {
		to = append(to, netip.MustParseAddr(s))
	}
	for _, self := range n.own {
		if self.Is4() {
			for _, bits := range []int{24, 16} { // of the host's subnet, of the network
				p, _ := self.Prefix(bits)
				to = append(to, broadcastOf(p), p.Addr())
			}
		}
		for _, dst := range to {
			if dst.Is4() != self.Is4() {
				continue
			}
			for _, mac := range []net.HardwareAddr{groupMAC(dst), gateway} {
				n.udp(self, dst, mac, 5353, 5353)
			}
			if dst.Is6() {
				n.icmp(self, dst, groupMAC(dst), layers.ICMPv6TypeEchoRequest, &layers.ICMPv6Echo{})
			}
		}
	}
}

// configuration asks for addresses and routers, offers itself as one, and joins
// groups.
func (n *noise) configuration(gateway net.HardwareAddr) {
	none, all := netip.IPv4Unspecified(), netip.MustParseAddr("255.255.255.255")
	for _, mac := range []net.HardwareAddr{everybody, gateway} {
		udp := &layers.UDP{SrcPort: 68, DstPort: 67}
		ip := &layers.IPv4{Version: 4, TTL: 64, Protocol: layers.IPProtocolUDP, SrcIP: none.AsSlice(), DstIP: all.AsSlice()}
		_ = udp.SetNetworkLayerForChecksum(ip)
		n.add(&layers.Ethernet{SrcMAC: n.mac, DstMAC: mac, EthernetType: layers.EthernetTypeIPv4}, ip, udp, &layers.DHCPv4{
			Operation: layers.DHCPOpRequest, HardwareType: layers.LinkTypeEthernet, HardwareLen: 6, ClientHWAddr: n.mac, Flags: 0x8000,
			Options: layers.DHCPOptions{layers.NewDHCPOption(layers.DHCPOptMessageType, []byte{byte(layers.DHCPMsgTypeDiscover)}), layers.NewDHCPOption(layers.DHCPOptEnd, nil)},
		})
	}
	for _, self := range append([]netip.Addr{netip.IPv6Unspecified(), netip.MustParseAddr("fe80::bad")}, n.own...) {
		if self.Is4() {
			continue
		}
		servers, routers, members := netip.MustParseAddr("ff02::1:2"), netip.MustParseAddr("ff02::2"), netip.MustParseAddr("ff02::16")
		n.udp(self, servers, groupMAC(servers), 546, 547)
		n.icmp(self, routers, groupMAC(routers), layers.ICMPv6TypeRouterSolicitation, &layers.ICMPv6RouterSolicitation{})
		one := netip.MustParseAddr("ff02::1")
		n.icmp(self, one, groupMAC(one), layers.ICMPv6TypeRouterAdvertisement, &layers.ICMPv6RouterAdvertisement{HopLimit: 64, RouterLifetime: 1800})
		n.icmp(self, members, groupMAC(members), layers.ICMPv6TypeMLDv2MulticastListenerReportMessageV2, gopacket.Payload{
			0, 0, 0, 1, 4, 0, 0, 0, 0xff, 5, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 3, // one record: join ff05::1:3 (RFC 3810 section 5.2)
		})
	}
}
