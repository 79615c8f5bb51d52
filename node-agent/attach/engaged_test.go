package attach

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/ovlnet/ovl/internal/cluster"
)

func TestEngaged(t *testing.T) {
	lan := cluster.Network{Name: "lan", Driver: cluster.DriverMacvlan, Pools: []cluster.Pool{{
		Prefix: pfx("192.0.2.0/24"), HostPrefix: 28, Range: pfx("192.0.2.128/25"), Gateway: netip.MustParseAddr("192.0.2.254"),
	}}}
	s := supply{hosts: []cluster.Host{{Name: "h9", Underlay: []netip.Addr{netip.MustParseAddr("192.0.2.130")}}}, taken: newIndex(nil)}
	for addr, want := range map[string]string{
		"192.0.2.254": "gateway", "192.0.2.130": "h9", "192.0.2.5": "outside of its range", "192.0.2.131": "",
	} {
		got := s.engaged(lan, lan.Pools[0], netip.MustParseAddr(addr))
		if (got == "") != (want == "") || !strings.Contains(got, want) {
			t.Errorf("%s is %q, want %q", addr, got, want)
		}
	}
	lan.Driver = cluster.DriverBridge // where all addresses are ours
	if got := s.engaged(lan, lan.Pools[0], netip.MustParseAddr("192.0.2.130")); got != "" {
		t.Errorf("on a bridge network an address is %s", got)
	}
}

func TestAddressesOnASegment(t *testing.T) {
	lan := cluster.Network{Name: "lan", Driver: cluster.DriverMacvlan, Pools: []cluster.Pool{{Prefix: pfx("192.0.2.0/24"), HostPrefix: 28}}}
	got := onSegment(lan, cluster.Interface{Addrs: []netip.Prefix{pfx("192.0.2.131/28"), pfx("fd64::2/80")}})
	if len(got) != 2 || got[0] != pfx("192.0.2.131/24") || got[1] != pfx("fd64::2/80") {
		t.Errorf("addresses %v", got)
	}
}
