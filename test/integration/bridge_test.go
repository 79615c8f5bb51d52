package integration

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/ovlnet/ovl/internal/lab"
	"github.com/ovlnet/ovl/internal/lab/labtest"
)

// TestABridgeNetworkEndsAtItsHost: containers of one host talk, have names,
// ports and the way out; those of two hosts have nothing to do with each other,
// and neither have they with an overlay's.
func TestABridgeNetworkEndsAtItsHost(t *testing.T) {
	t.Parallel()
	l := labtest.Up(t, lab.Config{Hosts: 2})
	l.Run(t, "h1", "ovlctl", "network", "create", "blue", "--subnet", "10.64.0.0/16")
	l.Run(t, "h1", "ovlctl", "network", "create", "near", "--driver", "bridge", "--subnet", "10.65.0.0/16", "--subnet", "fd65::/48")
	l.Run(t, "h1", "ovlctl", "network", "create", "vault", "--driver", "bridge", "--subnet", "10.66.0.0/16", "--internal")
	outside, h1 := addressOf(t, l, lab.Outside), addressOf(t, l, "h1")

	web := echo(t, l, "h1", "web", "near", "8080:7777", "8080:7777/udp")
	app := l.Sandbox(t, "h1", "app", "--network", "near,alias=front")
	far := l.Sandbox(t, "h2", "far", "--network", "near")
	blue, blueFar := l.Sandbox(t, "h1", "blue", "--network", "blue"), l.Sandbox(t, "h2", "blue-far", "--network", "blue")
	reaches(t, blue, blueFar.Addr(t))

	t.Run("those of one host reach each other, in both families", func(t *testing.T) {
		for _, a := range web.Addrs(t, "eth0") {
			if err := app.Reaches(t, a); err != nil {
				t.Error(err)
			}
		}
		l.Run(t, "h1", "ping", "-c1", "-W2", app.Addrs(t, "eth0")[0].String())
	})
	t.Run("those of two hosts do not, and are told so", func(t *testing.T) {
		for _, a := range far.Addrs(t, "eth0") {
			refusedPing(t, app, a)
		}
		for _, a := range app.Addrs(t, "eth0") {
			refusedPing(t, far, a)
		}
	})
	t.Run("an overlay's do not, in either direction", func(t *testing.T) {
		for _, from := range []labtest.Container{blue, blueFar} {
			for _, a := range app.Addrs(t, "eth0")[:1] {
				if err := from.Reaches(t, a); err == nil {
					t.Errorf("%s reaches %s", from, a)
				}
			}
		}
		for _, to := range []labtest.Container{blue, blueFar} {
			if err := app.Reaches(t, to.Addr(t)); err == nil {
				t.Errorf("%s reaches %s", app, to)
			}
		}
		if err := blue.Reaches(t, defaultGateway(t, app)); err == nil {
			t.Errorf("%s reaches the gateway of %s", blue, app)
		}
	})
	t.Run("names are this host's", func(t *testing.T) {
		digs(t, app, map[string]string{
			"web.near": "NOERROR " + web.Addrs(t, "eth0")[0].String(), "front.near.ovl.internal AAAA": "NOERROR " + app.Addrs(t, "eth0")[1].String(),
			"far.near": "NXDOMAIN", "-x " + far.Addrs(t, "eth0")[0].String(): "NXDOMAIN",
		})
		digs(t, far, map[string]string{"far.near": "NOERROR " + far.Addrs(t, "eth0")[0].String(), "web.near": "NXDOMAIN"})
	})
	t.Run("ports and the way out are as an overlay's", func(t *testing.T) {
		answered(t, []question{
			{onHost(l, lab.Outside), at(h1, 8080), outside},
			{onHost(l, "h1"), at(netip.MustParseAddr("127.0.0.1"), 8080), defaultGateway(t, web)},
			{within(far), at(h1, 8080), addressOf(t, l, "h2")},
		})
		if got := ask(t, app, outside); got != h1 {
			t.Errorf("%s is seen outside as %s, want its host's %s", app, got, h1)
		}
		shut := l.Sandbox(t, "h1", "shut", "--network", "vault")
		if err := shut.Reaches(t, outside); err == nil {
			t.Error("a container of an internal network reaches the outside")
		}
	})
	t.Run("packets are as large as the underlay's, and none is in a tunnel", func(t *testing.T) {
		app.Run(t, "ping", "-c1", "-W2", "-M", "do", "-s", "1472", outside.String())
		for _, name := range ourLinks(t, l, "h1") {
			if name == "ovx101" || name == "ovx102" {
				t.Errorf("h1 has the tunnel %s for a bridge network", name)
			}
		}
	})
	t.Run("a container is connected and disconnected as with any network", func(t *testing.T) {
		l.Run(t, "h1", "ovlctl", "connect", "near", "blue", "--alias", "guest")
		reaches(t, blue, app.Addrs(t, "eth0")[0])
		l.Run(t, "h1", "ovlctl", "disconnect", "near", "blue")
		if err := blue.Reaches(t, app.Addrs(t, "eth0")[0]); err == nil {
			t.Error("near is reached after it was disconnected")
		}
	})
	atRest(t, l)
}

// refusedPing wants a ping to be refused at once, not lost.
func refusedPing(t *testing.T, from labtest.Container, to netip.Addr) {
	t.Helper()
	r := from.Do(t, "ping", "-n", "-c1", "-W5", to.String())
	if r.Code == 0 || !containsAny(r.Stdout, "Unreachable", "unreachable", "No route") {
		t.Errorf("%s pings %s: %+v, want it refused", from, to, r)
	}
}

func containsAny(s string, words ...string) bool {
	return slices.ContainsFunc(words, func(w string) bool { return strings.Contains(s, w) })
}
