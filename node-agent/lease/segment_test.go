package lease_test

import (
	"errors"
	"net/netip"
	"testing"
	"testing/synctest"

	"github.com/ovlnet/ovl/internal/cluster"
	"github.com/ovlnet/ovl/internal/ipam"
)

// The hosts of a rig have the underlay addresses 192.0.2.2, 192.0.2.3 and so on:
// no piece of the segment that they are on has one of them in it, nor the
// gateway, nor anything outside of the range.
func TestPiecesOfASegment(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		lan := r.keep(cluster.Network{Name: "lan", VNI: 100, Driver: cluster.DriverMacvlan, Parent: "eth0", Pools: []cluster.Pool{{
			Prefix: netip.MustParsePrefix("192.0.2.0/24"), HostPrefix: 28,
			Range: netip.MustParsePrefix("192.0.2.0/26"), Gateway: netip.MustParseAddr("192.0.2.62"),
		}}})
		got := rush(t, r, 2, lan) // of the four pieces, the first has the hosts, the last the gateway
		want := []netip.Prefix{netip.MustParsePrefix("192.0.2.16/28"), netip.MustParsePrefix("192.0.2.32/28")}
		if len(got) != 2 || got[want[0]] != 1 || got[want[1]] != 1 {
			t.Errorf("pieces %v, want %v", got, want)
		}
		late := r.addHost().start()
		synctest.Wait()
		if _, err := late.keeper.Take(t.Context(), lan, lan.Pools[0]); !errors.Is(err, ipam.ErrExhausted) {
			t.Errorf("a third host: %v, want none left", err)
		}
		for _, p := range []string{"192.0.2.48/28", "192.0.2.64/28"} {
			if _, err := late.keeper.TakeThis(t.Context(), lan, netip.MustParsePrefix(p)); err == nil {
				t.Errorf("%s was taken, with the gateway or outside of the range", p)
			}
		}
	})
}
