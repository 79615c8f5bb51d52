package agent_test

import (
	"net/netip"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ovlnet/ovl/internal/cluster"
	"github.com/ovlnet/ovl/internal/dataplane"
	"github.com/ovlnet/ovl/internal/store"
	"github.com/ovlnet/ovl/internal/store/mem"
)

// TestDirectRoutingIsDecidedAnew: as this host's routes and the peer's record
// change, and what this host has on link is published for the peer to decide by.
func TestDirectRoutingIsDecidedAnew(t *testing.T) {
	db := newDB(t)
	synctest.Test(t, func(t *testing.T) {
		segment, subnet := netip.MustParsePrefix("192.168.77.0/24"), netip.MustParsePrefix("10.64.2.0/24")
		kv, k := mem.New(), newHostKernel()
		v, err := store.EncodeNetwork(cluster.Network{
			Name: "blue", VNI: 100, Driver: cluster.DriverOverlay, DirectRouting: true,
			Pools: []cluster.Pool{{Prefix: netip.MustParsePrefix("10.64.0.0/16"), HostPrefix: 24}},
		})
		mustPut(t, kv, store.NetworkKey("blue"), v, err)
		peer := cluster.Host{ID: "00000000000000000000000000000002", Name: "h2", VXLANPort: 4789, Underlay: []netip.Addr{netip.MustParseAddr("192.168.77.2")}}
		put := func(onLink ...netip.Prefix) {
			t.Helper()
			peer.OnLink = onLink
			v, err := store.EncodeHost(peer)
			mustPut(t, kv, store.HostKey(peer.ID), v, err)
			settled()
		}
		v, err = store.EncodeLease(cluster.Lease{Network: "blue", Host: peer.ID, Prefix: subnet})
		mustPut(t, kv, store.SubnetKey("blue", subnet), v, err)
		put(segment)
		r := start(t, k, kv, db)
		settled()
		by := func(when, link string, published ...netip.Prefix) {
			t.Helper()
			if got := k.State().Routes[dataplane.RouteKey{Dst: subnet}]; got.Link != link {
				t.Errorf("%s: %v, want it by %s", when, got, link)
			}
			if !slices.Equal(r.sub.host.OnLink, published) {
				t.Errorf("%s: %v is published as on link, want %v", when, r.sub.host.OnLink, published)
			}
		}
		announce := func() {
			t.Helper()
			r.events <- dataplane.Scope{dataplane.Host: dataplane.Of(dataplane.TableRoute)}
			time.Sleep(time.Second) // routes that were written a moment ago are read half a second later
			synctest.Wait()
		}
		by("at first", "eth0", segment)
		put()
		by("the peer has nothing on link", "ovx100", segment)
		put(segment)
		by("the peer is back", "eth0", segment)
		if err := k.Remove(dataplane.RouteKey{Dst: segment}); err != nil {
			t.Fatal(err)
		}
		announce()
		by("this host has nothing on link", "ovx100")
		if err := k.SetForeignRoute(dataplane.Route{RouteKey: dataplane.RouteKey{Dst: segment}, Link: "eth0"}); err != nil {
			t.Fatal(err)
		}
		announce()
		by("this host is back", "eth0", segment)
		r.stop()
	})
}
