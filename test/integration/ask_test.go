package integration

import (
	"net"
	"slices"
	"strings"
	"testing"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"

	"github.com/ovlnet/ovl/internal/lab"
	"github.com/ovlnet/ovl/internal/lab/labtest"
)

// Who may hear a frame on a bridge.
const (
	byAsked = 1 << iota
	byThird
	byHost
	byNobody = 0
)

// query is a frame to all or to a group, and who has to hear it.
type query struct {
	name  string
	heard int
	frame []byte
}

// asks are the questions of a container, and what goes to all as ever.
func asks(t *testing.T, me, you, gw party) []query {
	t.Helper()
	var all []query
	add := func(heard int, name string, frame []byte) { all = append(all, query{name, heard, frame}) }
	who := func(heard int, name string, target net.IP) {
		add(heard, "ARP for "+name, arp(t, text("ARP for "+name), 1, me.mac, me.mac, me.four, target))
	}
	where := func(heard int, name string, from, target net.IP) {
		group := net.IP{0: 0xff, 1: 2, 11: 1, 12: 0xff, 13: target[13], 14: target[14], 15: target[15]} // RFC 4291 section 2.7.1
		mac := net.HardwareAddr{0x33, 0x33, 0xff, target[13], target[14], target[15]}
		add(heard, "solicitation of "+name, ipv6(t, text("solicitation of "+name), me.mac, mac, from, group, layers.IPProtocolICMPv6,
			control(t, neighSolicit, from, group, 0, append(slices.Clone(target), append([]byte{1, 1}, me.mac...)...)...)...))
	}
	nobody4, nobody6 := slices.Clone(me.four), slices.Clone(me.six)
	nobody4[3], nobody6[15] = 200, 200
	who(byAsked, "a neighbour", you.four)
	who(byHost, "the gateway", gw.four)
	who(byHost, "nobody", nobody4)
	who(byHost, "an address outside", net.IPv4(198, 51, 100, 7).To4())
	where(byAsked, "a neighbour", me.six, you.six)
	where(byAsked, "a neighbour by its link-local address", me.local, you.local)
	where(byHost, "the gateway", me.six, gw.six)
	where(byHost, "the gateway by its link-local address", me.local, gw.local)
	where(byHost, "nobody", me.six, nobody6)

	add(byNobody, "a probe", arp(t, text("a probe"), 1, me.mac, me.mac, net.IPv4zero, me.four))
	add(byAsked|byThird|byHost, "an announcement", arp(t, text("an announcement"), 1, me.mac, me.mac, me.four, me.four))
	add(byAsked|byThird|byHost, "a datagram to all", datagram(t, text("a datagram to all"), me.mac, broadcast, me.four, net.IPv4bcast.To4()))
	return all
}

// TestQuestionsGoToWhomTheyAsk: on a bridge nobody but the one that is asked hears a
// question, whoever he is, and he does though nothing has ever come from him.
func TestQuestionsGoToWhomTheyAsk(t *testing.T) {
	t.Parallel()
	l := labtest.Up(t, lab.Config{Hosts: 1})
	withStatics(t, l)
	l.Run(t, "h1", "ovlctl", "network", "create", "near", "--driver", "bridge", "--subnet", "10.65.0.0/16", "--subnet", "fd65::/48")
	asker, asked, third := l.Sandbox(t, "h1", "asker", "--network", "blue"), l.Sandbox(t, "h1", "asked", "--network", "blue"), l.Sandbox(t, "h1", "third", "--network", "blue")
	here := []labtest.Container{asker, asked, third}
	t.Run("overlay", func(t *testing.T) { listenAll(t, asker, asked, third) })
	t.Run("static address", func(t *testing.T) { listenAll(t, asker, static(t, l, "h1", "fixed"), third) })
	t.Run("bridge", func(t *testing.T) {
		var c []labtest.Container
		for _, name := range []string{"near-asker", "near-asked", "near-third"} {
			c = append(c, l.Sandbox(t, "h1", name, "--network", "near"))
		}
		listenAll(t, c[0], c[1], c[2])
	})
	t.Run("kernels that ask", func(t *testing.T) { kernelsAsk(t, l, asker, asked, third) })
	for _, by := range []struct{ name, what string }{
		{"the owners are flushed", "nft flush map bridge ovl owners_ipv4; nft flush map bridge ovl owners_ipv6"},
		{"an owner is another", "nft -f - <<EOF\ndelete element bridge ovl owners_ipv4 { ADDR }\nadd element bridge ovl owners_ipv4 { ADDR : 02:00:00:00:00:77 }\nEOF"},
		{"all of nf_tables is flushed", "nft flush ruleset"},
		{"a port is forgotten", "bridge fdb del MAC dev PORT master"},
		{"a port is plugged elsewhere", "ip link set PORT nomaster"},
	} {
		t.Run("mended when "+by.name, func(t *testing.T) {
			you := partyOf(t, asked, "eth0")
			l.Run(t, "h1", "sh", "-c", strings.NewReplacer("ADDR", you.four.String(), "MAC", you.mac.String(), "PORT", portOf(t, asked).Name).Replace(by.what))
			labtest.Until(t, "the rows are back", func() error { return l.AtRest(t, "h1") })
			listenAll(t, asker, asked, third)
		})
	}
	t.Run("while the agent is away", func(t *testing.T) {
		if err := l.Kill(t.Context(), "h1", lab.Agent); err != nil {
			t.Fatal(err)
		}
		listenAll(t, asker, asked, third)
		if err := l.Start(t.Context(), "h1", lab.Agent); err != nil {
			t.Fatal(err)
		}
		atRest(t, l)
	})
	t.Run("an address comes back with another MAC", func(t *testing.T) {
		complete(t, append(here, labtest.Container{Lab: l, Host: "h1", Name: "fixed"}))
		l.Run(t, "h1", "ovlctl", "rm", "-f", "fixed")
		fixed := static(t, l, "h1", "fixed", "--mac", "02:00:00:00:00:99")
		listenAll(t, asker, fixed, third)
		complete(t, append(here, fixed))
	})
	t.Run("the first port goes", func(t *testing.T) {
		// The bridge has the MAC that all ports share from one of them.
		l.Run(t, "h1", "ovlctl", "rm", "-f", "asker")
		asker, third = third, l.Sandbox(t, "h1", "later", "--network", "blue")
		listenAll(t, asker, asked, third)
	})
	t.Run("without guards all hear", func(t *testing.T) {
		if err := l.Kill(t.Context(), "h1", lab.Agent); err != nil {
			t.Fatal(err)
		}
		l.Run(t, "h1", "nft", "delete", "table", "bridge", "ovl")
		me, you, gw := partyOf(t, asker, "eth0"), partyOf(t, asked, "eth0"), gatewayParty(t, asker, "eth0")
		all := asks(t, me, you, gw)
		for i := range all {
			all[i].heard = byAsked | byThird | byHost
		}
		compare(t, all, asker, asked, third)
	})
}

// listenAll has a container ask, and its neighbours and the host listen.
func listenAll(t *testing.T, asker, asked, third labtest.Container) {
	t.Helper()
	gw := gatewayParty(t, asker, "eth0")
	compare(t, asks(t, partyOf(t, asker, "eth0"), partyOf(t, asked, "eth0"), gw), asker, asked, third)
}

// compare sends queries and compares who hears them.
func compare(t *testing.T, queries []query, asker, asked, third labtest.Container) {
	t.Helper()
	me := partyOf(t, asker, "eth0")
	ears := map[int]*ear{
		byAsked: listen(t, asked, "eth0", lastFrame), byThird: listen(t, third, "eth0", lastFrame),
		byHost: listenOn(t, asker.Lab, asker, portOf(t, asker).Master, lastFrame),
	}
	var frames [][]byte
	for _, q := range queries {
		frames = append(frames, q.frame)
	}
	sendFrames(t, asker, "eth0", append(frames, datagram(t, lastFrame, me.mac, broadcast, me.four, net.IPv4bcast.To4())))
	for by, name := range map[int]string{byAsked: "the one asked", byThird: "a third", byHost: "the host"} {
		got := ears[by].heard(t)
		for _, q := range queries {
			switch hears := holds(got, text(q.name)); {
			case hears && q.heard&by == 0:
				t.Errorf("%s hears %s", name, q.name)
			case !hears && q.heard&by != 0:
				t.Errorf("%s does not hear %s", name, q.name)
			}
		}
	}
}

// kernelsAsk has the kernels of a container and of the host look for their neighbours,
// which answer, and nobody else hears of it.
func kernelsAsk(t *testing.T, l *labtest.Lab, asker, asked, third labtest.Container) {
	t.Helper()
	me, you, gw := partyOf(t, asker, "eth0"), partyOf(t, asked, "eth0"), gatewayParty(t, asker, "eth0")
	e := listen(t, third, "eth0", lastFrame)
	asker.Run(t, "ip", "neigh", "flush", "dev", "eth0")
	for _, to := range []net.IP{you.four, you.six, gw.four, gw.six} {
		asker.Run(t, "ping", "-c1", "-W5", to.String())
		asker.Run(t, "ip", "neigh", "flush", "dev", "eth0")
	}
	asker.Run(t, "ping", "-c1", "-W5", you.local.String()+"%eth0")
	// The host answers no pings there, but it says where it is.
	asker.Run(t, "sh", "-c", "ping -c1 -W1 fe80::1%eth0; ip neigh show fe80::1 dev eth0 | grep "+gw.mac.String())
	for _, to := range []net.IP{you.four, you.six} {
		l.Run(t, "h1", "ping", "-c1", "-W5", to.String())
	}
	sendFrames(t, asker, "eth0", [][]byte{datagram(t, lastFrame, me.mac, broadcast, me.four, net.IPv4bcast.To4())})
	for _, f := range e.heard(t) {
		p := gopacket.NewPacket(f, layers.LayerTypeEthernet, gopacket.Default)
		// Of the host's kernel it may hear besides in which groups a link is that is new.
		if p.Layer(layers.LayerTypeARP) != nil || p.Layer(layers.LayerTypeICMPv6NeighborSolicitation) != nil {
			t.Errorf("%s hears %s", third, frame{third.Host, "eth0", p})
		}
	}
}

// port is the host's end of a container's interface.
type port struct {
	Name   string `json:"ifname"`
	Master string `json:"master"`
	Alias  string `json:"ifalias"`
}

// portOf finds the port of a container that is on one network, as the kernel has it.
func portOf(t *testing.T, c labtest.Container) port {
	t.Helper()
	var links []port
	c.Lab.JSON(t, &links, c.Host, "ip", "-j", "link", "show", "type", "veth")
	for _, p := range links {
		if p.Master != "" && strings.HasSuffix(p.Alias, "/"+c.Name) {
			return p
		}
	}
	t.Fatalf("%s has no port", c)
	return port{}
}
