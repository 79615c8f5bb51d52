package integration

import (
	"bytes"
	"encoding/binary"
	"hash/fnv"
	"net"
	"net/netip"
	"slices"
	"testing"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"

	"github.com/ovlnet/ovl/internal/lab/labtest"
)

// party is who a frame is from, or says that it is from.
type party struct {
	mac       net.HardwareAddr
	four, six net.IP
	local     net.IP // link-local
}

var broadcast = net.HardwareAddr{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}

// partyOf returns a container as it is on a link of a network of both families.
func partyOf(t *testing.T, c labtest.Container, link string) party {
	t.Helper()
	var links []struct {
		Address string `json:"address"`
	}
	c.Lab.JSON(t, &links, c.Host, "ovlctl", "exec", c.Name, "--", "ip", "-j", "link", "show", "dev", link)
	mac, err := net.ParseMAC(links[0].Address)
	if err != nil {
		t.Fatal(err)
	}
	p := party{mac: mac, local: linkLocalOf(mac)}
	for _, a := range c.Addrs(t, link) {
		if a.Is4() {
			p.four = a.AsSlice()
		} else {
			p.six = a.AsSlice()
		}
	}
	return p
}

// linkLocalOf is what the kernel makes of a MAC.
func linkLocalOf(mac net.HardwareAddr) net.IP {
	return net.IP{0: 0xfe, 1: 0x80, 8: mac[0] ^ 2, 9: mac[1], 10: mac[2], 11: 0xff, 12: 0xfe, 13: mac[3], 14: mac[4], 15: mac[5]}
}

// gatewayParty returns the first address of the subnet of a container on a link, in
// both families, and its MAC.
func gatewayParty(t *testing.T, c labtest.Container, link string) party {
	t.Helper()
	gw := party{local: net.ParseIP("fe80::1")}
	for _, family := range []string{"-4", "-6"} {
		var routes []struct {
			Gateway netip.Addr `json:"gateway"`
		}
		c.Lab.JSON(t, &routes, c.Host, "ovlctl", "exec", c.Name, "--", "ip", family, "-j", "route", "show", "default", "dev", link)
		if family == "-4" {
			gw.four = routes[0].Gateway.AsSlice()
		} else {
			gw.six = routes[0].Gateway.AsSlice()
		}
		c.Run(t, "ping", "-c1", "-W2", routes[0].Gateway.String())
	}
	var neighbours []struct {
		Lladdr string `json:"lladdr"`
	}
	c.Lab.JSON(t, &neighbours, c.Host, "ovlctl", "exec", c.Name, "--", "ip", "-j", "neigh", "show", gw.four.String(), "dev", link)
	var err error
	if gw.mac, err = net.ParseMAC(neighbours[0].Lladdr); err != nil {
		t.Fatal(err)
	}
	return gw
}

// label returns a flow label for a text.
func label(text string) uint32 {
	h := fnv.New32a()
	_, _ = h.Write([]byte(text))
	return h.Sum32() & 0xfffff
}

// tells reports whether a frame is the one of a text.
func tells(frame []byte, text string) bool {
	const typ, flow = 12, 14 // where the type and the IPv6 header begin
	if len(frame) >= flow+4 && frame[typ] == 0x86 && frame[typ+1] == 0xdd && binary.BigEndian.Uint32(frame[flow:])&0xfffff == label(text) {
		return true
	}
	return bytes.Contains(frame, []byte(text))
}

// craft makes a frame of layers, lengths and checksums as they should be, with a
// text behind it all that no receiver minds.
func craft(t *testing.T, text string, stack ...gopacket.SerializableLayer) []byte {
	t.Helper()
	buf := gopacket.NewSerializeBuffer()
	if err := gopacket.SerializeLayers(buf, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}, stack...); err != nil {
		t.Fatal(err)
	}
	return append(slices.Clone(buf.Bytes()), text...)
}

func ether(from, to net.HardwareAddr, typ layers.EthernetType) *layers.Ethernet {
	return &layers.Ethernet{SrcMAC: from, DstMAC: to, EthernetType: typ}
}

// datagram is UDP from one address to another, with the text in it: a router
// keeps nothing behind it.
func datagram(t *testing.T, text string, fromMAC, toMAC net.HardwareAddr, from, to net.IP, tags ...uint16) []byte {
	t.Helper()
	udp := &layers.UDP{SrcPort: 9999, DstPort: 9999}
	var network gopacket.SerializableLayer
	typ := layers.EthernetTypeIPv6
	if to.To4() != nil {
		ip := &layers.IPv4{Version: 4, TTL: 64, Protocol: layers.IPProtocolUDP, SrcIP: from, DstIP: to}
		network, typ = ip, layers.EthernetTypeIPv4
		_ = udp.SetNetworkLayerForChecksum(ip)
	} else {
		ip := &layers.IPv6{Version: 6, HopLimit: 64, NextHeader: layers.IPProtocolUDP, SrcIP: from, DstIP: to}
		network = ip
		_ = udp.SetNetworkLayerForChecksum(ip)
	}
	stack := []gopacket.SerializableLayer{ether(fromMAC, toMAC, typ)}
	if len(tags) > 0 {
		stack[0] = ether(fromMAC, toMAC, layers.EthernetTypeDot1Q)
		for i, id := range tags {
			inner := typ
			if i < len(tags)-1 {
				inner = layers.EthernetTypeDot1Q
			}
			stack = append(stack, &layers.Dot1Q{VLANIdentifier: id, Type: inner})
		}
	}
	return craft(t, "", append(stack, network, udp, gopacket.Payload(text))...)
}

// arp is a message of ARP: within it, sender is at mac.
func arp(t *testing.T, text string, op uint16, frameMAC, mac net.HardwareAddr, sender, target net.IP) []byte {
	t.Helper()
	return craft(t, text, ether(frameMAC, broadcast, layers.EthernetTypeARP), &layers.ARP{
		AddrType: layers.LinkTypeEthernet, Protocol: layers.EthernetTypeIPv4, HwAddressSize: 6, ProtAddressSize: 4, Operation: op,
		SourceHwAddress: mac, SourceProtAddress: sender.To4(), DstHwAddress: make([]byte, 6), DstProtAddress: target.To4(),
	})
}

// The types of ICMPv6 (RFC 4443, RFC 4861, RFC 3810).
const (
	echoRequest   = 128
	routerSolicit = 133
	routerAdvert  = 134
	neighSolicit  = 135
	neighAdvert   = 136
	redirect      = 137
	groupReport   = 143
)

// control is a message of ICMPv6 with its checksum: four bytes of flags, and what
// is behind them.
func control(t *testing.T, typ uint8, from, to net.IP, flags uint32, body ...byte) []byte {
	t.Helper()
	icmp := &layers.ICMPv6{TypeCode: layers.CreateICMPv6TypeCode(typ, 0)}
	_ = icmp.SetNetworkLayerForChecksum(&layers.IPv6{SrcIP: from, DstIP: to})
	return craft(t, "", icmp, gopacket.Payload(append(binary.BigEndian.AppendUint32(nil, flags), body...)))
}

// ipv6 puts a message into a frame, behind a header of the given protocol. The text
// is told by the flow label: the message may have no room for it, and what is behind
// a packet a bridge may cut off (br_validate_ipv6 in the kernel's br_netfilter).
func ipv6(t *testing.T, text string, fromMAC, toMAC net.HardwareAddr, from, to net.IP, next layers.IPProtocol, message ...byte) []byte {
	t.Helper()
	return craft(t, "", ether(fromMAC, toMAC, layers.EthernetTypeIPv6),
		&layers.IPv6{Version: 6, FlowLabel: label(text), HopLimit: 255, NextHeader: next, SrcIP: from, DstIP: to}, gopacket.Payload(message))
}

// behind returns a message behind a header of options that say nothing (RFC 8200,
// section 4.6).
func behind(next layers.IPProtocol, message []byte) []byte {
	return append([]byte{byte(next), 0, 1, 4, 0, 0, 0, 0}, message...)
}

// fragment returns a piece of a message, from a multiple of eight bytes on.
func fragment(next layers.IPProtocol, offset uint16, more bool, piece []byte) []byte {
	place := offset &^ 7
	if more {
		place |= 1
	}
	b := binary.BigEndian.AppendUint16([]byte{byte(next), 0}, place)
	return append(binary.BigEndian.AppendUint32(b, 0xabad1dea), piece...)
}
