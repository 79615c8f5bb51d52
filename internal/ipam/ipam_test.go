package ipam_test

import (
	"errors"
	"fmt"
	"net/netip"
	"testing"

	"pgregory.net/rapid"

	"github.com/ovlnet/ovl/internal/cluster"
	"github.com/ovlnet/ovl/internal/ipam"
)

func prefixes(ss ...string) []netip.Prefix {
	var ps []netip.Prefix
	for _, s := range ss {
		ps = append(ps, netip.MustParsePrefix(s))
	}
	return ps
}

func TestSubnetIsStableAndSpread(t *testing.T) {
	pool := cluster.Pool{Prefix: netip.MustParsePrefix("10.64.0.0/10"), HostPrefix: 24}
	seen := map[netip.Prefix]int{}
	for i := range 50 {
		host := cluster.HostID(fmt.Sprintf("%032x", i))
		a, err := ipam.Subnet(pool, host, nil, netip.Prefix{})
		if err != nil {
			t.Fatal(err)
		}
		b, _ := ipam.Subnet(pool, host, nil, netip.Prefix{})
		if a != b {
			t.Errorf("host %d chose %s, then %s", i, a, b)
		}
		seen[a]++
	}
	if len(seen) < 48 {
		t.Errorf("50 hosts that know nothing of each other chose only %d different subnets of 16384", len(seen))
	}
}

// TestSubnetLaws: whatever is taken, what is chosen is free, in the pool and of
// the right length; and a pool is exhausted only when nothing in it is free.
func TestSubnetLaws(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		base := netip.MustParsePrefix(rapid.SampledFrom([]string{"10.64.0.0/20", "fd64::/56", "0.0.0.0/4", "255.255.240.0/20"}).Draw(t, "pool"))
		pool := cluster.Pool{Prefix: base, HostPrefix: base.Bits() + rapid.IntRange(0, 6).Draw(t, "bits")}
		var taken []netip.Prefix
		for n := range rapid.IntRange(0, 80).Draw(t, "takers") {
			host := cluster.HostID(fmt.Sprintf("%032x", n))
			p, err := ipam.Subnet(pool, host, taken, netip.Prefix{})
			if err != nil {
				if !errors.Is(err, ipam.ErrExhausted) || len(taken) < 1<<(pool.HostPrefix-base.Bits()) {
					t.Fatalf("with %d taken: %v", len(taken), err)
				}
				return
			}
			if p.Bits() != pool.HostPrefix || !base.Overlaps(p) || p != p.Masked() {
				t.Fatalf("%s is no subnet of %v", p, pool)
			}
			for _, o := range taken {
				if o.Overlaps(p) {
					t.Fatalf("%s overlaps %s", p, o)
				}
			}
			taken = append(taken, p)
		}
	})
}

func TestSubnetReserved(t *testing.T) {
	pool := cluster.Pool{Prefix: netip.MustParsePrefix("10.0.0.0/23"), HostPrefix: 24}
	for i := range 8 {
		p, err := ipam.Subnet(pool, cluster.HostID(fmt.Sprintf("%032x", i)), nil, netip.MustParsePrefix("10.0.0.128/25"))
		if err != nil || p != netip.MustParsePrefix("10.0.1.0/24") {
			t.Errorf("Subnet = %s, %v; want 10.0.1.0/24", p, err)
		}
	}
}

// TestSubnetReservedLaws: no subnet that is chosen overlaps what is reserved, all
// others can be, and their number is known.
func TestSubnetReservedLaws(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		base := netip.MustParsePrefix(rapid.SampledFrom([]string{"10.64.0.0/20", "fd64::/56", "255.255.240.0/20"}).Draw(t, "pool"))
		pool := cluster.Pool{Prefix: base, HostPrefix: base.Bits() + rapid.IntRange(0, 6).Draw(t, "bits")}
		inside := cluster.Pool{Prefix: base, HostPrefix: base.Bits() + rapid.IntRange(0, 10).Draw(t, "length")}
		reserved, err := ipam.Subnet(inside, cluster.HostID(fmt.Sprintf("%032x", rapid.Uint32().Draw(t, "at"))), nil, netip.Prefix{})
		if err != nil {
			t.Fatal(err)
		}
		var taken []netip.Prefix
		for {
			p, err := ipam.Subnet(pool, "h", taken, reserved)
			if err != nil {
				break
			}
			if p.Overlaps(reserved) || !base.Overlaps(p) || p.Bits() != pool.HostPrefix {
				t.Fatalf("chose %s of %v with %s reserved", p, pool, reserved)
			}
			taken = append(taken, p)
		}
		if n := ipam.Subnets(pool, reserved); n != uint64(len(taken)) {
			t.Fatalf("Subnets = %d, %d could be chosen", n, len(taken))
		}
	})
}

// TestSubnetReservedIsSkipped: what is reserved may be more than could be probed.
func TestSubnetReservedIsSkipped(t *testing.T) {
	pool := cluster.Pool{Prefix: netip.MustParsePrefix("fd00::/16"), HostPrefix: 64}
	reserved := netip.MustParsePrefix("fd00::/17")
	for i := range 8 {
		p, err := ipam.Subnet(pool, cluster.HostID(fmt.Sprintf("%032x", i)), nil, reserved)
		if err != nil || p.Overlaps(reserved) {
			t.Errorf("Subnet = %s, %v", p, err)
		}
	}
}

func TestCheckStatic(t *testing.T) {
	pool := cluster.Pool{Prefix: netip.MustParsePrefix("10.64.0.0/16"), HostPrefix: 24}
	for _, c := range []struct {
		static, addr string
		ok           bool
	}{
		{"10.64.255.0/24", "10.64.255.9", true},
		{"10.64.254.0/23", "10.64.255.0", true}, // nothing special about it without a subnet
		{"10.64.255.0/24", "10.64.255.255", false},
		{"10.64.0.0/24", "10.64.0.0", false},
		{"10.64.0.0/24", "10.64.0.1", true},
		{"10.64.255.0/24", "10.64.254.9", false},
		{"10.64.255.0/24", "fd64::1", false},
	} {
		if err := ipam.CheckStatic(pool, netip.MustParsePrefix(c.static), netip.MustParseAddr(c.addr)); (err == nil) != c.ok {
			t.Errorf("CheckStatic(%s, %s) = %v", c.static, c.addr, err)
		}
	}
}

func TestGatewayAndSize(t *testing.T) {
	for _, c := range []struct {
		subnet, gateway string
		size            uint64
	}{
		{"10.64.1.0/24", "10.64.1.1", 253},
		{"10.64.1.0/30", "10.64.1.1", 1},
		{"10.64.1.0/31", "", 0},
		{"fd64::/64", "fd64::1", 1<<63 - 1},
		{"fd64::/126", "fd64::1", 2},
		{"fd64::/128", "", 0},
	} {
		p := netip.MustParsePrefix(c.subnet)
		if gw := ipam.Gateway(p); c.gateway == "" && gw.IsValid() || c.gateway != "" && gw.String() != c.gateway {
			t.Errorf("Gateway(%s) = %s, want %q", p, gw, c.gateway)
		}
		if n := ipam.Size(p); n != c.size {
			t.Errorf("Size(%s) = %d, want %d", p, n, c.size)
		}
	}
}

// TestAddressLaws: Size addresses can be chosen, all different and usable, and
// not one more.
func TestAddressLaws(t *testing.T) {
	for _, s := range []string{"10.64.1.0/28", "10.64.1.0/30", "fd64::/124", "255.255.255.240/28"} {
		subnet := netip.MustParsePrefix(s)
		taken := map[netip.Addr]bool{}
		var last netip.Addr
		for range ipam.Size(subnet) {
			a, err := ipam.Address(subnet, last, func(a netip.Addr) bool { return taken[a] })
			if err != nil {
				t.Fatalf("%s: after %d: %v", s, len(taken), err)
			}
			if taken[a] || ipam.CheckAddress(subnet, a) != nil {
				t.Fatalf("%s: chose %s: taken %v, check %v", s, a, taken[a], ipam.CheckAddress(subnet, a))
			}
			taken[a], last = true, a
		}
		if a, err := ipam.Address(subnet, last, func(a netip.Addr) bool { return taken[a] }); !errors.Is(err, ipam.ErrExhausted) {
			t.Errorf("%s: one more: %s, %v", s, a, err)
		}
	}
}

func TestAddressRests(t *testing.T) {
	subnet := netip.MustParsePrefix("10.64.1.0/24")
	a, _ := ipam.Address(subnet, netip.MustParseAddr("10.64.1.2"), func(netip.Addr) bool { return false })
	if a.String() != "10.64.1.3" {
		t.Errorf("after 10.64.1.2 comes %s: an address just given back should rest", a)
	}
	a, _ = ipam.Address(subnet, netip.MustParseAddr("10.64.1.254"), func(netip.Addr) bool { return false })
	if a.String() != "10.64.1.2" {
		t.Errorf("after the last comes %s, want the first", a)
	}
}

func TestCheckAddress(t *testing.T) {
	subnet := netip.MustParsePrefix("10.64.1.0/24")
	for _, s := range []string{"10.64.1.0", "10.64.1.1", "10.64.1.255", "10.64.2.2", "fd64::2"} {
		if ipam.CheckAddress(subnet, netip.MustParseAddr(s)) == nil {
			t.Errorf("%s passes in %s", s, subnet)
		}
	}
	if err := ipam.CheckAddress(subnet, netip.MustParseAddr("10.64.1.2")); err != nil {
		t.Error(err)
	}
}

func TestPool(t *testing.T) {
	from := netip.MustParsePrefix("10.64.0.0/10")
	p, err := ipam.Pool(from, 16, prefixes("10.64.0.0/16", "10.65.3.0/24", "10.0.0.0/11"))
	if err != nil || p != netip.MustParsePrefix("10.66.0.0/16") {
		t.Errorf("Pool = %s, %v; want 10.66.0.0/16", p, err)
	}
	if _, err := ipam.Pool(from, 16, prefixes("10.0.0.0/8")); !errors.Is(err, ipam.ErrExhausted) {
		t.Errorf("Pool of a range all taken: %v", err)
	}
}

func TestVNI(t *testing.T) {
	v, err := ipam.VNI(cluster.MaxVNI, func(v cluster.VNI) bool { return v == cluster.MaxVNI || v == 1 })
	if err != nil || v != 2 {
		t.Errorf("VNI = %d, %v; want 2", v, err)
	}
}
