package integration

import (
	"fmt"
	"net/netip"
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
