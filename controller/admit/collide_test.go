package admit_test

import (
	"net/netip"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/ovlnet/ovl/controller/admit"
	"github.com/ovlnet/ovl/internal/cluster"
)

func pool(s string, host int) cluster.Pool {
	return cluster.Pool{Prefix: netip.MustParsePrefix(s), HostPrefix: host}
}

var facts = admit.Facts{
	Networks: []cluster.Network{{Name: "red", VNI: 100, Pools: []cluster.Pool{pool("10.64.0.0/16", 24), pool("fd64::/48", 64)}}},
	Hosts: []cluster.Host{{
		Name: "h1", Underlay: []netip.Addr{netip.MustParseAddr("192.0.2.1")},
		Routes: []netip.Prefix{
			netip.MustParsePrefix("0.0.0.0/0"), netip.MustParsePrefix("128.0.0.0/1"), netip.MustParsePrefix("::/0"),
			netip.MustParsePrefix("172.17.0.0/16"),
		},
	}},
	VNIs: map[cluster.VNI]string{100: "red"},
}

func TestCollisions(t *testing.T) {
	for _, c := range []struct {
		name  string
		n     cluster.Network
		field string
		words []string
	}{
		{"VNI", cluster.Network{Name: "blue", VNI: 100}, "vni", []string{"100", "red"}},
		{"same", cluster.Network{Name: "blue", Pools: []cluster.Pool{pool("10.64.0.0/16", 24)}}, "subnets[0]", []string{"network red", "10.64.0.0/16"}},
		{"within", cluster.Network{Name: "blue", Pools: []cluster.Pool{pool("10.64.4.0/22", 24)}}, "subnets[0]", []string{"network red"}},
		{"around", cluster.Network{Name: "blue", Pools: []cluster.Pool{pool("10.0.0.0/8", 24)}}, "subnets[0]", []string{"network red"}},
		{"second", cluster.Network{Name: "blue", Pools: []cluster.Pool{pool("10.65.0.0/16", 24), pool("fd64::/40", 64)}}, "subnets[1]", []string{"fd64::/48"}},
		{"underlay", cluster.Network{Name: "blue", Pools: []cluster.Pool{pool("192.0.0.0/16", 24)}}, "subnets[0]", []string{"192.0.2.1", "host h1"}},
		{"route", cluster.Network{Name: "blue", Pools: []cluster.Pool{pool("172.16.0.0/12", 24)}}, "subnets[0]", []string{"172.17.0.0/16", "host h1"}},
	} {
		t.Run(c.name, func(t *testing.T) { expect(t, admit.Collisions(c.n, facts), c.field, c.words...) })
	}
	for _, n := range []cluster.Network{
		{Name: "blue", VNI: 101, Pools: []cluster.Pool{pool("10.65.0.0/16", 24), pool("fd65::/48", 64)}},
		{Name: "blue", Pools: []cluster.Pool{pool("200.0.0.0/16", 24)}}, // only default routes cover it
		{Name: "red", VNI: 100, Pools: []cluster.Pool{pool("10.64.0.0/16", 24)}},
	} {
		if vs := admit.Collisions(n, facts); len(vs) > 0 {
			t.Errorf("%s with %v refused: %v", n.Name, n.Pools, vs)
		}
	}
}

var defaults = admit.Defaults{FirstVNI: 100, Pool: netip.MustParsePrefix("10.64.0.0/10"), Length: 16}

func TestChoose(t *testing.T) {
	n, vs := admit.Choose(cluster.Network{Name: "blue"}, 24, defaults, facts)
	if len(vs) > 0 {
		t.Fatal(vs)
	}
	if n.VNI != 101 || n.Pools[0] != pool("10.65.0.0/16", 24) {
		t.Errorf("chose %d and %v, want the next free ones", n.VNI, n.Pools)
	}
	covered := facts
	covered.Hosts = []cluster.Host{{Name: "h2", Routes: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}}}
	_, vs = admit.Choose(cluster.Network{Name: "blue"}, 24, defaults, covered)
	expect(t, vs, "subnets", "10.64.0.0/10", "give a subnet")
	kept := cluster.Network{Name: "blue", VNI: 7, Pools: []cluster.Pool{pool("fd65::/48", 64)}}
	if n, vs := admit.Choose(kept, 24, defaults, covered); len(vs) > 0 || n.VNI != 7 || n.Pools[0] != kept.Pools[0] {
		t.Errorf("what was asked for became %+v %v", n, vs)
	}
}

func TestHostPrefix(t *testing.T) {
	for _, c := range []struct {
		lengths []uint32
		want    int
	}{{nil, 24}, {[]uint32{0}, 24}, {[]uint32{26}, 26}} {
		if got, vs := admit.HostPrefix(defaults, c.lengths); got != c.want || len(vs) > 0 {
			t.Errorf("host prefix for %v is %d %v, want %d", c.lengths, got, vs, c.want)
		}
	}
	_, vs := admit.HostPrefix(defaults, []uint32{16})
	expect(t, vs, "host_prefixes[0]", "17 to 29")
	_, vs = admit.HostPrefix(defaults, []uint32{24, 64})
	expect(t, vs, "host_prefixes")
}

// TestChosenNeverCollides: whatever is there, what Choose returns without a
// violation has none in Collisions.
func TestChosenNeverCollides(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		f := admit.Facts{VNIs: map[cluster.VNI]string{}}
		for range rapid.IntRange(0, 40).Draw(t, "networks") {
			a := netip.AddrFrom4([4]byte{10, byte(rapid.IntRange(60, 130).Draw(t, "octet")), 0, 0})
			p := netip.PrefixFrom(a, rapid.IntRange(9, 28).Draw(t, "bits")).Masked()
			n := cluster.Network{Name: "n", VNI: cluster.VNI(rapid.IntRange(99, 130).Draw(t, "vni")), Pools: []cluster.Pool{{Prefix: p, HostPrefix: 29}}}
			f.Networks = append(f.Networks, n)
			f.VNIs[n.VNI] = n.Name
		}
		n, vs := admit.Choose(cluster.Network{Name: "new"}, 24, defaults, f)
		if len(vs) > 0 {
			return
		}
		if bad := admit.Collisions(n, f); len(bad) > 0 {
			t.Fatalf("chose %v: %v", n.Pools, bad)
		}
	})
}

func TestDifferences(t *testing.T) {
	have := cluster.Network{Name: "blue", VNI: 100, Driver: cluster.DriverOverlay, Masquerade: true, Pools: []cluster.Pool{pool("10.64.0.0/16", 24), pool("fd64::/48", 64)}, Labels: map[string]string{"a": "b"}}
	left := have
	left.VNI, left.Pools = 0, nil
	swapped := have
	swapped.Pools = []cluster.Pool{have.Pools[1], have.Pools[0]}
	for name, want := range map[string]cluster.Network{"same": have, "left to the controller": left, "other order": swapped} {
		if ds := admit.Differences(have, want, nil); len(ds) > 0 {
			t.Errorf("%s: %v", name, ds)
		}
	}
	other := cluster.Network{Name: "blue", VNI: 7, Driver: cluster.DriverBridge, Internal: true, MTU: 1400, DNSDomain: "x", Pools: []cluster.Pool{pool("10.9.0.0/16", 24)}}
	got := strings.Join(admit.Differences(have, other, nil), "; ")
	for _, w := range []string{"VNI is 100, not 7", "driver", "subnet", "10.9.0.0/16", "internal is false, not true", "masquerade", "MTU", "DNS domain is none, not x", "labels"} {
		if !strings.Contains(got, w) {
			t.Errorf("%q does not say %q", got, w)
		}
	}
	if ds := admit.Differences(have, left, []uint32{26}); len(ds) != 1 || !strings.Contains(ds[0], "host prefix is 24, not 26") {
		t.Errorf("differences %v, want the host prefix", ds)
	}
}
