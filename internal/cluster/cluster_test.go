package cluster_test

import (
	"errors"
	"net/netip"
	"strings"
	"testing"

	"github.com/ovlnet/ovl/internal/cluster"
)

func TestParseHostID(t *testing.T) {
	good := strings.Repeat("0f", 16)
	if id, err := cluster.ParseHostID(good); err != nil || string(id) != good {
		t.Errorf("ParseHostID(%q) = %q, %v", good, id, err)
	}
	for _, bad := range []string{"", "0f", strings.Repeat("0F", 16), strings.Repeat("0g", 16), strings.Repeat("0f", 17)} {
		if _, err := cluster.ParseHostID(bad); err == nil {
			t.Errorf("ParseHostID(%q) succeeds", bad)
		}
	}
}

func TestCheckName(t *testing.T) {
	for _, good := range []string{"a", "web-1", "0", strings.Repeat("a", 63)} {
		if err := cluster.CheckName(good); err != nil {
			t.Error(err)
		}
	}
	for _, bad := range []string{"", "-a", "a-", "Web", "a.b", "a_b", "a b", "ü", strings.Repeat("a", 64), "a\n", "../x"} {
		if err := cluster.CheckName(bad); !errors.Is(err, cluster.ErrName) {
			t.Errorf("CheckName(%q) = %v", bad, err)
		}
	}
}

// TestDerivedMACs holds that derived addresses are unicast, locally
// administered, different for different things, and never change: agents of two
// versions must agree on them.
func TestDerivedMACs(t *testing.T) {
	id := cluster.HostID(strings.Repeat("ab", 16))
	seen := map[cluster.MAC]string{}
	for name, m := range map[string]cluster.MAC{
		"vtep 1": cluster.VTEPMAC(id, 1), "vtep 2": cluster.VTEPMAC(id, 2),
		"gateway 1": cluster.GatewayMAC(id, 1, 0), "gateway 1.1": cluster.GatewayMAC(id, 1, 1), "endpoint": cluster.EndpointMAC(1, netip.MustParseAddr("10.64.0.2")),
	} {
		if m[0]&3 != 2 {
			t.Errorf("%s: %s is not unicast and locally administered", name, m)
		}
		if other, ok := seen[m]; ok {
			t.Errorf("%s and %s are both %s", name, other, m)
		}
		seen[m] = name
	}
	if got, want := cluster.VTEPMAC(id, 1).String(), "02:19:4b:d8:2d:35"; got != want {
		t.Errorf("VTEPMAC = %s, was %s: hosts of two versions would not find each other", got, want)
	}
}

func TestUnderlayFor(t *testing.T) {
	h := cluster.Host{Underlay: []netip.Addr{netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8::1")}}
	if a, ok := h.UnderlayFor([]netip.Addr{netip.MustParseAddr("2001:db8::9")}); !ok || a.Is4() {
		t.Errorf("UnderlayFor an IPv6 host = %s, %v", a, ok)
	}
	if _, ok := h.UnderlayFor(nil); ok {
		t.Error("UnderlayFor no address succeeds")
	}
}

func TestSnapshotLookups(t *testing.T) {
	s := cluster.NewSnapshot(7,
		[]cluster.Network{{Name: "red"}, {Name: "blue"}},
		[]cluster.Host{{ID: "b"}, {ID: "a"}},
		[]cluster.Lease{
			{Network: "red", Prefix: netip.MustParsePrefix("10.2.0.0/24")},
			{Network: "blue", Prefix: netip.MustParsePrefix("10.1.2.0/24")},
			{Network: "blue", Prefix: netip.MustParsePrefix("10.1.1.0/24")},
		})
	if _, ok := s.Network("blue"); !ok {
		t.Error("blue is not found")
	}
	if _, ok := s.Network("green"); ok {
		t.Error("green is found")
	}
	if _, ok := s.Host("b"); !ok {
		t.Error("host b is not found")
	}
	if ls := s.NetworkLeases("blue"); len(ls) != 2 || ls[0].Prefix.String() != "10.1.1.0/24" {
		t.Errorf("leases of blue: %v", ls)
	}
	if ls := s.NetworkLeases("green"); len(ls) != 0 {
		t.Errorf("leases of green: %v", ls)
	}
	with := s.WithEndpoints([]cluster.Endpoint{
		{Network: "red", Host: "a", ID: "1"},
		{Network: "blue", Host: "b", ID: "1"},
		{Network: "blue", Host: "a", ID: "2"},
		{Network: "blue", Host: "a", ID: "1"},
	})
	if es := with.NetworkEndpoints("blue"); len(es) != 3 || es[0].Host != "a" || es[0].ID != "1" || es[2].Host != "b" {
		t.Errorf("endpoints of blue: %v", es)
	}
	if len(s.Endpoints) != 0 || len(with.NetworkEndpoints("green")) != 0 {
		t.Error("endpoints where none are")
	}
}

func TestDomain(t *testing.T) {
	if got := (cluster.Network{Name: "blue"}).Domain(); got != "blue.ovl.internal" {
		t.Errorf("domain %s", got)
	}
	if got := (cluster.Network{Name: "blue", DNSDomain: "lab.example"}).Domain(); got != "blue.lab.example" {
		t.Errorf("domain %s", got)
	}
}

func FuzzParseMAC(f *testing.F) {
	f.Add("02:00:00:00:00:01")
	f.Add("02:00:00:00:00:0G")
	f.Fuzz(func(t *testing.T, s string) {
		m, err := cluster.ParseMAC(s)
		if err == nil && !strings.EqualFold(m.String(), s) {
			t.Errorf("ParseMAC(%q) = %s", s, m)
		}
	})
}
