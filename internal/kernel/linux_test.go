package kernel_test

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/ovlnet/ovl/internal/cluster"
	"github.com/ovlnet/ovl/internal/dataplane"
)

// TestOddEntriesAreRepaired: entries of ours in which a hand has put something
// that a row has no room for.
func TestOddEntriesAreRepaired(t *testing.T) {
	h := newHost(t)
	l := h.newVXLAN(t)
	m := cluster.MAC{2, 0, 0, 0, 0, 9}
	via := netip.MustParseAddr("10.64.2.0")
	six := netip.MustParseAddr("fd64:2::")
	want := dataplane.NewState(l,
		dataplane.FDB{FDBKey: dataplane.FDBKey{Link: l.Name, MAC: m}, Dst: netip.MustParseAddr("192.0.2.9")},
		dataplane.Route{RouteKey: dataplane.RouteKey{Dst: netip.PrefixFrom(via, 24)}, Link: l.Name, Via: via, OnLink: true},
		dataplane.Route{RouteKey: dataplane.RouteKey{Dst: netip.PrefixFrom(six, 64)}, Link: l.Name, Via: six, OnLink: true},
	)
	scope := dataplane.Scope{dataplane.Host: dataplane.NSTables | dataplane.Of(dataplane.TableFDB)}
	repair := func() int {
		t.Helper()
		have, _, err := h.linux.Observe(t.Context(), scope)
		if err != nil {
			t.Fatal(err)
		}
		ops := dataplane.Diff(want, have)
		for _, op := range ops {
			if err := h.linux.Apply(t.Context(), op); err != nil {
				t.Fatalf("%s: %v", op, err)
			}
		}
		have, _, err = h.linux.Observe(t.Context(), scope)
		if err != nil {
			t.Fatal(err)
		}
		if have.String() != want.String() {
			t.Fatalf("got\n%swant\n%s", have, want)
		}
		return len(ops)
	}
	repair()
	h.do(t, "bridge fdb append 00:00:00:00:00:00 dev ovx5 dst 192.0.2.11 self permanent")
	h.do(t, "ip nexthop add id 7 via 10.64.2.0 dev ovx5 onlink")
	for _, command := range []string{
		"bridge fdb replace 02:00:00:00:00:09 dev ovx5 dst 192.0.2.9 port 9999 self permanent",
		"bridge fdb append 00:00:00:00:00:00 dev ovx5 dst 192.0.2.10 self permanent",
		"ip route add 10.64.2.0/24 dev ovx5 proto 79 metric 50",
		"ip route append 10.64.2.0/24 dev ovx5 proto 79",
		"ip route replace 10.64.2.0/24 proto 79 nexthop via 10.64.2.0 dev ovx5 onlink nexthop via 10.64.2.1 dev ovx5 onlink",
		"ip route replace blackhole 10.64.2.0/24 proto 79",
		"ip route replace 10.64.2.0/24 proto 79 nhid 7",
		"ip -6 route add fd64:2::/64 dev ovx5 proto 79 metric 50",
		"ip -6 route append fd64:2::/64 via fd64:2::7 dev ovx5 onlink proto 79",
		"ip -6 route replace fd64:2::/64 dev ovx5 proto 79",
	} {
		h.do(t, command)
		if repair() == 0 {
			t.Errorf("%s: not seen", command)
		}
	}
}

// TestRefusalsSayWhy: an error carries the kernel's own words, since "file
// exists" would send people to look for a link of that name.
func TestRefusalsSayWhy(t *testing.T) {
	h := newHost(t)
	l := h.newVXLAN(t)
	l.Name = "ovx6"
	err := h.linux.Apply(t.Context(), dataplane.Op{Verb: dataplane.Create, Row: l})
	if err == nil || !strings.Contains(err.Error(), "VNI already exists") {
		t.Errorf("make a second device of one VNI: %v; want the kernel's reason", err)
	}
}

// TestLinksAreQuiet: what a row does not say of the links that we make.
func TestLinksAreQuiet(t *testing.T) {
	h := newHost(t)
	l := h.newVXLAN(t)
	h.apply(t, dataplane.Create, dataplane.Link{
		LinkKey: dataplane.LinkKey{Name: "ovb5"}, Kind: dataplane.Bridge, MAC: cluster.MAC{2, 0, 0, 0, 0, 1}, MTU: 1430, Up: true, Alias: "ovl/1/blue/bridge",
	})
	if out := h.do(t, "ip -d link show dev "+l.Name); !strings.Contains(out, "nolearning") || !strings.Contains(out, "addrgenmode none") {
		t.Errorf("VXLAN device learns or makes addresses:\n%s", out)
	}
	if out := h.do(t, "ip -6 addr show dev "+l.Name); strings.Contains(out, "fe80") {
		t.Errorf("VXLAN device has a link-local address:\n%s", out)
	}
	// The MTU stays when the last port leaves, and when there was none.
	h.do(t, "ip link add port0 mtu 1430 type veth peer name port1")
	h.do(t, "ip link set port0 master ovb5")
	h.do(t, "ip link set port0 nomaster")
	if out := h.do(t, "ip link show dev ovb5"); !strings.Contains(out, "mtu 1430") {
		t.Errorf("bridge forgot its MTU:\n%s", out)
	}
}

// TestIPv6WhereItIsOff: an interface that is made anew, in a namespace where an engine has
// switched IPv6 off for all interfaces to come.
func TestIPv6WhereItIsOff(t *testing.T) {
	h := newHost(t)
	ns := h.Namespace(t)
	h.do(t, "nsenter --net="+string(ns)+" sysctl -qw net.ipv6.conf.default.disable_ipv6=1")
	h.apply(t, dataplane.Create, dataplane.Link{
		LinkKey: dataplane.LinkKey{NS: ns, Name: "eth0"}, Kind: dataplane.Veth, MAC: cluster.MAC{2, 0, 0, 0, 0, 1}, MTU: 1430, Up: true, Alias: "ovl/1/blue/web", Peer: "ove1",
	})
	h.apply(t, dataplane.Create, dataplane.Addr{AddrKey: dataplane.AddrKey{NS: ns, Link: "eth0", Prefix: netip.MustParsePrefix("fd64::2/64")}})
	if out := h.do(t, ip(ns)+"-6 address show dev eth0"); !strings.Contains(out, "fd64::2/64") {
		t.Errorf("no address:\n%s", out)
	}
}
