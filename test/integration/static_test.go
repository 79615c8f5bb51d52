package integration

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sync/errgroup"

	"github.com/ovlnet/ovl/internal/lab"
	"github.com/ovlnet/ovl/internal/lab/labtest"
)

// The static addresses of the tests, one of each family.
var statics = []netip.Addr{netip.MustParseAddr("10.64.255.9"), netip.MustParseAddr("fd64:0:0:ff::9")}

// withStatics creates the network blue with a static range of each family.
func withStatics(t *testing.T, l *labtest.Lab, more ...string) {
	t.Helper()
	l.Run(t, "h1", append([]string{
		"ovlctl", "network", "create", "blue", "--subnet", "10.64.0.0/16", "--subnet", "fd64::/48",
		"--static-range", "10.64.255.0/24", "--static-range", "fd64:0:0:ff::/64",
	}, more...)...)
}

// static starts a sandbox with the static addresses.
func static(t *testing.T, l *labtest.Lab, host, name string, more ...string) labtest.Container {
	t.Helper()
	return l.Sandbox(t, host, name, append([]string{"--network", "blue", "--ip", statics[0].String(), "--ip", statics[1].String()}, more...)...)
}

// TestAStaticAddressMoves: a container goes from host to host and back, and its
// addresses with it. Everybody reaches it where it is, and nothing anywhere
// leads to where it was.
func TestAStaticAddressMoves(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		more []string
		by   [2]string // the device to other hosts, of each family
	}{
		"through the tunnel": {nil, [2]string{"ovx100", "ovx100"}},
		"directly":           {[]string{"--direct-routing"}, [2]string{"eth0", "ovx100"}}, // over an IPv4 underlay
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := threeHosts(t)
			withStatics(t, l, c.more...)
			clients := onEach(t, l, "blue")
			static(t, l, "h1", "db")
			meetDB(t, l, clients, "h1", c.by)
			stream := clients[2].StartPing(t, statics[0])

			r := l.Do(t, "h2", "ovlctl", "run", "-d", "--name", "db", "--network", "blue", "--ip", statics[0].String())
			refused(t, r, 4, "host h1 has 10.64.255.9, for container db")

			l.Run(t, "h1", "ovlctl", "rm", "-f", "db")
			static(t, l, "h2", "db")
			meetDB(t, l, clients, "h2", c.by)
			if answered, lost := stream.Stop(t); len(lost) == 0 {
				t.Errorf("of the stream from h3 %d packets were answered and none was lost: it never reached the new place", answered)
			}

			// Back again, with another MAC than the one that the host knew.
			l.Run(t, "h2", "ovlctl", "rm", "-f", "db")
			static(t, l, "h1", "db", "--mac", "02:00:00:00:00:99")
			meetDB(t, l, clients, "h1", c.by)
			atRest(t, l)
		})
	}
}

// meetDB checks that all clients, all hosts and the outside have to do with
// the container db at its static addresses on that host, and with nothing else.
func meetDB(t *testing.T, l *labtest.Lab, clients []labtest.Container, host string, by [2]string) {
	t.Helper()
	db := labtest.Container{Lab: l, Host: host, Name: "db"}
	complete(t, append(slices.Clone(clients), db))
	for i, a := range statics {
		for _, h := range l.Members() {
			l.Run(t, h, "ping", "-n", "-c1", "-W2", a.String())
			dev := by[i]
			if h == host {
				dev = "ovb100"
			}
			leadsTo(t, l, h, a, dev)
		}
		for _, c := range clients {
			throughItsGateway(t, c, a)
		}
	}
	knows(t, db, clients[0].Name, "NOERROR "+clients[0].Addrs(t, "eth0")[0].String())
	for _, c := range clients {
		knows(t, c, "db", "NOERROR "+statics[0].String())
		digs(t, c, map[string]string{"db AAAA": "NOERROR " + statics[1].String(), "-x " + statics[0].String(): "NOERROR db.blue.ovl.internal."})
	}
	if got := ask(t, db, addressOf(t, l, lab.Outside)); got != addressOf(t, l, host) {
		t.Errorf("db is seen outside as %s, want its host's %s", got, addressOf(t, l, host))
	}
}

// leadsTo checks by which device a host reaches an address, and that it has no
// neighbour of that address on any other.
func leadsTo(t *testing.T, l *labtest.Lab, host string, a netip.Addr, dev string) {
	t.Helper()
	if got := device(t, l, host, a); got != dev {
		t.Errorf("%s reaches %s by %s, want %s", host, a, got, dev)
	}
	var entries []struct{ Dst, Dev string }
	l.JSON(t, &entries, host, "ip", "-j", "neighbour", "show", a.String())
	for _, e := range entries {
		if e.Dst == a.String() && e.Dev != dev {
			t.Errorf("%s still has %s on %s", host, e.Dst, e.Dev)
		}
	}
}

// throughItsGateway checks that a container reaches an address by its gateway,
// and was not told of a shorter way that would not outlive a move.
func throughItsGateway(t *testing.T, c labtest.Container, a netip.Addr) {
	t.Helper()
	out := c.Run(t, "ip", "route", "get", a.String())
	if !strings.Contains(out, " via ") || strings.Contains(out, "redirected") || strings.Contains(out, "via "+a.String()) {
		t.Errorf("%s reaches %s by %q, want it through its gateway", c, a, out)
	}
}

// TestStaticAddresses: what is refused, who has what, and that of two hosts one
// gets an address.
func TestStaticAddresses(t *testing.T) {
	t.Parallel()
	l := labtest.Up(t, lab.Config{Hosts: 2})
	withStatics(t, l)
	web := echo(t, l, "h2", "web", "blue")

	t.Run("a container with one is seen with it", func(t *testing.T) {
		db := static(t, l, "h1", "db")
		if got := ask(t, db, web.Addrs(t, "eth0")[0]); got != statics[0] {
			t.Errorf("seen as %s, want %s", got, statics[0])
		}
		out := l.Run(t, "h2", "ovlctl", "subnet", "ls", "--network", "blue")
		if !strings.Contains(out, "10.64.255.9/32") || !strings.Contains(out, "fd64:0:0:ff::9/128") {
			t.Errorf("subnets:\n%s", out)
		}
		if out := l.Run(t, "h2", "ovlctl", "whois", "10.64.255.9"); !strings.Contains(out, "h1") {
			t.Errorf("whois: %s", out)
		}
		// On its host it can start again at once, and elsewhere when it is gone.
		l.Run(t, "h1", "ovlctl", "rm", "-f", "db")
		again := static(t, l, "h1", "db")
		if err := again.Reaches(t, web.Addrs(t, "eth0")[0]); err != nil {
			t.Error(err)
		}
		l.Run(t, "h1", "ovlctl", "rm", "-f", "db")
	})
	t.Run("one comes with a network and goes with it", func(t *testing.T) {
		l.Run(t, "h1", "ovlctl", "network", "create", "red", "--internal")
		late := l.Sandbox(t, "h1", "late", "--network", "red")
		refused(t, l.Do(t, "h1", "ovlctl", "connect", "blue", "late", "--ip", "10.64.255.255"), 2, "broadcast address of 10.64.0.0/16")
		l.Run(t, "h1", "ovlctl", "connect", "blue", "late", "--ip", statics[0].String(), "--ip", statics[1].String())
		for _, a := range statics {
			reaches(t, web, a)
		}
		reaches(t, late, web.Addrs(t, "eth0")[0])
		l.Run(t, "h1", "ovlctl", "disconnect", "blue", "late")
		there := static(t, l, "h2", "there")
		l.Run(t, "h2", "ovlctl", "rm", "-f", there.Name)
	})
	t.Run("one with published ports", func(t *testing.T) {
		pub := echo(t, l, "h1", "pub", "blue,ip="+statics[0].String(), "8080:7777", "8080:7777/udp")
		answered(t, []question{
			{onHost(l, lab.Outside), at(addressOf(t, l, "h1"), 8080), addressOf(t, l, lab.Outside)},
			{onHost(l, "h1"), at(netip.MustParseAddr("127.0.0.1"), 8080), defaultGateway(t, pub)},
			{onHost(l, "h2"), at(addressOf(t, l, "h1"), 8080), addressOf(t, l, "h2")},
		})
		l.Run(t, "h1", "ovlctl", "rm", "-f", "pub")
	})
	t.Run("of two hosts that race one wins", func(t *testing.T) {
		for range 10 {
			results := make([]labtest.Result, 2)
			var g errgroup.Group
			for i, host := range l.Members() {
				g.Go(func() error {
					results[i] = l.Do(t, host, "ovlctl", "run", "-d", "--name", "db", "--network", "blue", "--ip", statics[0].String())
					return nil
				})
			}
			_ = g.Wait()
			won := slices.IndexFunc(results, func(r labtest.Result) bool { return r.Code == 0 })
			if won < 0 {
				t.Fatalf("nobody won: %+v", results)
			}
			refused(t, results[1-won], 4, fmt.Sprintf("host h%d has 10.64.255.9", won+1))
			l.Run(t, l.Members()[won], "ovlctl", "rm", "-f", "db")
		}
	})
	t.Run("an address of a subnet that nobody holds", func(t *testing.T) {
		free := unheld(t, l)
		wanted := free.Addr().Next().Next().Next()
		near := l.Sandbox(t, "h2", "near", "--network", "blue", "--ip", wanted.String())
		if got := near.Addrs(t, "eth0")[0]; got != wanted {
			t.Errorf("got %s, want %s", got, wanted)
		}
		r := l.Do(t, "h1", "ovlctl", "run", "-d", "--name", "far", "--network", "blue", "--ip", wanted.Next().String())
		refused(t, r, 4, fmt.Sprintf("host h2 holds the subnet %s: start the container there", free))
		if left := subnetsOf(t, l, "blue"); left[free] != "h2" {
			t.Errorf("subnets: %v", left)
		}
	})
	t.Run("nothing is left of all that", func(t *testing.T) {
		for p := range subnetsOf(t, l, "blue") {
			if p.IsSingleIP() {
				t.Errorf("%s is still held", p)
			}
		}
		atRest(t, l)
	})
}

// unheld returns a subnet of blue that no host holds.
func unheld(t *testing.T, l *labtest.Lab) netip.Prefix {
	t.Helper()
	held := subnetsOf(t, l, "blue")
	p := netip.MustParsePrefix("10.64.7.0/24")
	for held[p] != "" {
		a := p.Addr().As4()
		a[2]++
		p = netip.PrefixFrom(netip.AddrFrom4(a), 24)
	}
	return p
}
