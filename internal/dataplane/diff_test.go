package dataplane_test

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/ovlnet/ovl/internal/cluster"
	. "github.com/ovlnet/ovl/internal/dataplane"
)

func mac(n byte) cluster.MAC { return cluster.MAC{2, 0, 0, 0, 0, n} }

func bridge(name string) Link {
	return Link{LinkKey: LinkKey{Name: name}, Kind: Bridge, MAC: mac(1), MTU: 1450, Up: true, Alias: AliasPrefix + "blue/gateway"}
}

func vxlan(name string, vni cluster.VNI) Link {
	return Link{
		LinkKey: LinkKey{Name: name}, Kind: VXLAN, MAC: mac(2), MTU: 1450, Up: true, Alias: AliasPrefix + "blue/vtep",
		VXLAN: VXLANAttrs{VNI: vni, Port: 4789, Local: netip.MustParseAddr("192.168.77.1")},
	}
}

func pair(ns NS, host, master string) []Row {
	return []Row{
		Link{LinkKey: LinkKey{NS: ns, Name: "eth0"}, Kind: Veth, MAC: mac(3), MTU: 1450, Up: true, Alias: AliasPrefix + "blue/web", Peer: host},
		Link{LinkKey: LinkKey{Name: host}, Kind: Veth, MAC: mac(4), MTU: 1450, Up: true, Alias: AliasPrefix + "blue/web", Master: master},
	}
}

func addr(ns NS, link, p string) Addr {
	return Addr{AddrKey{NS: ns, Link: link, Prefix: netip.MustParsePrefix(p)}}
}

func route(ns NS, dst, link, via, src string) Route {
	r := Route{RouteKey: RouteKey{NS: ns, Dst: netip.MustParsePrefix(dst)}, Link: link}
	if via != "" {
		r.Via, r.OnLink = netip.MustParseAddr(via), true
	}
	if src != "" {
		r.Src = netip.MustParseAddr(src)
	}
	return r
}

// small is a network with one peer and one container.
func small() State {
	s := NewState(
		NewChain(ChainKey{IPv4, "filter", "OVL-FORWARD"}, "-i ovb5 -j ACCEPT"),
		Jump{JumpKey{IPv4, "filter", "FORWARD", "OVL-FORWARD"}},
		bridge("ovb5"), vxlan("ovx5", 5),
		addr(Host, "ovb5", "10.64.1.1/24"),
		addr("/run/netns/web", "eth0", "10.64.1.2/24"),
		Sysctl{SysctlKey{Host, "net/ipv4/ip_forward"}, "1"},
		Neigh{NeighKey{Host, "ovx5", netip.MustParseAddr("10.64.2.0")}, mac(9)},
		FDB{FDBKey{Host, "ovx5", mac(9)}, netip.MustParseAddr("192.168.77.2")},
		route(Host, "10.64.1.0/24", "ovb5", "", "10.64.1.1"),
		route(Host, "10.64.2.0/24", "ovx5", "10.64.2.0", "10.64.1.1"),
		route("/run/netns/web", "10.64.1.0/24", "eth0", "", "10.64.1.2"),
		route("/run/netns/web", "0.0.0.0/0", "eth0", "10.64.1.1", ""),
	)
	s.Add(pair("/run/netns/web", "ove1", "ovb5")...)
	return s
}

func without(s State, keys ...Key) State {
	s = s.Clone()
	for _, k := range keys {
		s.Delete(k)
	}
	return s
}

func with(s State, rows ...Row) State {
	s = s.Clone()
	s.Add(rows...)
	return s
}

func keysOf(ops []Op) []string {
	out := make([]string, len(ops))
	for i, op := range ops {
		out[i] = op.Verb.String() + " " + op.Row.Key().String()
	}
	return out
}

func TestDiff(t *testing.T) {
	want := small()
	otherBridge := bridge("ovb5")
	otherBridge.Kind = VXLAN
	moved := vxlan("ovx5", 5)
	moved.MAC = mac(7)
	renumbered := vxlan("ovx5", 6)
	down := bridge("ovb5")
	down.Up, down.MTU = false, 1500
	handmade := NewChain(ChainKey{IPv4, "filter", "OVL-FORWARD"}, "-i ovb5 -j DROP")
	restranded := pair("/run/netns/web", "ove2", "ovb5")[0]

	for _, c := range []struct {
		name string
		want State
		have State
		ops  []string
	}{
		{"nothing to do", want, want, nil},
		{"route deleted", want, without(want, RouteKey{Host, netip.MustParsePrefix("10.64.2.0/24")}), []string{"create route 10.64.2.0/24"}},
		{"link altered by hand is updated, not replaced", want, with(want, down), []string{"update link ovb5"}},
		{
			"a chain's rules altered", want, with(want, handmade),
			[]string{"update chain ipv4 filter OVL-FORWARD"},
		},
		{
			"an address of another's hand goes", want, with(want, addr(Host, "ovb5", "10.64.1.77/24")),
			[]string{"delete addr 10.64.1.77/24 dev ovb5"},
		},
		{
			"a changed MAC flushes neighbours", want, with(want, moved),
			[]string{"update link ovx5", "create neigh 10.64.2.0 dev ovx5"},
		},
		{
			"a replaced VXLAN device takes its rows along", want, with(want, renumbered),
			[]string{
				"delete link ovx5", "create link ovx5", "create neigh 10.64.2.0 dev ovx5",
				"create fdb 02:00:00:00:00:09 dev ovx5", "create route 10.64.2.0/24",
			},
		},
		{
			"a replaced bridge drops its ports, its addresses and the routes from them", want, with(want, otherBridge),
			[]string{
				"delete link ovb5", "create link ovb5", "update link ove1", "create addr 10.64.1.1/24 dev ovb5",
				"create route 10.64.1.0/24", "create route 10.64.2.0/24",
			},
		},
		{
			"a container's end with another peer is replaced", want, with(want, restranded),
			[]string{
				"delete netns /run/netns/web link eth0", "create netns /run/netns/web link eth0",
				"create netns /run/netns/web addr 10.64.1.2/24 dev eth0",
				"create netns /run/netns/web route 10.64.1.0/24", "create netns /run/netns/web route 0.0.0.0/0",
			},
		},
		{
			"a sysctl is never deleted", without(want, SysctlKey{Host, "net/ipv4/ip_forward"}), want, nil,
		},
		{
			"a container leaves by its host's end", without(want,
				LinkKey{Host, "ove1"}, LinkKey{"/run/netns/web", "eth0"},
				AddrKey{"/run/netns/web", "eth0", netip.MustParsePrefix("10.64.1.2/24")},
				RouteKey{"/run/netns/web", netip.MustParsePrefix("10.64.1.0/24")}, RouteKey{"/run/netns/web", netip.MustParsePrefix("0.0.0.0/0")}),
			want,
			[]string{"delete link ove1"},
		},
		{
			"everything goes: breakers down, chains last",
			State{},
			want,
			[]string{
				"delete link ove1", "delete link ovx5", "delete link ovb5",
				"delete jump ipv4 filter FORWARD -> OVL-FORWARD", "delete chain ipv4 filter OVL-FORWARD",
			},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := keysOf(Diff(c.want, c.have)); !slices.Equal(got, c.ops) {
				t.Errorf("got\n  %s\nwant\n  %s", strings.Join(got, "\n  "), strings.Join(c.ops, "\n  "))
			}
		})
	}
}

// TestDiffFromNothing holds the order: the guard before the link, the bridge
// before its port, the neighbour before the route.
func TestDiffFromNothing(t *testing.T) {
	want := []string{
		"create chain ipv4 filter OVL-FORWARD", "create jump ipv4 filter FORWARD -> OVL-FORWARD",
		"create link ovb5", "create link ovx5", "create netns /run/netns/web link eth0", "create link ove1",
		"create addr 10.64.1.1/24 dev ovb5", "create netns /run/netns/web addr 10.64.1.2/24 dev eth0",
		"create sysctl net/ipv4/ip_forward",
		"create neigh 10.64.2.0 dev ovx5", "create fdb 02:00:00:00:00:09 dev ovx5",
		"create route 10.64.1.0/24", "create route 10.64.2.0/24",
		"create netns /run/netns/web route 10.64.1.0/24", "create netns /run/netns/web route 0.0.0.0/0",
	}
	if got := keysOf(Diff(small(), State{})); !slices.Equal(got, want) {
		t.Errorf("got\n  %s\nwant\n  %s", strings.Join(got, "\n  "), strings.Join(want, "\n  "))
	}
}

func TestRequires(t *testing.T) {
	want := small()
	for _, c := range []struct {
		row  Row
		keys []Key
	}{
		{bridge("ovb5"), []Key{ChainKey{IPv4, "filter", "OVL-FORWARD"}}},
		{pair("/run/netns/web", "ove1", "ovb5")[1], []Key{LinkKey{Host, "ovb5"}, LinkKey{"/run/netns/web", "eth0"}}},
		{
			route(Host, "10.64.2.0/24", "ovx5", "10.64.2.0", "10.64.1.1"),
			[]Key{LinkKey{Host, "ovx5"}, NeighKey{Host, "ovx5", netip.MustParseAddr("10.64.2.0")}, AddrKey{Host, "ovb5", netip.MustParsePrefix("10.64.1.1/24")}},
		},
		{Sysctl{SysctlKey{Host, "net/ipv4/ip_forward"}, "1"}, nil},
	} {
		if got := Requires(c.row, want); !slices.Equal(got, c.keys) {
			t.Errorf("Requires(%s) = %v, want %v", c.row.Key(), got, c.keys)
		}
	}
}

func TestReplaceScope(t *testing.T) {
	have := small()
	seen := NewState(bridge("ovb5"))
	have.Replace(Scope{Host: Of(TableLink)}, seen)
	if len(have.Links) != 2 { // the bridge, and the container's end in its own namespace
		t.Errorf("after reading the host's links again: %v", have.Links)
	}
	if len(have.Routes) != 4 || len(have.Chains) != 1 {
		t.Error("tables out of scope were touched")
	}
}

func TestOwnsLink(t *testing.T) {
	for _, c := range []struct {
		ns          NS
		name, alias string
		ours        bool
	}{
		{Host, "ovb5", "ovl/1/blue/gateway", true},
		{Host, "ovb5", "", false},
		{Host, "br0", "ovl/1/blue/gateway", false},
		{"/run/netns/web", "eth0", "ovl/1/blue/web", true},
		{"/run/netns/web", "ovb5", "mine", false},
	} {
		if got := OwnsLink(c.ns, c.name, c.alias); got != c.ours {
			t.Errorf("OwnsLink(%s, %s, %q) = %v", c.ns, c.name, c.alias, got)
		}
	}
}
