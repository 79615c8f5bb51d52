package integration

import (
	"bytes"
	"fmt"
	"net"
	"testing"

	"github.com/gopacket/gopacket/layers"

	"github.com/ovlnet/ovl/internal/lab"
	"github.com/ovlnet/ovl/internal/lab/labtest"
)

// attempt is a frame that a container sends, and whether it may arrive.
type attempt struct {
	name    string
	arrives bool
	frame   []byte
}

// text is what marks the frame of an attempt wherever it is heard.
func text(name string) string { return "<" + name + ">" }

const lastFrame = "<the last frame>"

// onTheBridge are attempts against a neighbour on the same bridge.
func onTheBridge(t *testing.T, me, you, gw party) []attempt {
	t.Helper()
	var all []attempt
	add := func(arrives bool, name string, frame func(text string) []byte) {
		all = append(all, attempt{name, arrives, frame(text(name))})
	}
	all6 := net.ParseIP("ff02::1")
	mac6 := net.HardwareAddr{0x33, 0x33, 0, 0, 0, 1}
	none := net.IPv6zero

	for _, c := range []struct {
		name    string
		arrives bool
		mac     net.HardwareAddr
		from    party
	}{
		{"as itself", true, me.mac, me},
		{"as a neighbour", false, me.mac, you},
		{"as a neighbour with its MAC", false, you.mac, you},
		{"as the gateway", false, me.mac, gw},
		{"as the gateway with its MAC", false, gw.mac, gw},
		{"as itself with a neighbour's MAC", false, you.mac, me},
		{"as itself with the gateway's MAC", false, gw.mac, me},
		{"as itself from all", false, broadcast, me},
	} {
		add(c.arrives, "IPv4 "+c.name, func(s string) []byte { return datagram(t, s, c.mac, you.mac, c.from.four, you.four) })
		add(c.arrives, "IPv6 "+c.name, func(s string) []byte { return datagram(t, s, c.mac, you.mac, c.from.six, you.six) })
		add(c.arrives, "link-local "+c.name, func(s string) []byte { return datagram(t, s, c.mac, you.mac, c.from.local, you.six) })
		add(c.arrives, "ARP request "+c.name, func(s string) []byte { return arp(t, s, 1, c.mac, c.mac, c.from.four, you.four) })
		add(c.arrives, "ARP reply "+c.name, func(s string) []byte { return arp(t, s, 2, c.mac, c.mac, c.from.four, you.four) })
		add(c.arrives, "gratuitous ARP "+c.name, func(s string) []byte { return arp(t, s, 1, c.mac, c.mac, c.from.four, c.from.four) })
		add(false, "ARP probe "+c.name, func(s string) []byte { return arp(t, s, 1, c.mac, c.mac, net.IPv4zero, c.from.four) })
		add(c.arrives, "solicitation "+c.name, func(s string) []byte {
			return ipv6(t, s, c.mac, you.mac, c.from.six, you.six, layers.IPProtocolICMPv6, control(t, neighSolicit, c.from.six, you.six, 0, you.six...)...)
		})
		add(c.arrives, "advertisement "+c.name, func(s string) []byte {
			return ipv6(t, s, c.mac, you.mac, c.from.six, you.six, layers.IPProtocolICMPv6, control(t, neighAdvert, c.from.six, you.six, 1<<29, c.from.six...)...)
		})
		add(false, "detection of duplicates "+c.name, func(s string) []byte {
			return ipv6(t, s, c.mac, mac6, none, all6, layers.IPProtocolICMPv6, control(t, neighSolicit, none, all6, 0, c.from.six...)...)
		})
	}

	// What a frame that is rightly its own may not say.
	own := func(arrives bool, name string, from net.IP, next layers.IPProtocol, message []byte) {
		add(arrives, name, func(s string) []byte { return ipv6(t, s, me.mac, mac6, from, all6, next, message...) })
	}
	icmp := layers.IPProtocolICMPv6
	advert := control(t, routerAdvert, me.local, all6, 64<<24|1800, make([]byte, 8)...)
	own(false, "router advertisement", me.local, icmp, advert)
	own(false, "router advertisement behind options", me.local, layers.IPProtocolIPv6Destination, behind(icmp, advert))
	own(false, "router advertisement behind hop-by-hop options", me.local, layers.IPProtocolIPv6HopByHop, behind(icmp, advert))
	own(false, "router advertisement in a fragment", me.local, layers.IPProtocolIPv6Fragment, fragment(icmp, 0, true, advert))
	own(false, "options alone in a first fragment", me.local, layers.IPProtocolIPv6Fragment, fragment(layers.IPProtocolIPv6Destination, 0, true, behind(icmp, nil)))
	own(false, "redirect", me.local, icmp, control(t, redirect, me.local, all6, 0, append(append([]byte{}, me.six...), you.six...)...))
	for _, claimed := range []struct {
		name string
		ip   net.IP
	}{{"a neighbour's", you.six}, {"the gateway's", gw.six}, {"the gateway's link-local", gw.local}, {"a neighbour's link-local", you.local}} {
		claim := control(t, neighAdvert, me.six, all6, 1<<29, claimed.ip...)
		own(false, "advertisement of "+claimed.name+" address", me.six, icmp, claim)
		own(false, "advertisement of "+claimed.name+" address behind options", me.six, layers.IPProtocolIPv6Destination, behind(icmp, claim))
		own(false, "advertisement of "+claimed.name+" address in pieces", me.six, layers.IPProtocolIPv6Fragment, fragment(icmp, 0, true, claim[:8]))
	}
	own(true, "advertisement of its link-local address", me.six, icmp, control(t, neighAdvert, me.six, all6, 1<<29, me.local...))
	own(false, "router solicitation", me.local, icmp, control(t, routerSolicit, me.local, all6, 0))
	own(false, "router solicitation from none", none, icmp, control(t, routerSolicit, none, all6, 0))
	own(false, "report of groups", me.local, icmp, control(t, groupReport, me.local, all6, 0))
	own(false, "report of groups from none", none, icmp, control(t, groupReport, none, all6, 0))
	own(false, "ping from none", none, icmp, control(t, echoRequest, none, all6, 0))
	add(false, "ARP as itself at a neighbour's MAC", func(s string) []byte { return arp(t, s, 2, me.mac, you.mac, me.four, you.four) })
	add(false, "ARP of other lengths", func(s string) []byte {
		return craft(t, s, ether(me.mac, broadcast, layers.EthernetTypeARP), &layers.ARP{
			AddrType: layers.LinkTypeEthernet, Protocol: layers.EthernetTypeIPv4, HwAddressSize: 4, ProtAddressSize: 4, Operation: 2,
			SourceHwAddress: me.mac[:4], SourceProtAddress: gw.four, DstHwAddress: make([]byte, 4), DstProtAddress: you.four,
		})
	})
	for _, tags := range [][]uint16{{0}, {5}, {0, 0}} {
		for name, from := range map[string]party{"itself": me, "a neighbour": you} {
			add(false, fmt.Sprintf("tags %v as %s", tags, name), func(s string) []byte {
				return datagram(t, s, me.mac, you.mac, from.four, you.four, tags...)
			})
		}
	}
	add(false, "another protocol", func(s string) []byte { return craft(t, s+s, ether(me.mac, you.mac, 0x88b5)) }) // IEEE 802, local experiments
	return all
}

// throughTheTunnel are attempts against a container on another host.
func throughTheTunnel(t *testing.T, me, you, far, gw party) []attempt {
	t.Helper()
	var all []attempt
	for _, c := range []struct {
		name    string
		arrives bool
		mac     net.HardwareAddr
		four    net.IP
		six     net.IP
	}{
		{"as itself", true, me.mac, me.four, me.six},
		{"as a neighbour", false, me.mac, you.four, you.six},
		{"as a neighbour with its MAC", false, you.mac, you.four, you.six},
		{"as the other itself", false, me.mac, far.four, far.six},
		{"as the gateway", false, me.mac, gw.four, gw.six},
		{"as somebody outside", false, me.mac, net.IPv4(198, 51, 100, 7).To4(), net.ParseIP("2001:db8::7")},
	} {
		for family, from := range map[string]net.IP{"IPv4": c.four, "IPv6": c.six} {
			to := far.four
			if family == "IPv6" {
				to = far.six
			}
			name := "far " + family + " " + c.name
			all = append(all, attempt{name, c.arrives, datagram(t, text(name), c.mac, gw.mac, from, to)})
		}
	}
	return all
}

// judge compares what was heard with what was attempted.
func judge(t *testing.T, where string, attempts []attempt, heard [][]byte) {
	t.Helper()
	for _, a := range attempts {
		switch got := holds(heard, text(a.name)); {
		case got && !a.arrives:
			t.Errorf("%s got: %s", where, a.name)
		case !got && a.arrives:
			t.Errorf("%s did not get: %s", where, a.name)
		}
	}
}

// assault has one container try all on its neighbour, and on a far one if there is
// one.
func assault(t *testing.T, attacker, victim labtest.Container, far *labtest.Container) {
	t.Helper()
	me, you, gw := partyOf(t, attacker, "eth0"), partyOf(t, victim, "eth0"), gatewayParty(t, attacker, "eth0")
	near := onTheBridge(t, me, you, gw)
	for _, size := range []string{"56", "4000"} { // in pieces, too
		for _, to := range []net.IP{you.four, you.six} {
			attacker.Run(t, "ping", "-c1", "-W5", "-s", size, to.String())
		}
	}
	ears := []*ear{listen(t, victim, "eth0", lastFrame)}
	attempts := [][]attempt{near}
	last := [][]byte{datagram(t, lastFrame, me.mac, you.mac, me.four, you.four)}
	if far != nil {
		other := partyOf(t, *far, "eth0")
		ears = append(ears, listen(t, *far, "eth0", lastFrame))
		attempts = append(attempts, throughTheTunnel(t, me, you, other, gw))
		last = append(last, datagram(t, lastFrame, me.mac, gw.mac, me.four, other.four))
	}
	var frames [][]byte
	for _, some := range attempts {
		for _, a := range some {
			frames = append(frames, a.frame)
		}
	}
	sendFrames(t, attacker, "eth0", append(frames, last...))
	for i, e := range ears {
		judge(t, e.who.String(), attempts[i], e.heard(t))
	}
}

// TestContainersSpeakAsThemselves: a container has its own MAC and addresses, and no
// frame of it arrives that says otherwise: at a neighbour, on an overlay and on a
// bridge, and on another host.
func TestContainersSpeakAsThemselves(t *testing.T) {
	t.Parallel()
	l := labtest.Up(t, lab.Config{Hosts: 2})
	l.Run(t, "h1", "ovlctl", "network", "create", "blue", "--subnet", "10.64.0.0/16", "--subnet", "fd64::/48")
	l.Run(t, "h1", "ovlctl", "network", "create", "near", "--driver", "bridge", "--subnet", "10.65.0.0/16", "--subnet", "fd65::/48")
	attacker, victim := l.Sandbox(t, "h1", "attacker", "--network", "blue"), l.Sandbox(t, "h1", "victim", "--network", "blue")
	far := l.Sandbox(t, "h2", "far", "--network", "blue")
	nearAttacker, nearVictim := l.Sandbox(t, "h1", "near-attacker", "--network", "near"), l.Sandbox(t, "h1", "near-victim", "--network", "near")
	for _, a := range far.Addrs(t, "eth0") {
		reaches(t, attacker, a)
	}
	all := func(t *testing.T) {
		t.Helper()
		assault(t, attacker, victim, &far)
		assault(t, nearAttacker, nearVictim, nil)
	}
	t.Run("at first", all)
	t.Run("on two networks, as itself on each", func(t *testing.T) {
		attacker.Lab.Run(t, "h1", "ovlctl", "connect", "near", "attacker")
		me, you, blue := partyOf(t, attacker, "eth1"), partyOf(t, nearVictim, "eth0"), partyOf(t, attacker, "eth0")
		attempts := []attempt{
			{"on the second network as itself", true, datagram(t, text("on the second network as itself"), me.mac, you.mac, me.four, you.four)},
			{"with the other's MAC", false, datagram(t, text("with the other's MAC"), blue.mac, you.mac, me.four, you.four)},
			{"with the other's address", false, datagram(t, text("with the other's address"), me.mac, you.mac, blue.four, you.four)},
		}
		e := listen(t, nearVictim, "eth0", lastFrame)
		sendFrames(t, attacker, "eth1", [][]byte{attempts[0].frame, attempts[1].frame, attempts[2].frame, datagram(t, lastFrame, me.mac, you.mac, me.four, you.four)})
		judge(t, e.who.String(), attempts, e.heard(t))
		attacker.Lab.Run(t, "h1", "ovlctl", "disconnect", "near", "attacker")
	})
	t.Run("while the agent is away", func(t *testing.T) {
		if err := l.Kill(t.Context(), "h1", lab.Agent); err != nil {
			t.Fatal(err)
		}
		defer func() {
			if err := l.Start(t.Context(), "h1", lab.Agent); err != nil {
				t.Fatal(err)
			}
		}()
		assault(t, attacker, victim, &far)
	})
	t.Run("after the agent was away", all)
	t.Run("after all of nf_tables was flushed", func(t *testing.T) {
		l.Run(t, "h1", "nft", "flush", "ruleset")
		labtest.Until(t, "the rules are back", func() error { return l.AtRest(t, "h1") })
		all(t)
	})
	t.Run("where bridges do not call iptables", func(t *testing.T) {
		// Where they do, they put fragments together and cut off what is behind a packet.
		l.Run(t, "h1", "sh", "-c", "test ! -e /proc/sys/net/bridge || sysctl -qw net.bridge.bridge-nf-call-iptables=0 net.bridge.bridge-nf-call-ip6tables=0")
		all(t)
	})
	t.Run("without guards the frames arrive", func(t *testing.T) {
		if err := l.Kill(t.Context(), "h1", lab.Agent); err != nil {
			t.Fatal(err)
		}
		l.Run(t, "h1", "nft", "delete", "table", "bridge", "ovl")
		unguarded(t, attacker, victim)
	})
}

// unguarded sends what would not arrive, where nothing keeps it from arriving: so it is
// known to be well made. With others' MACs it would lead the bridge astray.
func unguarded(t *testing.T, attacker, victim labtest.Container) {
	t.Helper()
	me, you, gw := partyOf(t, attacker, "eth0"), partyOf(t, victim, "eth0"), gatewayParty(t, attacker, "eth0")
	e := listen(t, victim, "eth0", lastFrame)
	var attempts []attempt
	var frames [][]byte
	for _, a := range onTheBridge(t, me, you, gw) {
		if bytes.Equal(a.frame[6:12], me.mac) {
			a.arrives = true
			attempts, frames = append(attempts, a), append(frames, a.frame)
		}
	}
	sendFrames(t, attacker, "eth0", append(frames, datagram(t, lastFrame, me.mac, you.mac, me.four, you.four)))
	judge(t, e.who.String(), attempts, e.heard(t))
}
