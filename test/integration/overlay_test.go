package integration

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/ovlnet/ovl/internal/lab"
	"github.com/ovlnet/ovl/internal/lab/labtest"
)

func TestTwoNetworksOfThreeHosts(t *testing.T) {
	t.Parallel()
	l := threeHosts(t)
	l.Run(t, "h1", "ovlctl", "network", "create", "blue", "--subnet", "10.64.0.0/16")
	l.Run(t, "h2", "ovlctl", "network", "create", "red", "--subnet", "10.65.0.0/16")
	blue, red := onEach(t, l, "blue"), onEach(t, l, "red")

	t.Run("within a network all reach all", func(t *testing.T) {
		complete(t, blue)
		complete(t, red)
	})
	t.Run("across networks nobody reaches anybody", func(t *testing.T) {
		pairs := append(eachPair(t, blue, red), eachPair(t, red, blue)...)
		if failed := unanswered(t, pairs); len(failed) != len(pairs) {
			t.Errorf("%d of %d pings across networks are answered; unanswered are %v", len(pairs)-len(failed), len(pairs), failed)
		}
	})
	t.Run("the other network's gateways are out of reach", func(t *testing.T) {
		for _, c := range red {
			gateway := c.Run(t, "sh", "-c", "ip -4 route show default | cut -d' ' -f3")
			if err := blue[0].Reaches(t, netip.MustParseAddr(gateway)); err == nil {
				t.Errorf("%s reaches %s, the gateway of %s", blue[0], gateway, c)
			}
		}
	})
	t.Run("peers see each other's own address", func(t *testing.T) { seesOwnAddress(t, l, blue) })
	t.Run("the outside sees the host's address", func(t *testing.T) {
		for _, c := range append(blue, red...) {
			if got, want := ask(t, c, addressOf(t, l, lab.Outside)), addressOf(t, l, c.Host); got != want {
				t.Errorf("%s is seen outside as %s, want its host's %s", c, got, want)
			}
		}
	})
	t.Run("a host reaches its peers' containers", func(t *testing.T) {
		l.Run(t, "h1", "ping", "-c1", "-W5", blue[1].Addr(t).String())
	})
	t.Run("every agent is at rest", func(t *testing.T) { atRest(t, l) })
}

// seesOwnAddress asks an echo on the first container from all others.
func seesOwnAddress(t *testing.T, l *labtest.Lab, on []labtest.Container) {
	t.Helper()
	echo := l.Sandbox(t, on[0].Host, "echo", "--network", "blue", "--", "ovlctl", "lab", "echo", fmt.Sprintf(":%d", lab.EchoPort))
	addr := echo.Addr(t)
	for _, c := range on {
		labtest.Until(t, "the echo answers "+c.String(), func() error { return c.Reaches(t, addr) })
		if got, want := ask(t, c, addr), c.Addr(t); got != want {
			t.Errorf("%s is seen by its peer as %s, want %s", c, got, want)
		}
	}
}

// ask asks the echo at to which address it sees.
func ask(t *testing.T, from labtest.Container, to netip.Addr) netip.Addr {
	t.Helper()
	at := netip.AddrPortFrom(to, lab.EchoPort).String()
	var said labtest.Result
	labtest.Until(t, at+" answers "+from.String(), func() error {
		said = from.Do(t, "ovlctl", "lab", "ask", at, "--timeout", "5s")
		if said.Code != 0 {
			return fmt.Errorf("exit code %d: %s", said.Code, said.Stderr)
		}
		return nil
	})
	addr, err := netip.ParseAddr(strings.TrimSpace(said.Stdout))
	if err != nil {
		t.Fatal(err)
	}
	return addr
}

// addressOf returns a host's address on the underlay.
func addressOf(t *testing.T, l *labtest.Lab, host string) netip.Addr {
	t.Helper()
	h, err := l.Host(host)
	if err != nil {
		t.Fatal(err)
	}
	return netip.MustParseAddr(h.Address)
}

// atRest waits until no agent would change anything.
func atRest(t *testing.T, l *labtest.Lab) {
	t.Helper()
	for _, host := range l.Members() {
		labtest.Until(t, host+" is at rest", func() error { return l.AtRest(t, host) })
	}
}

func TestFamilies(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		ipv6    bool
		subnets []string
		want    int // addresses of a container
	}{
		"six over four":        {false, []string{"fd64::/48"}, 1},
		"dual stack over four": {false, []string{"10.64.0.0/16", "fd64::/48"}, 2},
		"dual stack over six":  {true, []string{"10.64.0.0/16", "fd64::/48"}, 2},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := labtest.Up(t, lab.Config{Hosts: 2, IPv6: c.ipv6})
			create := []string{"ovlctl", "network", "create", "blue"}
			for _, s := range c.subnets {
				create = append(create, "--subnet", s)
			}
			l.Run(t, "h1", create...)
			blue := onEach(t, l, "blue")
			if got := blue[0].Addrs(t, "eth0"); len(got) != c.want {
				t.Fatalf("addresses %v, want %d", got, c.want)
			}
			complete(t, blue)
			atRest(t, l)
		})
	}
}
