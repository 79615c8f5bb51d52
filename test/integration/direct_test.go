package integration

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/ovlnet/ovl/internal/lab"
	"github.com/ovlnet/ovl/internal/lab/labtest"
)

// segments are the two kinds of underlay, and which of a dual-stack container's
// addresses can be routed directly over each.
var segments = map[string]struct {
	ipv6          bool
	direct, other int
}{
	"four": {false, 0, 1},
	"six":  {true, 1, 0},
}

// device returns the link by which a host reaches an address.
func device(t *testing.T, l *labtest.Lab, host string, to netip.Addr) string {
	t.Helper()
	var routes []struct {
		Dev string `json:"dev"`
	}
	l.JSON(t, &routes, host, "ip", "-j", "route", "get", to.String())
	if len(routes) != 1 {
		t.Fatalf("%s has the routes %v to %s, want one", host, routes, to)
	}
	return routes[0].Dev
}

// goesBy waits until a host reaches an address by that link.
func goesBy(t *testing.T, l *labtest.Lab, host string, to netip.Addr, link string) {
	t.Helper()
	labtest.Until(t, fmt.Sprintf("%s reaches %s by %s", host, to, link), func() error {
		if got := device(t, l, host, to); got != link {
			return fmt.Errorf("it is by %s", got)
		}
		return nil
	})
}

// sent is how many packets have left a host by a link.
func sent(t *testing.T, l *labtest.Lab, host, link string) string {
	t.Helper()
	return l.Run(t, host, "cat", "/sys/class/net/"+link+"/statistics/tx_packets")
}

func TestDirectRouting(t *testing.T) {
	t.Parallel()
	for name, c := range segments {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := labtest.Up(t, lab.Config{Hosts: 3, IPv6: c.ipv6})
			create := func(name string, vni int, subnets [2]string, more ...string) []labtest.Container {
				l.Run(t, "h1", append([]string{"ovlctl", "network", "create", name, "--vni", fmt.Sprint(vni), "--subnet", subnets[0], "--subnet", subnets[1]}, more...)...)
				return onEach(t, l, name)
			}
			blue := create("blue", 100, [2]string{"10.64.0.0/16", "fd64::/48"}, "--direct-routing", "--nat66")
			red := create("red", 101, [2]string{"10.65.0.0/16", "fd65::/48"}, "--direct-routing")
			vault := create("vault", 102, [2]string{"10.66.0.0/16", "fd66::/48"}, "--direct-routing", "--internal")
			plain := create("plain", 103, [2]string{"10.67.0.0/16", "fd67::/48"})

			t.Run("all reach all", func(t *testing.T) {
				for _, on := range [][]labtest.Container{blue, red, vault, plain} {
					complete(t, on)
				}
			})
			t.Run("by the segment, in its family", func(t *testing.T) {
				goesBy(t, l, "h1", blue[1].Addrs(t, "eth0")[c.direct], "eth0")
				goesBy(t, l, "h1", blue[1].Addrs(t, "eth0")[c.other], "ovx100")
				goesBy(t, l, "h1", vault[1].Addrs(t, "eth0")[c.direct], "eth0")
				goesBy(t, l, "h1", plain[1].Addrs(t, "eth0")[c.direct], "ovx103")
				before := sent(t, l, "h1", "ovx100")
				blue[0].Run(t, "ping", "-n", "-c5", "-i0.01", "-W5", blue[1].Addrs(t, "eth0")[c.direct].String())
				if after := sent(t, l, "h1", "ovx100"); after != before {
					t.Errorf("the tunnel has sent %s packets, and %s before", after, before)
				}
			})
			t.Run("across networks nobody reaches anybody", func(t *testing.T) {
				var pairs []pair
				for i, from := range [][]labtest.Container{blue, red, vault, plain} {
					for j, to := range [][]labtest.Container{blue, red, vault, plain} {
						if i != j {
							pairs = append(pairs, eachPair(t, from[:1], to[:2])...)
						}
					}
				}
				if failed := unanswered(t, pairs); len(failed) != len(pairs) {
					t.Errorf("%d of %d pings across networks are answered; unanswered are %v", len(pairs)-len(failed), len(pairs), failed)
				}
			})
			t.Run("what no host holds is unreachable", func(t *testing.T) {
				for family := range 2 {
					to := nobodys(t, blue, family).String()
					if r := blue[0].Do(t, "ping", "-n", "-c1", "-W5", to); !strings.Contains(r.Stdout, "nreachable") && !strings.Contains(r.Stdout, "No route") {
						t.Errorf("a ping to %s: %+v, want it refused", to, r)
					}
				}
			})
			t.Run("peers see each other's own address, the outside the host's", func(t *testing.T) {
				echo := echo(t, l, "h2", "echo", "blue", "8080:7777", "8080:7777/udp")
				own := blue[0].Addrs(t, "eth0")[c.direct]
				if got := ask(t, blue[0], echo.Addrs(t, "eth0")[c.direct]); got != own {
					t.Errorf("seen by its peer as %s, want %s", got, own)
				}
				p, err := echo.Addrs(t, "eth0")[c.direct].Prefix([]int{24, 64}[c.direct])
				if err != nil {
					t.Fatal(err)
				}
				gateway := p.Addr().Next()
				answered(t, []question{
					{within(blue[0]), at(addressOf(t, l, "h2"), 8080), addressOf(t, l, "h1")},
					{within(blue[0]), at(gateway, 8080), gateway},
					{onHost(l, lab.Outside), at(addressOf(t, l, "h2"), 8080), addressOf(t, l, lab.Outside)},
				})
				if got, want := ask(t, blue[0], addressOf(t, l, lab.Outside)), addressOf(t, l, "h1"); got != want {
					t.Errorf("seen outside as %s, want its host's %s", got, want)
				}
				if err := vault[0].Reaches(t, addressOf(t, l, lab.Outside)); err == nil {
					t.Error("the internal network has a way out")
				}
			})
			t.Run("a policy of DROP stops nobody", func(t *testing.T) {
				for _, host := range l.Members() {
					l.Run(t, host, "sh", "-c", "iptables -P FORWARD DROP && ip6tables -P FORWARD DROP")
				}
				complete(t, blue)
				complete(t, vault)
			})
			t.Run("strangers", func(t *testing.T) { strangersOnTheSegment(t, l, c.ipv6, blue, red[1]) })
			atRest(t, l)
			t.Run("cleanup takes the routes away", func(t *testing.T) {
				if err := l.Stop(t.Context(), "h1", lab.Agent); err != nil {
					t.Fatal(err)
				}
				l.Run(t, "h1", "ovl-agent", "cleanup")
				if out := l.Run(t, "h1", "sh", "-c", "ip -4 route show proto 79; ip -6 route show proto 79"); out != "" {
					t.Errorf("left: %s", out)
				}
			})
		})
	}
}

// strangersOnTheSegment: whoever sends from the outside to a container's address
// by way of its host. A packet is let in if its source is an address of a member's
// subnet, which is all that a host can know.
func strangersOnTheSegment(t *testing.T, l *labtest.Lab, ipv6 bool, blue []labtest.Container, red labtest.Container) {
	t.Helper()
	family := 0
	if ipv6 {
		family = 1
	}
	victim, member := blue[1].Addrs(t, "eth0")[family], blue[2].Addrs(t, "eth0")[family]
	forge := func(from string, via string) {
		t.Helper()
		l.Run(t, lab.Outside, "ip", "address", "replace", netip.PrefixFrom(netip.MustParseAddr(from), netip.MustParseAddr(from).BitLen()).String(), "dev", "lo", "nodad")
		l.Run(t, lab.Outside, "ip", "route", "replace", victim.String(), "via", addressOf(t, l, via).String(), "src", from)
		l.Run(t, lab.Outside, "bash", "-c", fmt.Sprintf("echo x > /dev/udp/%s/9999", victim))
	}
	before := refusedDatagrams(t, blue[1])
	for what, c := range map[string]struct {
		from netip.Addr
		via  string
	}{
		"in his own name":                        {addressOf(t, l, lab.Outside), "h2"},
		"from an address that nobody holds":      {nobodys(t, blue, family), "h2"},
		"in the name of the victim's own subnet": {victim.Next(), "h2"},
		"in the name of another network":         {red.Addrs(t, "eth0")[family], "h2"},
		"in a member's name, by way of another":  {member, "h1"}, // who is no router for strangers
	} {
		forge(c.from.String(), c.via)
		if err := blue[0].Reaches(t, victim); err != nil { // whatever was sent has arrived
			t.Error(err)
		}
		if refusedDatagrams(t, blue[1]) != before {
			t.Fatalf("what a stranger sent %s, from %s, has arrived", what, c.from)
		}
	}
	forge(member.String(), "h2")
	labtest.Until(t, "a datagram in a member's name arrives", func() error {
		if refusedDatagrams(t, blue[1]) == before {
			return fmt.Errorf("it has not")
		}
		return nil
	})
}

// nobodys returns an address of blue's range that is in no host's subnet: they are
// chosen by hash.
func nobodys(t *testing.T, blue []labtest.Container, family int) netip.Addr {
	t.Helper()
	for _, free := range [][2]string{{"10.64.254.200", "fd64:0:0:fffb::1"}, {"10.64.253.200", "fd64:0:0:fffc::1"}, {"10.64.252.200", "fd64:0:0:fffd::1"}, {"10.64.251.200", "fd64:0:0:fffe::1"}} {
		p := netip.PrefixFrom(netip.MustParseAddr(free[family]), []int{24, 64}[family])
		if !slices.ContainsFunc(blue, func(c labtest.Container) bool { return p.Contains(c.Addrs(t, "eth0")[family]) }) {
			return p.Addr()
		}
	}
	t.Fatal("three hosts hold four subnets")
	return netip.Addr{}
}

// offLink takes a host's segment off its link, so that all but the router is
// reached by way of that; onLink puts it back.
func offLink(t *testing.T, l *labtest.Lab, host string, ipv6 bool) {
	t.Helper()
	script := "ip route add 192.168.77.254 dev eth0; ip route del 192.168.77.0/24 dev eth0"
	if ipv6 {
		script = "ip route add fd77::254 dev eth0 && ip route del fd77::/64 dev eth0"
	}
	l.Run(t, host, "sh", "-ec", script)
}

func onLink(t *testing.T, l *labtest.Lab, host string, ipv6 bool) {
	t.Helper()
	script := "ip route add 192.168.77.0/24 dev eth0 && ip route del 192.168.77.254 dev eth0"
	if ipv6 {
		script = "ip route add fd77::/64 dev eth0 && ip route del fd77::254 dev eth0"
	}
	l.Run(t, host, "sh", "-ec", script)
}

// TestDirectRoutingFollowsTheSegment: a host that leaves the segment, as its own
// routes say, and comes back, loses no packet, in either direction.
func TestDirectRoutingFollowsTheSegment(t *testing.T) {
	t.Parallel()
	for name, c := range segments {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := labtest.Up(t, lab.Config{Hosts: 3, IPv6: c.ipv6})
			l.Run(t, lab.Outside, "sh", "-c", "echo 1 >/proc/sys/net/ipv4/ip_forward; echo 1 >/proc/sys/net/ipv6/conf/all/forwarding")
			l.Run(t, "h1", "ovlctl", "network", "create", "blue", "--vni", "100", "--subnet", "10.64.0.0/16", "--subnet", "fd64::/48", "--direct-routing")
			blue := onEach(t, l, "blue")
			complete(t, blue)
			one, two, three := blue[0].Addrs(t, "eth0")[c.direct], blue[1].Addrs(t, "eth0")[c.direct], blue[2].Addrs(t, "eth0")[c.direct]
			pings := []*labtest.Ping{blue[0].StartPing(t, two), blue[1].StartPing(t, one), blue[1].StartPing(t, three)}
			for range 3 {
				offLink(t, l, "h1", c.ipv6)
				goesBy(t, l, "h1", two, "ovx100")
				goesBy(t, l, "h2", one, "ovx100") // who has the other on link tunnels all the same
				goesBy(t, l, "h2", three, "eth0")
				complete(t, blue)
				onLink(t, l, "h1", c.ipv6)
				goesBy(t, l, "h1", two, "eth0")
				goesBy(t, l, "h2", one, "eth0")
			}
			for _, p := range pings {
				p.NoneLost(t)
			}
			atRest(t, l)
		})
	}
}

// TestDirectRoutingFollowsAddresses: peers follow a host that gets another address.
func TestDirectRoutingFollowsAddresses(t *testing.T) {
	t.Parallel()
	l := labtest.Up(t, lab.Config{Hosts: 2})
	l.Run(t, "h1", "ovlctl", "network", "create", "blue", "--vni", "100", "--subnet", "10.64.0.0/16", "--direct-routing")
	blue := onEach(t, l, "blue")
	complete(t, blue)
	two := blue[1].Addr(t)
	via := func(want string) {
		t.Helper()
		labtest.Until(t, "h1 goes by way of "+want, func() error {
			if out := l.Run(t, "h1", "ip", "route", "get", two.String()); !strings.Contains(out, "via "+want+" dev eth0") {
				return fmt.Errorf("it is %s", out)
			}
			return nil
		})
	}
	via("192.168.77.2")
	l.Run(t, "h2", "sh", "-ec", "echo 1 >/proc/sys/net/ipv4/conf/eth0/promote_secondaries; ip address add 192.168.77.22/24 dev eth0; ip address del 192.168.77.2/24 dev eth0")
	via("192.168.77.22")
	complete(t, blue)
	// On link for nobody: a host route, as in fabrics that route.
	l.Run(t, "h2", "sh", "-ec", "ip address add 192.168.77.23/32 dev eth0; ip address del 192.168.77.22/24 dev eth0; ip route add 192.168.77.254 dev eth0; ip route replace default via 192.168.77.254")
	l.Run(t, lab.Outside, "sh", "-c", "echo 1 >/proc/sys/net/ipv4/ip_forward")
	goesBy(t, l, "h1", two, "ovx100")
	complete(t, blue)
	atRest(t, l)
}

// TestDirectRoutingOfStaticAddresses: an address that moves between hosts is routed
// as its host's subnet is.
func TestDirectRoutingOfStaticAddresses(t *testing.T) {
	t.Parallel()
	l := labtest.Up(t, lab.Config{Hosts: 3})
	l.Run(t, "h1", "ovlctl", "network", "create", "blue", "--vni", "100", "--subnet", "10.64.0.0/16", "--static-range", "10.64.255.0/24", "--direct-routing")
	blue := onEach(t, l, "blue")
	complete(t, blue)
	moving := netip.MustParseAddr("10.64.255.7")
	for _, host := range []string{"h2", "h3", "h2"} {
		db := l.Sandbox(t, host, "db", "--network", "blue", "--ip", moving.String())
		labtest.Until(t, "h1 reaches it directly", func() error {
			if out := l.Run(t, "h1", "ip", "route", "show", moving.String()); !strings.Contains(out, "via "+addressOf(t, l, host).String()+" dev eth0") {
				return fmt.Errorf("the route is %q", out)
			}
			return nil
		})
		for _, c := range blue {
			reaches(t, c, moving)
		}
		for _, c := range blue {
			reaches(t, db, c.Addr(t))
		}
		l.Run(t, host, "ovlctl", "rm", "-f", "db")
	}
	atRest(t, l)
}

// TestStrictReversePathFilters: a host that takes a packet only from where it would
// send the answer (RFC 3704 section 2.2; the default of some distributions) takes
// direct ones too.
func TestStrictReversePathFilters(t *testing.T) {
	t.Parallel()
	l := labtest.Up(t, lab.Config{Hosts: 2})
	for _, host := range l.Members() {
		l.Run(t, host, "sh", "-ec", "for f in /proc/sys/net/ipv4/conf/*/rp_filter; do echo 1 >$f; done")
	}
	l.Run(t, "h1", "ovlctl", "network", "create", "blue", "--vni", "100", "--subnet", "10.64.0.0/16", "--direct-routing")
	l.Run(t, "h1", "ovlctl", "network", "create", "red", "--subnet", "10.65.0.0/16")
	complete(t, onEach(t, l, "blue"))
	complete(t, onEach(t, l, "red"))
}
