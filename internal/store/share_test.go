package store_test

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"reflect"
	"strings"
	"testing"

	"github.com/ovlnet/ovl/internal/cluster"
	"github.com/ovlnet/ovl/internal/store"
)

// TestShare: of a host that has too much, what is beyond is left out, the same whatever
// the order; of others nothing is.
func TestShare(t *testing.T) {
	const greedy, honest = cluster.HostID("0000000000000000000000000000000a"), cluster.HostID("0000000000000000000000000000000b")
	var records []store.Record
	lease := func(host cluster.HostID, p netip.Prefix) {
		l := cluster.Lease{Network: "blue", Host: host, Prefix: p}
		value, err := store.EncodeLease(l)
		if err != nil {
			t.Fatal(err)
		}
		records = append(records, store.Record{Key: store.SubnetKey(l.Network, l.Prefix), Value: value})
	}
	for i := range store.MaxHostLeases + 3 {
		lease(greedy, netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 64 + byte(i>>16), byte(i >> 8), byte(i)}), 32))
	}
	lease(honest, netip.MustParsePrefix("10.80.0.0/24"))
	for i := range store.MaxHostEndpoints + 3 {
		e := cluster.Endpoint{Network: "blue", Host: greedy, ID: fmt.Sprintf("c%06d", i), Name: "web", Addrs: []netip.Addr{netip.MustParseAddr("10.64.1.2")}}
		value, err := store.EncodeEndpoint(e)
		if err != nil {
			t.Fatal(err)
		}
		records = append(records, store.Record{Key: store.EndpointKey(e.Network, e.Host, e.ID), Value: value})
	}
	want, problems := store.Snapshot(records)
	if got := len(want.NetworkLeases("blue")); got != store.MaxHostLeases+1 {
		t.Errorf("%d leases, want %d", got, store.MaxHostLeases+1)
	}
	if got := len(want.NetworkEndpoints("blue")); got != store.MaxHostEndpoints {
		t.Errorf("%d endpoints, want %d", got, store.MaxHostEndpoints)
	}
	if len(problems) != 2 || !strings.Contains(problems[0].What+problems[1].What, "it has 16387 endpoints in the store: all but 16384 are ignored") {
		t.Errorf("problems %v", problems)
	}
	rand.New(rand.NewPCG(1, 1)).Shuffle(len(records), func(i, j int) { records[i], records[j] = records[j], records[i] })
	if got, _ := store.Snapshot(records); !reflect.DeepEqual(got, want) {
		t.Error("in another order something else was left out")
	}
}
