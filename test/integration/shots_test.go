package integration

import (
	"encoding/binary"
	"net"
	"testing"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"

	"github.com/ovlnet/ovl/internal/lab/labtest"
)

// shot is a frame that somebody sends, and what becomes of it.
type shot struct {
	from, what string
	frame      []byte
	// arrives: it is right, and is there so that no ear is deaf.
	arrives bool
	// bare: it arrives where h1 has no guards, and so is well made. What is neither is
	// kept out by the kernel itself.
	bare bool
	// at is where it is looked for: an answer may hold it too.
	at place
}

// place is where frames arrive.
type place int

const (
	onTarget  place = iota // at a container on h1
	onOther                // at a container on h2
	tunnelEnd              // where it comes out of h1's tunnel
)

// end is where a host is on the wire, and where its end of a network's tunnel is.
type end struct {
	mac   net.HardwareAddr // of eth0
	addr  net.IP           // of the underlay
	vteps map[uint32]net.HardwareAddr
}

// aimedEar is where is listened what arrives: in a container, or where the tunnel ends.
type aimedEar struct {
	at     place
	who    labtest.Container
	link   string
	within []string // how a command gets there; nil: it is on the host
}

// The VNIs of the networks blue, red, and of none.
const (
	blue   = 100
	red    = 101
	nobody = 999
)

// target is all that there is to shoot at, and to speak as: h1 is the target's host,
// h2 one on both networks, h3 one on blue alone.
type target struct {
	t                     *testing.T
	h1, h2, h3, outside   end
	victim, neighbour     party // on blue, on h1
	bystander             party // on red, on h1
	far, farRed, third    party // on blue and red on h2, on blue on h3
	farGateway            party // of blue on h2
	gateway, redGateway   party // of blue and of red on h1
	alien, alienGateway   party // on a bridge of h1 that is none of ours
	mole                  party // a container on red on h1
	underlay6, inner6     bool
	ears                  []aimedEar
	shots                 []shot
	from                  string
	fromMAC, toMAC        net.HardwareAddr // of the frames on the sender's link
	outerSource, outerDst net.IP
}

// ip returns an address of the family of the inner packets.
func (x *target) ip(p party) net.IP {
	if x.inner6 {
		return p.six
	}
	return p.four
}

// ipOuter returns an address of the family of the underlay.
func (x *target) ipOuter(p party) net.IP {
	if x.underlay6 {
		return p.six
	}
	return p.four
}

// pick returns the first for IPv4, the second for IPv6.
func pick(six bool, four, or string) net.IP {
	a := net.ParseIP(four).To4()
	if six {
		a = net.ParseIP(or)
	}
	return a
}

func (x *target) outer(four, six string) net.IP { return pick(x.underlay6, four, six) }
func (x *target) inner(four, six string) net.IP { return pick(x.inner6, four, six) }

// sender sets who sends what follows, from which address and to whom.
func (x *target) sender(from string, fromMAC, toMAC net.HardwareAddr, src, dst net.IP) {
	x.from, x.fromMAC, x.toMAC, x.outerSource, x.outerDst = from, fromMAC, toMAC, src, dst
}

// mark is what is looked for of a shot: no other has it.
func (x *target) mark(what string) string {
	family := "IPv4"
	if x.inner6 {
		family = "IPv6"
	}
	return text(x.from + ", " + family + ": " + what)
}

// shoot adds a frame whole as it goes onto the sender's link.
func (x *target) shoot(s shot) {
	s.from = x.from
	x.shots = append(x.shots, s)
}

// through adds a frame of a tunnel with an inner frame.
func (x *target) through(s shot, vni uint32, inner []byte) {
	s.frame = x.packet(layers.IPProtocolUDP, x.udp(tunnelPort, encapsulated(vni, inner)))
	x.shoot(s)
}

// udp is a datagram with its checksum.
func (x *target) udp(port layers.UDPPort, payload []byte) []byte {
	return datagramOf(x.t, x.outerSource, x.outerDst, 49152, port, payload)
}

// packet puts a datagram into a frame from the sender to the target.
func (x *target) packet(protocol layers.IPProtocol, datagram []byte) []byte {
	return packetOf(x.t, x.fromMAC, x.toMAC, x.outerSource, x.outerDst, protocol, datagram)
}

// fragments sends a datagram in two pieces, the second from a multiple of eight bytes
// on, or, if they overlap, eight bytes before that.
func (x *target) fragments(s shot, at int, overlap bool, vni uint32, inner []byte) {
	whole := x.udp(tunnelPort, encapsulated(vni, inner))
	second := at
	if overlap {
		second -= 8
	}
	id := uint32(0x0100 + len(x.shots))
	for i, piece := range [][]byte{whole[:at], whole[second:]} {
		offset := []int{0, second}[i]
		var frame []byte
		if x.underlay6 {
			body := fragmentOf(layers.IPProtocolUDP, id, uint16(offset), i == 0, piece)
			frame = x.packet(layers.IPProtocolIPv6Fragment, body)
		} else {
			ip := &layers.IPv4{Version: 4, TTL: 64, Id: uint16(id), Protocol: layers.IPProtocolUDP, SrcIP: x.outerSource, DstIP: x.outerDst, FragOffset: uint16(offset / 8)}
			if i == 0 {
				ip.Flags = layers.IPv4MoreFragments
			}
			frame = craft(x.t, "", ether(x.fromMAC, x.toMAC, layers.EthernetTypeIPv4), ip, gopacket.Payload(piece))
		}
		one := s
		if one.frame = frame; i == 0 {
			one.what, one.arrives, one.bare = "", false, false // a piece alone is nothing
		}
		x.shoot(one)
	}
}

// fragmentOf is a piece of a message with an identification of its own.
func fragmentOf(next layers.IPProtocol, id uint32, offset uint16, more bool, piece []byte) []byte {
	b := fragment(next, offset, more, piece)
	binary.BigEndian.PutUint32(b[4:], id)
	return b
}

// encapsulated puts a frame behind a header of VXLAN (RFC 7348, section 5).
func encapsulated(vni uint32, frame []byte) []byte {
	return append(binary.BigEndian.AppendUint32([]byte{8, 0, 0, 0}, vni<<8), frame...)
}

// datagramOf is UDP with its checksum.
func datagramOf(t *testing.T, src, dst net.IP, from, to layers.UDPPort, payload []byte) []byte {
	t.Helper()
	udp := &layers.UDP{SrcPort: from, DstPort: to}
	if dst.To4() != nil {
		_ = udp.SetNetworkLayerForChecksum(&layers.IPv4{Protocol: layers.IPProtocolUDP, SrcIP: src, DstIP: dst})
	} else {
		_ = udp.SetNetworkLayerForChecksum(&layers.IPv6{NextHeader: layers.IPProtocolUDP, SrcIP: src, DstIP: dst})
	}
	return craft(t, "", udp, gopacket.Payload(payload))
}

// packetOf is a frame with an IP packet.
func packetOf(t *testing.T, fromMAC, toMAC net.HardwareAddr, src, dst net.IP, protocol layers.IPProtocol, payload []byte) []byte {
	t.Helper()
	if dst.To4() != nil {
		return craft(t, "", ether(fromMAC, toMAC, layers.EthernetTypeIPv4),
			&layers.IPv4{Version: 4, TTL: 64, Protocol: protocol, SrcIP: src, DstIP: dst}, gopacket.Payload(payload))
	}
	return craft(t, "", ether(fromMAC, toMAC, layers.EthernetTypeIPv6),
		&layers.IPv6{Version: 6, HopLimit: 64, NextHeader: protocol, SrcIP: src, DstIP: dst}, gopacket.Payload(payload))
}

// plain is an inner frame of h2 for a container on h1, with the mark of the shot.
func (x *target) plain(what string, vni uint32, from, to net.IP) []byte {
	return datagram(x.t, x.mark(what), x.h2.vteps[blue], x.h1.vteps[vni], from, to)
}

// liar are the shots of a member host that speaks as what it is not.
func (x *target) liar() {
	x.sender("member", x.h2.mac, x.h1.mac, x.h2.addr, x.h1.addr)
	victim := x.ip(x.victim)
	as := func(what string, arrives, bare bool, vni uint32, from, to net.IP) {
		x.through(shot{what: x.mark(what), arrives: arrives, bare: bare}, vni, x.plain(what, vni, from, to))
	}
	as("as its own container", true, true, blue, x.ip(x.far), victim)
	as("as its own gateway", true, true, blue, x.ip(x.farGateway), victim)
	as("as a container of another host", false, true, blue, x.ip(x.third), victim)
	as("as a container beside the target", false, true, blue, x.ip(x.neighbour), victim)
	as("as the target itself", false, true, blue, victim, victim)
	as("as the target's gateway", false, x.inner6, blue, x.ip(x.gateway), victim) // IPv4: a martian
	as("as its container on another network", false, true, blue, x.ip(x.farRed), victim)
	as("on another network as its own container", false, true, red, x.ip(x.far), x.ip(x.bystander))
	as("as a subnet that no host holds", false, true, blue, x.inner("10.64.0.9", "fd64:0:0:0:9::9"), victim)
	as("as somebody outside", false, true, blue, x.inner("198.51.100.7", "2001:db8::7"), victim)
	as("as the loopback", false, false, blue, x.inner("127.0.0.1", "::1"), victim)
	as("as a group", false, false, blue, x.inner("224.0.0.1", "ff02::1"), victim)
	as("as nobody", false, false, blue, x.inner("0.0.0.0", "::"), victim)
	as("to the broadcast address or all nodes", false, false, blue, x.ip(x.far), x.inner("255.255.255.255", "ff02::1"))

	inner := func(what string, bare bool, frame []byte) {
		x.through(shot{what: x.mark(what), bare: bare}, blue, frame)
	}
	mine, theirs := x.h2.vteps[blue], x.h1.vteps[blue]
	inner("right, to all MACs", false, datagram(x.t, x.mark("right, to all MACs"), mine, broadcast, x.ip(x.far), victim))
	inner("right, to the other network's MAC", false, datagram(x.t, x.mark("right, to the other network's MAC"), mine, x.h1.vteps[red], x.ip(x.far), victim))
	inner("in a VLAN", false, datagram(x.t, x.mark("in a VLAN"), mine, theirs, x.ip(x.far), victim, 5))
	inner("in VLAN 0", true, datagram(x.t, x.mark("in VLAN 0"), mine, theirs, x.ip(x.far), victim, 0))
	inner("in two VLANs", false, datagram(x.t, x.mark("in two VLANs"), mine, theirs, x.ip(x.far), victim, 5, 6))
	x.innerPieces("in pieces, as its own container", true, x.ip(x.far))
	x.innerPieces("in pieces, as another's", false, x.ip(x.third))
	x.outerPieces(victim)
	x.discovery()
	x.strange(victim)
	x.nested()
}

// innerPieces sends an inner packet in two pieces, the mark in the first.
func (x *target) innerPieces(what string, arrives bool, from net.IP) {
	to, theirs := x.ip(x.victim), x.h1.vteps[blue]
	whole := datagramOf(x.t, from, to, 9999, 9999, append([]byte(x.mark(what)), make([]byte, 64)...))
	at := (8 + len(x.mark(what)) + 7) &^ 7
	id := uint32(0x0200 + len(x.shots))
	for i, piece := range [][]byte{whole[:at], whole[at:]} {
		offset := uint16(at * i)
		var frame []byte
		if x.inner6 {
			frame = packetOf(x.t, x.h2.vteps[blue], theirs, from, to, layers.IPProtocolIPv6Fragment, fragmentOf(layers.IPProtocolUDP, id, offset, i == 0, piece))
		} else {
			ip := &layers.IPv4{Version: 4, TTL: 64, Id: uint16(id), Protocol: layers.IPProtocolUDP, SrcIP: from, DstIP: to, FragOffset: offset / 8}
			if i == 0 {
				ip.Flags = layers.IPv4MoreFragments
			}
			frame = craft(x.t, "", ether(x.h2.vteps[blue], theirs, layers.EthernetTypeIPv4), ip, gopacket.Payload(piece))
		}
		s := shot{}
		if i == 0 {
			s = shot{what: x.mark(what), arrives: arrives, bare: true}
		}
		x.through(s, blue, frame)
	}
}

// outerPieces sends the frames of the tunnel themselves in pieces.
func (x *target) outerPieces(victim net.IP) {
	for _, c := range []struct {
		what                   string
		from                   net.IP
		at                     int
		overlap, arrives, bare bool
	}{
		{"tunnel in pieces, as its own container", x.ip(x.far), 48, false, true, true},
		{"tunnel in pieces, as another's", x.ip(x.third), 48, false, false, true},
		{"tunnel cut behind UDP, as another's", x.ip(x.third), 8, false, false, true},
		{"tunnel in pieces that overlap, as its own container", x.ip(x.far), 48, true, false, false},
	} {
		x.fragments(shot{what: x.mark(c.what), arrives: c.arrives, bare: c.bare}, c.at, c.overlap, blue, x.plain(c.what, blue, c.from, victim))
	}
}

// discovery is what hosts say to their neighbours, and no host says in a tunnel.
func (x *target) discovery() {
	mine, theirs := x.h2.vteps[blue], x.h1.vteps[blue]
	say := func(what string, frame []byte) {
		x.through(shot{what: x.mark(what), bare: true, at: tunnelEnd}, blue, append(frame, x.mark(what)...))
	}
	if !x.inner6 {
		for what, op := range map[string]uint16{"ARP request": 1, "ARP reply": 2} {
			for who, ip := range map[string]net.IP{"itself": x.far.four, "the target": x.victim.four, "the target's gateway": x.gateway.four} {
				say(what+" as "+who, arp(x.t, "", op, mine, mine, ip, x.gateway.four))
			}
		}
		return
	}
	icmp := layers.IPProtocolICMPv6
	for who, from := range map[string]net.IP{"itself": x.far.six, "its link-local address": linkLocalOf(mine)} {
		say("solicitation as "+who, ipv6(x.t, "", mine, theirs, from, x.gateway.six, icmp, control(x.t, neighSolicit, from, x.gateway.six, 0, x.gateway.six...)...))
		say("advertisement as "+who, ipv6(x.t, "", mine, theirs, from, x.gateway.six, icmp, control(x.t, neighAdvert, from, x.gateway.six, 1<<29, x.victim.six...)...))
		advert := control(x.t, routerAdvert, from, x.gateway.six, 64<<24|1800, make([]byte, 8)...)
		say("router advertisement as "+who, ipv6(x.t, "", mine, theirs, from, x.gateway.six, icmp, advert...))
		say("router advertisement behind options as "+who, ipv6(x.t, "", mine, theirs, from, x.gateway.six, layers.IPProtocolIPv6Destination, behind(icmp, advert)...))
		say("redirect as "+who, ipv6(x.t, "", mine, theirs, from, x.gateway.six, icmp,
			control(x.t, redirect, from, x.gateway.six, 0, append(append([]byte{}, x.far.six...), x.victim.six...)...)...))
	}
}

// strange are frames whose headers are not as they should be, in the name of one who may
// send.
func (x *target) strange(victim net.IP) {
	header := func(what string, b ...byte) {
		frame := append(b, x.plain(what, blue, x.ip(x.far), victim)...)
		x.shoot(shot{what: x.mark(what), frame: x.packet(layers.IPProtocolUDP, x.udp(tunnelPort, frame))})
	}
	header("header of VXLAN without a VNI", 0, 0, 0, 0, 0, 0, blue, 0)
	header("header with a group policy", 0x88, 0, 0, 7, 0, 0, blue, 0)
	header("header of GPE", 0x0c, 0, 0, 1, 0, 0, blue, 0)
	header("header with a remote checksum", 0x08, 0x20, 0, 0, 0, 0, blue, 0x80)
	header("header with reserved bits", 0x08, 0, 0xff, 0, 0, 0, blue, 0)
	header("header with a reserved byte", 0x08, 0, 0, 0, 0, 0, blue, 1)

	whole := func(what string) []byte { return encapsulated(blue, x.plain(what, blue, x.ip(x.far), victim)) }
	wrong := func(what string, change func(udp []byte)) {
		udp := x.udp(tunnelPort, whole(what))
		change(udp)
		// IPv4 alone may do without (RFC 768, RFC 6935).
		without := what == "no checksum of UDP" && !x.underlay6
		x.shoot(shot{what: x.mark(what), frame: x.packet(layers.IPProtocolUDP, udp), arrives: without, bare: without})
	}
	wrong("wrong checksum of UDP", func(udp []byte) { udp[6] ^= 0x55 })
	wrong("no checksum of UDP", func(udp []byte) { udp[6], udp[7] = 0, 0 })
	wrong("length of UDP too long", func(udp []byte) { udp[4]++ })
	wrong("another port", func(udp []byte) { binary.BigEndian.PutUint16(udp[2:], 8472); udp[6], udp[7] = 0, 0 })
	for _, n := range []int{0, 4, 8, 12, 22, 30, 41} {
		// Nothing is to be found of these; that nothing comes at all is seen where the
		// tunnel ends.
		x.shoot(shot{frame: x.packet(layers.IPProtocolUDP, x.udp(tunnelPort, whole("cut off")[:n]))})
	}
	x.through(shot{what: x.mark("a VNI of nobody's")}, nobody, x.plain("a VNI of nobody's", blue, x.ip(x.far), victim))

	from, mine, theirs := x.ip(x.far), x.h2.vteps[blue], x.h1.vteps[blue]
	inner := func(what string, arrives bool, frame []byte) {
		x.through(shot{what: x.mark(what), arrives: arrives, bare: arrives}, blue, frame)
	}
	payload := func(what string) []byte { return datagramOf(x.t, from, victim, 9999, 9999, []byte(x.mark(what))) }
	if !x.inner6 {
		ip := func(what string, to net.IP, options ...layers.IPv4Option) []byte {
			return craft(x.t, "", ether(mine, theirs, layers.EthernetTypeIPv4),
				&layers.IPv4{Version: 4, TTL: 64, Protocol: layers.IPProtocolUDP, SrcIP: from, DstIP: to, Options: options}, gopacket.Payload(payload(what)))
		}
		gw := x.gateway.four
		for what, option := range map[string]uint8{"loose source route over the gateway": 131, "strict source route over the gateway": 137} {
			inner(what, false, ip(what, gw, layers.IPv4Option{OptionType: option, OptionLength: 7, OptionData: append([]byte{4}, victim...)}, layers.IPv4Option{OptionType: 0}))
		}
		broken := ip("wrong checksum of the inner packet", victim)
		broken[14+10] ^= 0x55
		inner("wrong checksum of the inner packet", false, broken)
		six := ip("inner packet of another version", victim)
		six[14] = 0x65
		inner("inner packet of another version", false, six)
		return
	}
	via := func(what string, typ, left byte) []byte {
		header := append([]byte{byte(layers.IPProtocolUDP), 2, typ, left, 0, 0, 0, 0}, victim...)
		return packetOf(x.t, mine, theirs, from, x.gateway.six, layers.IPProtocolIPv6Routing, append(header, payload(what)...))
	}
	inner("routing header over the gateway", false, via("routing header over the gateway", 0, 1))
	inner("segment routing over the gateway", false, via("segment routing over the gateway", 4, 1))
	inner("destination options", true, packetOf(x.t, mine, theirs, from, victim, layers.IPProtocolIPv6Destination, behind(layers.IPProtocolUDP, payload("destination options"))))
	four := packetOf(x.t, mine, theirs, from, victim, layers.IPProtocolUDP, payload("inner packet of another version"))
	four[14] = 0x45
	inner("inner packet of another version", false, four)
}

// nested are frames of a tunnel within one: at the end of the first stands a host with
// the port of the second.
func (x *target) nested() {
	mine, theirs := x.h2.vteps[blue], x.h1.vteps[blue]
	for _, c := range []struct {
		what string
		to   net.IP
		bare bool
	}{
		{"a tunnel in the tunnel, to the gateway", x.ip(x.gateway), x.inner6 == x.underlay6},
		{"a tunnel in the tunnel, to the other network's gateway", x.ip(x.redGateway), false},
		{"a tunnel in the tunnel, to the host", x.inner("192.168.77.1", "fd77::1"), false},
	} {
		forged := datagram(x.t, x.mark(c.what), x.h2.vteps[red], x.h1.vteps[red], x.ip(x.farRed), x.ip(x.bystander))
		udp := datagramOf(x.t, x.ip(x.far), c.to, 49152, tunnelPort, encapsulated(red, forged))
		x.through(shot{what: x.mark(c.what), bare: c.bare}, blue, packetOf(x.t, mine, theirs, x.ip(x.far), c.to, layers.IPProtocolUDP, udp))
	}
}

// absent are the shots of a member that is not on the network it sends to.
func (x *target) absent() {
	x.sender("member on another network", x.h3.mac, x.h1.mac, x.h3.addr, x.h1.addr)
	for what, from := range map[string]net.IP{"as its own container": x.ip(x.third), "as a container of that network": x.ip(x.farRed)} {
		x.through(shot{what: x.mark(what), bare: true}, red, x.plain(what, red, from, x.ip(x.bystander)))
	}
	x.through(shot{what: x.mark("on its own network as itself"), arrives: true, bare: true}, blue, x.plain("on its own network as itself", blue, x.ip(x.third), x.ip(x.victim)))
}

// strangers are the shots of somebody on the underlay who is no member.
func (x *target) strangers() {
	victim := x.ip(x.victim)
	for _, c := range []struct {
		what          string
		src           net.IP
		from          net.IP
		arrives, bare bool
	}{
		{"from its own address", x.outside.addr, x.ip(x.far), false, true},
		{"from its own address as a container beside the target", x.outside.addr, x.ip(x.neighbour), false, true},
		{"from the address of a host that there is not", x.outer("192.168.77.99", "fd77::99"), x.ip(x.far), false, true},
		{"from an address of the network", x.ipOuter(x.far), x.ip(x.far), false, true},
		{"from the target's address", x.h1.addr, x.ip(x.far), false, x.underlay6},
		{"from the loopback's address", x.outer("127.0.0.1", "::1"), x.ip(x.far), false, false},
		{"from a group", x.outer("224.0.0.1", "ff02::1"), x.ip(x.far), false, false},
		{"from the broadcast address or nobody", x.outer("255.255.255.255", "::"), x.ip(x.far), false, x.underlay6},
		{"from a member's address as another's container", x.h2.addr, x.ip(x.third), false, true},
		{"from a member's address as a container beside the target", x.h2.addr, x.ip(x.neighbour), false, true},
		{"from a member's address as that member's container", x.h2.addr, x.ip(x.far), true, true},
	} {
		x.sender("stranger", x.outside.mac, x.h1.mac, c.src, x.h1.addr)
		x.through(shot{what: x.mark(c.what), arrives: c.arrives, bare: c.bare}, blue, x.plain(c.what, blue, c.from, victim))
	}
}

// moles are the shots of a container on a network of ours, the one that is not the
// target's.
func (x *target) moles() {
	self := x.ipOuter(x.mole)
	for _, c := range []struct {
		what string
		src  net.IP
		dst  net.IP
		bare bool
	}{
		{"to the host", self, x.h1.addr, true},
		{"to its gateway", self, x.ipOuter(x.redGateway), true},
		{"to the target's gateway", self, x.ipOuter(x.gateway), false},
		{"to the host, from a member's address", x.h2.addr, x.h1.addr, true},
		{"to its gateway, from a member's address", x.h2.addr, x.ipOuter(x.redGateway), true},
		{"to the host, from the host's address", x.h1.addr, x.h1.addr, x.underlay6},
		{"to the host, from a container's address on another host", x.ipOuter(x.farRed), x.h1.addr, true},
	} {
		x.sender("container", x.mole.mac, x.redGateway.mac, c.src, c.dst)
		x.through(shot{what: x.mark(c.what), bare: c.bare}, blue, x.plain(c.what, blue, x.ip(x.far), x.ip(x.victim)))
	}
}

// aliens are the shots of a container on a bridge of the host that is none of ours,
// behind which somebody masquerades, as Docker does.
func (x *target) aliens() {
	self := x.ipOuter(x.alien)
	for _, c := range []struct {
		what string
		src  net.IP
		to   end
		dst  net.IP
		bare bool
	}{
		{"to the host", self, x.h1, x.h1.addr, true},
		{"to its gateway", self, x.h1, x.ipOuter(x.alienGateway), true},
		{"to the host, from a member's address", x.h2.addr, x.h1, x.h1.addr, true},
		{"to its gateway, from a member's address", x.h2.addr, x.h1, x.ipOuter(x.alienGateway), true},
		{"to another host, masqueraded", self, x.h2, x.h2.addr, true},
		{"to another host, from a third's address", x.h3.addr, x.h2, x.h2.addr, true},
	} {
		x.sender("container on another bridge", x.alien.mac, x.alienGateway.mac, c.src, c.dst)
		from, to, at := x.ip(x.far), x.ip(x.victim), onTarget
		if c.to.addr.Equal(x.h2.addr) {
			from, to, at = x.ip(x.victim), x.ip(x.far), onOther
			if c.src.Equal(x.h3.addr) {
				from = x.ip(x.third)
			}
		}
		frame := datagram(x.t, x.mark(c.what), x.h3.vteps[blue], c.to.vteps[blue], from, to)
		x.through(shot{what: x.mark(c.what), bare: c.bare, at: at}, blue, frame)
	}
}
