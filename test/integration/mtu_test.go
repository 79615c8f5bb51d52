package integration

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/ovlnet/ovl/internal/lab"
	"github.com/ovlnet/ovl/internal/lab/labtest"
)

// overhead is what VXLAN adds to a packet (RFC 7348 section 5): the inner Ethernet
// header, its own 8 bytes, UDP, and the outer IP header of the underlay's family.
func overhead(ipv6 bool) int {
	if ipv6 {
		return 14 + 8 + 8 + 40
	}
	return 14 + 8 + 8 + 20
}

// payload is what a ping carries in a packet of that size.
func payload(to netip.Addr, packet int) string {
	if to.Is4() {
		return fmt.Sprint(packet - 20 - 8)
	}
	return fmt.Sprint(packet - 40 - 8)
}

// mtuOf waits until a container's interface has that MTU.
func mtuOf(t *testing.T, c labtest.Container, want int) {
	t.Helper()
	labtest.Until(t, fmt.Sprintf("the MTU in %s is %d", c, want), func() error {
		if got := c.Run(t, "cat", "/sys/class/net/eth0/mtu"); got != fmt.Sprint(want) {
			return fmt.Errorf("it is %s", got)
		}
		return nil
	})
}

// fills sends packets of the size of the MTU, which must not be cut, in both
// directions and families; and one byte more, which must be refused.
func fills(t *testing.T, a, b labtest.Container, mtu int) {
	t.Helper()
	for _, from := range []labtest.Container{a, b} {
		to := map[bool]labtest.Container{true: b, false: a}[from == a]
		for _, addr := range to.Addrs(t, "eth0") {
			from.Run(t, "ping", "-n", "-c1", "-W5", "-M", "do", "-s", payload(addr, mtu), addr.String())
			r := from.Do(t, "ping", "-n", "-c1", "-W1", "-M", "do", "-s", payload(addr, mtu+1), addr.String())
			if r.Code == 0 || !strings.Contains(r.Stdout+r.Stderr, fmt.Sprintf("mtu=%d", mtu)) && !strings.Contains(r.Stdout+r.Stderr, fmt.Sprintf("mtu: %d", mtu)) {
				t.Errorf("%s sends %d bytes to %s: %+v, want them refused as more than %d", from, mtu+1, addr, r, mtu)
			}
		}
	}
}

func TestMTU(t *testing.T) {
	t.Parallel()
	for name, c := range segments {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := labtest.Up(t, lab.Config{Hosts: 2, IPv6: c.ipv6})
			most := 1500 - overhead(c.ipv6)
			l.Run(t, "h1", "ovlctl", "network", "create", "blue", "--subnet", "10.64.0.0/16", "--subnet", "fd64::/48")
			l.Run(t, "h1", "ovlctl", "network", "create", "fast", "--subnet", "10.65.0.0/16", "--subnet", "fd65::/48", "--direct-routing")
			blue, fast := onEach(t, l, "blue"), onEach(t, l, "fast")
			for _, on := range [][]labtest.Container{blue, fast} {
				complete(t, on)
				mtuOf(t, on[0], most)
				fills(t, on[0], on[1], most)
			}

			t.Run("follows the underlay both ways, and no packet is lost", func(t *testing.T) {
				var pings []*labtest.Ping
				for _, to := range blue[1].Addrs(t, "eth0") {
					pings = append(pings, blue[0].StartPing(t, to))
				}
				for _, mtu := range []int{1400, 1500, 1360, 1500} {
					for _, host := range l.Members() {
						l.Run(t, host, "ip", "link", "set", "eth0", "mtu", fmt.Sprint(mtu))
					}
					for _, c2 := range append(blue, fast...) {
						mtuOf(t, c2, mtu-overhead(c.ipv6))
					}
					fills(t, blue[0], blue[1], mtu-overhead(c.ipv6))
					fills(t, fast[0], fast[1], mtu-overhead(c.ipv6))
				}
				for _, p := range pings {
					p.NoneLost(t)
				}
			})
			t.Run("who believes in more is answered", func(t *testing.T) {
				if err := l.Stop(t.Context(), "h1", lab.Agent); err != nil {
					t.Fatal(err)
				}
				l.Run(t, "h1", "sh", "-ec", "for l in $(cd /sys/class/net && ls -d ove*); do ip link set $l mtu 1500; done")
				for _, from := range []labtest.Container{blue[0], fast[0]} {
					l.Run(t, "h1", "ip", "netns", "exec", from.Name, "ip", "link", "set", "eth0", "mtu", "1500")
					to := map[labtest.Container]labtest.Container{blue[0]: blue[1], fast[0]: fast[1]}[from]
					for _, addr := range to.Addrs(t, "eth0") {
						// The agent is away, so that ovlctl could not find the container.
						r := l.Do(t, "h1", "ip", "netns", "exec", from.Name, "ping", "-n", "-c1", "-W5", "-M", "do", "-s", payload(addr, most+1), addr.String())
						if !strings.Contains(r.Stdout, fmt.Sprintf("mtu = %d", most)) && !strings.Contains(r.Stdout, fmt.Sprintf("mtu=%d", most)) {
							t.Errorf("%d bytes to %s: %+v, want the answer that %d is too big", most+1, addr, r, most)
						}
					}
				}
				if err := l.Start(t.Context(), "h1", lab.Agent); err != nil {
					t.Fatal(err)
				}
				mtuOf(t, blue[0], most)
				atRest(t, l)
			})
		})
	}
}

// TestIPv6NeedsItsLeastMTU: a link of less than 1280 bytes carries no IPv6 (RFC
// 8200 section 5). Over an underlay that leaves less, packets are cut by the tunnel.
func TestIPv6NeedsItsLeastMTU(t *testing.T) {
	t.Parallel()
	l := labtest.Up(t, lab.Config{Hosts: 2, MTU: 1300})
	l.Run(t, "h1", "ovlctl", "network", "create", "blue", "--subnet", "10.64.0.0/16", "--subnet", "fd64::/48")
	l.Run(t, "h1", "ovlctl", "network", "create", "red", "--subnet", "10.65.0.0/16")
	blue, red := onEach(t, l, "blue"), onEach(t, l, "red")
	mtuOf(t, red[0], 1250)
	complete(t, red)
	fills(t, red[0], red[1], 1250)
	mtuOf(t, blue[0], 1280)
	complete(t, blue)
	fills(t, blue[0], blue[1], 1280)
	if out := l.Run(t, "h1", "ovlctl", "agent", "status"); !strings.Contains(out, "1280") {
		t.Errorf("agent status says nothing of it: %s", out)
	}
	atRest(t, l)
}
