package integration

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"

	"github.com/ovlnet/ovl/internal/lab"
	"github.com/ovlnet/ovl/internal/lab/labtest"
)

// TestTheWayOutOfEachFamily: IPv4 is masqueraded unless that is switched off, IPv6
// only where it is asked for; both can change under running containers.
func TestTheWayOutOfEachFamily(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		ipv6     bool
		keep, to string // flags of network update
	}{
		"four": {false, "--no-masquerade", "--masquerade"},
		"six":  {true, "--nat66=false", "--nat66"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := labtest.Up(t, lab.Config{Hosts: 2, IPv6: c.ipv6})
			l.Run(t, "h1", "ovlctl", "network", "create", "blue", "--subnet", "10.64.0.0/16", "--subnet", "fd64::/48")
			web, far := l.Sandbox(t, "h1", "web", "--network", "blue"), l.Sandbox(t, "h2", "far", "--network", "blue")
			complete(t, []labtest.Container{web, far})
			outside, h1 := addressOf(t, l, lab.Outside), addressOf(t, l, "h1")
			own := web.Addrs(t, "eth0")[0]
			if c.ipv6 {
				own = web.Addrs(t, "eth0")[1]
				if err := web.Reaches(t, outside); err == nil {
					t.Error("the outside answers an address to which it has no route: was it translated?")
				}
			} else if got := ask(t, web, outside); got != h1 {
				t.Errorf("seen outside as %s, want its host's %s", got, h1)
			}
			// Whoever keeps his address needs a way back.
			l.Run(t, lab.Outside, "ip", "route", "replace", own.String(), "via", h1.String())
			for _, step := range []struct {
				flag string
				want netip.Addr
			}{{c.keep, own}, {c.to, h1}, {c.keep, own}} {
				l.Run(t, "h1", "ovlctl", "network", "update", "blue", step.flag)
				labtest.Until(t, "h1 has heard of "+step.flag, func() error { return seenAs(t, web, outside, step.want) })
			}
			complete(t, []labtest.Container{web, far})
			atRest(t, l)
		})
	}
}

// seenAs reports whether the echo at to sees another address than want.
func seenAs(t *testing.T, c labtest.Container, to, want netip.Addr) error {
	t.Helper()
	got, err := within(c).sees(t, "tcp", netip.AddrPortFrom(to, lab.EchoPort))
	if err == nil && got != want {
		err = fmt.Errorf("seen as %s, want %s", got, want)
	}
	return err
}

// gatewayRoute is where a container's default route of a family leads; empty: it
// has none.
func gatewayRoute(t *testing.T, c labtest.Container, family string) string {
	t.Helper()
	return c.Run(t, "sh", "-c", "ip "+family+" route show default | cut -d' ' -f3,5")
}

// TestOneFamilyAlone: a network of one family has nothing of the other, on an
// underlay of either, and is whole without it: default route, gateway, names,
// ports, isolation.
func TestOneFamilyAlone(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		ipv6                         bool
		blue, red, vault             string
		family, other, kind, noother string
	}{
		"four over four": {false, "10.64.0.0/16", "10.65.0.0/16", "10.66.0.0/16", "-4", "-6", "A", "AAAA"},
		"four over six":  {true, "10.64.0.0/16", "10.65.0.0/16", "10.66.0.0/16", "-4", "-6", "A", "AAAA"},
		"six over four":  {false, "fd64::/48", "fd65::/48", "fd66::/48", "-6", "-4", "AAAA", "A"},
		"six over six":   {true, "fd64::/48", "fd65::/48", "fd66::/48", "-6", "-4", "AAAA", "A"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := labtest.Up(t, lab.Config{Hosts: 2, IPv6: c.ipv6})
			for name, subnet := range map[string]string{"blue": c.blue, "red": c.red} {
				l.Run(t, "h1", "ovlctl", "network", "create", name, "--subnet", subnet)
			}
			l.Run(t, "h1", "ovlctl", "network", "create", "vault", "--subnet", c.vault, "--internal")
			web, db := echo(t, l, "h1", "web", "blue", "8080:7777", "8080:7777/udp"), l.Sandbox(t, "h2", "db", "--network", "blue")
			red, vault := onEach(t, l, "red"), onEach(t, l, "vault")
			for _, on := range [][]labtest.Container{{web, db}, red, vault} {
				complete(t, on)
			}

			p, err := db.Addr(t).Prefix(map[string]int{"-4": 24, "-6": 64}[c.family])
			if err != nil {
				t.Fatal(err)
			}
			gateway := p.Addr().Next()
			if got, want := gatewayRoute(t, db, c.family), gateway.String()+" eth0"; got != want {
				t.Errorf("default route %q, want %q", got, want)
			}
			if got := gatewayRoute(t, db, c.other); got != "" {
				t.Errorf("a default route of the other family: %s", got)
			}
			if got := gatewayRoute(t, vault[0], c.family); got != "" {
				t.Errorf("an internal network has the default route %s", got)
			}
			if err := db.Reaches(t, gateway); err != nil {
				t.Error(err)
			}
			pairs := slices.Concat(eachPair(t, []labtest.Container{web, db}, append(red, vault...)), eachPair(t, vault, append(red, web, db)))
			pairs = append(pairs, pair{vault[0], addressOf(t, l, "h1")}, pair{vault[0], addressOf(t, l, lab.Outside)}, pair{red[1], gateway})
			if failed := unanswered(t, pairs); len(failed) != len(pairs) {
				t.Errorf("%d of %d pings across networks are answered; unanswered are %v", len(pairs)-len(failed), len(pairs), failed)
			}

			// Names, asked over the only transport that there is.
			if got := netip.MustParseAddr(gatewayOf(t, db)); got != gateway {
				t.Errorf("resolv.conf names %s, want the gateway %s", got, gateway)
			}
			addr := web.Addr(t).String()
			knows(t, db, "web.blue "+c.kind, "NOERROR "+addr)
			for _, transport := range []string{"", "+tcp "} {
				digs(t, db, map[string]string{
					transport + "web.blue.ovl.internal " + c.kind:    "NOERROR " + addr,
					transport + "web.blue.ovl.internal " + c.noother: "NOERROR",
					transport + "-x " + addr:                         "NOERROR web.blue.ovl.internal.",
					transport + "nope.blue " + c.kind:                "NXDOMAIN",
				})
			}
			db.Run(t, "ping", "-n", "-c1", "-W5", "web")
			if c.ipv6 == (c.family == "-6") { // else the host has no address to publish at
				answered(t, []question{
					{onHost(l, "h2"), at(addressOf(t, l, "h1"), 8080), addressOf(t, l, "h2")},
				})
			}
			atRest(t, l)
		})
	}
}
