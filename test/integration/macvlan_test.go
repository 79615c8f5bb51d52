package integration

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/gopacket/gopacket/layers"

	"github.com/ovlnet/ovl/internal/lab"
	"github.com/ovlnet/ovl/internal/lab/labtest"
)

// lan is a lab of two hosts with a network on the underlay's own segment, beside
// an overlay.
func lan(t *testing.T) *labtest.Lab {
	t.Helper()
	l := labtest.Up(t, lab.Config{Hosts: 2})
	l.Run(t, "h1", "ovlctl", "network", "create", "lan", "--driver", "macvlan", "--parent", "eth0",
		"--subnet", "192.168.77.0/24", "--gateway", "192.168.77.254", "--ip-range", "192.168.77.128/26")
	l.Run(t, "h1", "ovlctl", "network", "create", "blue", "--subnet", "10.64.0.0/16")
	return l
}

// macOn returns the MAC that a host, or a container's host, has of an address.
func macOn(t *testing.T, do func(testing.TB, ...string) string, a netip.Addr) string {
	t.Helper()
	f := strings.Fields(do(t, "ip", "neigh", "show", "to", a.String()))
	for i, word := range f {
		if word == "lladdr" {
			return f[i+1]
		}
	}
	t.Fatalf("%s has no neighbour entry: %q", a, f)
	return ""
}

func ownMAC(t *testing.T, c labtest.Container) string {
	t.Helper()
	return c.Run(t, "cat", "/sys/class/net/eth0/address")
}

// hostOf returns the host's own address in the container's network: its resolver.
func hostOf(t *testing.T, c labtest.Container) netip.Addr {
	t.Helper()
	return netip.MustParseAddr(gatewayOf(t, c))
}

func TestMacvlanIsOnTheSegment(t *testing.T) {
	t.Parallel()
	l := lan(t)
	outside := addressOf(t, l, lab.Outside)
	web := echo(t, l, "h1", "web", "lan")
	near := l.Sandbox(t, "h1", "near", "--network", "lan,alias=front")
	db := l.Sandbox(t, "h2", "db", "--network", "lan")
	blue, blueFar := l.Sandbox(t, "h1", "blue", "--network", "blue"), l.Sandbox(t, "h2", "blue-far", "--network", "blue")
	reaches(t, blue, blueFar.Addr(t))

	t.Run("containers of all hosts and strangers are neighbours", func(t *testing.T) {
		complete(t, []labtest.Container{web, near, db})
		for _, c := range []labtest.Container{web, db} {
			l.Run(t, lab.Outside, "ping", "-n", "-c1", "-W2", c.Addr(t).String())
			onOutside := func(tb testing.TB, args ...string) string { return l.Run(tb, lab.Outside, args...) }
			if got := macOn(t, onOutside, c.Addr(t)); got != ownMAC(t, c) {
				t.Errorf("outside has %s at %s, want its own MAC %s", c, got, ownMAC(t, c))
			}
			if err := c.Reaches(t, outside); err != nil {
				t.Error(err)
			}
		}
		if got := macOn(t, web.Run, db.Addr(t)); got != ownMAC(t, db) {
			t.Errorf("%s has %s at %s, want its own MAC %s", web, db, got, ownMAC(t, db))
		}
	})
	t.Run("the wire carries their own frames and no tunnel", func(t *testing.T) {
		c := startCapture(t, l, "h1")
		if err := web.Reaches(t, db.Addr(t)); err != nil {
			t.Error(err)
		}
		own := 0
		for _, f := range c.stop(t) {
			if f.packet.Layer(layers.LayerTypeICMPv4) == nil {
				continue
			}
			ether, ok := f.packet.LinkLayer().(*layers.Ethernet)
			if !ok || f.link != "eth0" || ether.SrcMAC.String() != ownMAC(t, web) || ether.DstMAC.String() != ownMAC(t, db) {
				t.Errorf("%s, want it on eth0 from %s to %s", f, ownMAC(t, web), ownMAC(t, db))
			}
			own++
		}
		if own == 0 {
			t.Error("no frame of the ping was on the wire of h1")
		}
		for _, host := range []string{"h1", "h2"} {
			for _, name := range ourLinks(t, l, host) {
				if strings.HasSuffix(name, "100") && name != "ovm100" {
					t.Errorf("%s has the link %s for a macvlan network", host, name)
				}
			}
		}
	})
	t.Run("they are seen as who they are", func(t *testing.T) {
		if got := ask(t, db, web.Addr(t)); got != db.Addr(t) {
			t.Errorf("%s is seen as %s", db, got)
		}
		if got := ask(t, db, outside); got != db.Addr(t) {
			t.Errorf("%s is seen outside as %s, want its own address", db, got)
		}
	})
	t.Run("names are those of all hosts", func(t *testing.T) {
		knows(t, web, "db.lan", "NOERROR "+db.Addr(t).String())
		knows(t, db, "front.lan.ovl.internal", "NOERROR "+near.Addr(t).String())
		digs(t, web, map[string]string{"-x " + db.Addr(t).String(): "NOERROR db.lan.ovl.internal.", "nope.lan": "NXDOMAIN"})
		web.Run(t, "ping", "-c1", "-W2", "db")
	})
	t.Run("names are not strangers'", func(t *testing.T) {
		r := l.Do(t, lab.Outside, "dig", "+time=1", "+tries=1", "@"+hostOf(t, web).String(), "web.lan.ovl.internal")
		if r.Code == 0 {
			t.Errorf("the host answers a stranger on the segment: %s", r.Stdout)
		}
	})
	t.Run("the host reaches its containers, and they it", func(t *testing.T) {
		for _, c := range []labtest.Container{web, near, db} {
			l.Run(t, "h1", "ping", "-n", "-c1", "-W2", c.Addr(t).String())
		}
		if err := web.Reaches(t, hostOf(t, web)); err != nil {
			t.Error(err)
		}
	})
	t.Run("the hosts' other addresses have not moved to ours", func(t *testing.T) {
		h1 := addressOf(t, l, "h1")
		l.Run(t, lab.Outside, "ip", "neigh", "flush", "all")
		l.Run(t, lab.Outside, "ping", "-n", "-c1", "-W2", h1.String())
		onOutside := func(tb testing.TB, args ...string) string { return l.Run(tb, lab.Outside, args...) }
		if got, want := macOn(t, onOutside, h1), strings.TrimSpace(l.Run(t, "h1", "cat", "/sys/class/net/eth0/address")); got != want {
			t.Errorf("outside has h1 at %s, want %s", got, want)
		}
	})
	t.Run("the host is no way between the networks", func(t *testing.T) {
		web.Run(t, "ip", "route", "add", "10.64.0.0/16", "via", hostOf(t, web).String())
		for _, to := range []netip.Addr{blue.Addr(t), blueFar.Addr(t), defaultGateway(t, blue)} {
			if err := web.Reaches(t, to); err == nil {
				t.Errorf("%s reaches %s by way of its host", web, to)
			}
		}
		web.Run(t, "ip", "route", "del", "10.64.0.0/16")
		for _, to := range []netip.Addr{web.Addr(t), hostOf(t, web)} {
			if err := blue.Reaches(t, to); err == nil {
				t.Errorf("%s reaches %s by way of its host", blue, to)
			}
		}
	})
	t.Run("a wanted address, one more network, one less", func(t *testing.T) {
		wanted := hostOf(t, web) // in the piece of h1, far from those that are given out
		for range 11 {
			wanted = wanted.Next()
		}
		pinned := l.Sandbox(t, "h1", "pinned", "--network", "lan", "--ip", wanted.String(), "--mac", "02:00:00:00:00:77")
		if got := pinned.Addr(t); got != wanted {
			t.Errorf("it has %s, want %s", got, wanted)
		}
		reaches(t, db, pinned.Addr(t))
		l.Run(t, "h1", "ovlctl", "connect", "lan", "blue")
		if got := way(t, blue); got != "eth0" {
			t.Errorf("default route by %s, want it to stay with the overlay", got)
		}
		if err := blue.Reaches(t, db.Addr(t)); err != nil {
			t.Error(err)
		}
		l.Run(t, "h1", "ovlctl", "disconnect", "lan", "blue")
		if out := blue.Run(t, "ip", "-br", "link"); strings.Contains(out, "eth1") {
			t.Errorf("after disconnecting it has %s", out)
		}
		reaches(t, blue, blueFar.Addr(t))
	})
	t.Run("an agent that starts again finds it all", func(t *testing.T) {
		ping := web.StartPing(t, db.Addr(t))
		before := l.Dump(t, "h1")
		if err := l.Stop(t.Context(), "h1", lab.Agent); err != nil {
			t.Fatal(err)
		}
		if err := l.Start(t.Context(), "h1", lab.Agent); err != nil {
			t.Fatal(err)
		}
		labtest.Until(t, "h1 is at rest", func() error { return l.AtRest(t, "h1") })
		if after := l.Dump(t, "h1"); after != before {
			t.Error(labtest.Difference(before, after))
		}
		ping.NoneLost(t)
	})
	t.Run("what is removed leaves nothing", func(t *testing.T) {
		l.Run(t, "h1", "ovlctl", "rm", "-f", "web")
		l.Run(t, "h1", "ovlctl", "run", "-d", "--name", "web", "--network", "lan")
		reaches(t, db, labtest.Container{Lab: l, Host: "h1", Name: "web"}.Addr(t))
	})
	atRest(t, l)
}

func TestMacvlanRefusals(t *testing.T) {
	t.Parallel()
	l := lan(t)
	l.Run(t, "h1", "ovlctl", "network", "create", "tagged", "--driver", "macvlan", "--parent", "eth0.100", "--subnet", "172.16.0.0/24")
	l.Run(t, "h1", "ovlctl", "network", "create", "away", "--driver", "macvlan", "--parent", "seg0", "--subnet", "172.17.0.0/24")
	l.Sandbox(t, "h1", "web", "--network", "blue")
	before := l.DumpNamespace(t, "h1", "web")
	for _, c := range []struct {
		args string
		code int
		says []string
	}{
		{"network create x --driver bridge --parent eth0", usage, []string{"parent", "macvlan"}},
		{"network create x --driver macvlan --subnet 172.18.0.0/24", usage, []string{"parent", "eth1.100"}},
		{"network create x --driver macvlan --parent eth0", usage, []string{"subnet of the segment"}},
		{"network create x --driver macvlan --parent eth0 --subnet 172.18.0.0/24", conflict, []string{"eth0", "network lan"}},
		{"network create x --driver macvlan --parent eth1 --subnet 192.168.77.0/24", conflict, []string{"network lan"}},
		{"network create x --subnet 192.168.77.0/25 --host-prefix 26", conflict, []string{"network lan"}},
		{"network create x --driver macvlan --parent eth1 --subnet 172.18.0.0/24 --gateway 172.19.0.1", usage, []string{"172.19.0.1"}},
		{"network create lan --driver macvlan --parent eth0 --subnet 192.168.77.0/24", conflict, []string{"gateway 192.168.77.254"}},
		{"run -d --name x --network away", conflict, []string{"away", "no interface seg0"}},
		{"connect away web", conflict, []string{"away", "no interface seg0"}},
		{"run -d --name x --network lan -p 8080:80", conflict, []string{"8080", "macvlan network lan"}},
		{"run -d --name x --network lan --network blue -p 8080:80", conflict, []string{"8080", "macvlan network lan"}},
		{"run -d --name x --network lan --ip 192.168.77.254", usage, []string{"gateway"}},
		{"run -d --name x --network lan --ip 192.168.77.2", usage, []string{"192.168.77.128/26"}},
		{"run -d --name x --network lan --ip 192.168.78.2", usage, []string{"192.168.78.2"}},
	} {
		r := l.Do(t, "h1", append([]string{"ovlctl"}, strings.Fields(c.args)...)...)
		if r.Code != c.code || strings.Count(r.Stderr, "\n") != 1 {
			t.Errorf("%s: %+v, want code %d and one line", c.args, r, c.code)
		}
		for _, word := range c.says {
			if !strings.Contains(r.Stderr, word) {
				t.Errorf("%s: %q does not say %q", c.args, r.Stderr, word)
			}
		}
	}
	if after := l.DumpNamespace(t, "h1", "web"); after != before {
		t.Errorf("a refusal left something behind:\n%s", labtest.Difference(before, after))
	}
	if r := l.Do(t, "h1", "ovlctl", "agent", "status"); r.Code != 5 || !strings.Contains(r.Stdout, "network away: this host has no interface seg0") {
		t.Errorf("agent status: %+v, want it to tell of the missing parent", r)
	}
	both := l.Sandbox(t, "h1", "both", "--network", "blue", "--network", "lan", "-p", "8080:80")
	reaches(t, both, addressOf(t, l, lab.Outside))

	t.Run("a VLAN, where the kernel has them or not", func(t *testing.T) {
		r := l.Do(t, "h1", "ovlctl", "run", "-d", "--name", "tag", "--network", "tagged")
		if l.Do(t, "h1", "sh", "-c", "ip link add link lo name probe type vlan id 2 && ip link del probe").Code == 0 {
			if out := l.Run(t, "h1", "ip", "-d", "link", "show", "type", "vlan"); r.Code != 0 || !strings.Contains(out, "id 100") {
				t.Errorf("run on a VLAN: %+v, links %s", r, out)
			}
			return
		}
		const says = "this kernel has no 802.1q (module 8021q)"
		if r.Code == 0 || !strings.Contains(r.Stderr, says) || strings.Count(r.Stderr, "\n") != 1 {
			t.Errorf("run on a VLAN: %+v, want one line that says %q", r, says)
		}
		if s := l.Do(t, "h1", "ovlctl", "agent", "status"); s.Code != 5 || !strings.Contains(s.Stdout, says) {
			t.Errorf("agent status: %+v, want it to say %q", s, says)
		}
	})
	t.Run("a parent that comes is taken", func(t *testing.T) {
		l.Run(t, "h1", "ip", "link", "add", "seg0", "type", "bridge")
		l.Run(t, "h1", "ip", "link", "set", "seg0", "up", "mtu", "1400")
		labtest.Until(t, "the agent has seen seg0", func() error {
			if r := l.Do(t, "h1", "ovlctl", "agent", "status"); strings.Contains(r.Stdout, "seg0") {
				return fmt.Errorf("agent status: %s", r.Stdout)
			}
			return nil
		})
		c := l.Sandbox(t, "h1", "x", "--network", "away")
		if out := c.Run(t, "ip", "link", "show", "eth0"); !strings.Contains(out, "mtu 1400") {
			t.Errorf("it is on %s, want the parent's MTU", out)
		}
	})
}
