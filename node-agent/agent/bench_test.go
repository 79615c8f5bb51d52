package agent_test

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"path/filepath"
	"testing"

	"go.etcd.io/bbolt"

	"github.com/ovlnet/ovl/internal/cluster"
	"github.com/ovlnet/ovl/internal/dataplane"
	"github.com/ovlnet/ovl/internal/store"
	"github.com/ovlnet/ovl/internal/store/mem"
	"github.com/ovlnet/ovl/node-agent/agent"
	"github.com/ovlnet/ovl/node-agent/lease"
)

// BenchmarkPass5000 is one pass of an agent that has 5,000 peers, when one lease
// changed: what it costs to find the one thing to do, without Linux and etcd.
func BenchmarkPass5000(b *testing.B) {
	kv, k := mem.New(), newHostKernel()
	db, err := bbolt.Open(filepath.Join(b.TempDir(), "db"), 0o600, nil)
	if err != nil {
		b.Fatal(err)
	}
	defer db.Close()
	ctx, cancel := context.WithCancel(context.Background())
	sub := &subnets{held: []lease.Held{{Lease: cluster.Lease{Network: "blue", Host: self, Prefix: netip.MustParsePrefix("10.255.1.0/24")}, State: lease.StateHeld}}}
	v, err := store.EncodeNetwork(cluster.Network{Name: "blue", VNI: 100, Driver: cluster.DriverOverlay, Pools: []cluster.Pool{{Prefix: netip.MustParsePrefix("10.0.0.0/8"), HostPrefix: 24}}})
	mustPut(b, kv, store.NetworkKey("blue"), v, err)
	peer := func(i int) {
		id := cluster.HostID(fmt.Sprintf("%032x", i+100))
		p := netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(i >> 8), byte(i), 0}), 24)
		v, err := store.EncodeHost(cluster.Host{ID: id, Name: "peer", VXLANPort: 4789, Version: "x", Underlay: []netip.Addr{netip.AddrFrom4([4]byte{172, 20, byte(i >> 8), byte(i)})}})
		mustPut(b, kv, store.HostKey(id), v, err)
		v, err = store.EncodeLease(cluster.Lease{Network: "blue", Host: id, Prefix: p})
		mustPut(b, kv, store.SubnetKey("blue", p), v, err)
	}
	for i := range 5000 {
		peer(i)
	}
	var a *agent.Agent
	changed := make(chan struct{}, 1)
	mirror := store.NewMirror(store.MirrorConfig{KV: kv, Changed: func() {
		a.Wake(nil)
		select {
		case changed <- struct{}{}:
		default:
		}
	}})
	a = agent.New(agent.Config{
		Self: cluster.Host{ID: self, Name: "h1", VXLANPort: 4789}, Underlay: agent.UnderlayChoice{Link: "eth0"}, Kernel: k, Monitor: quiet{},
		Cluster: mirror, Subnets: sub, Attachments: &attachments{}, Disk: agent.NewDisk(db), Log: slog.New(slog.DiscardHandler),
	}, mustUnderlay(b, k))
	done := make(chan struct{})
	go func() { _ = mirror.Run(ctx) }()
	go func() { defer close(done); _ = a.Run(ctx) }()
	for !hasRoute(k, "10.19.135.0/24") {
		if _, err := a.Settle(ctx, nil); err != nil {
			b.Fatal(err)
		}
	}
	i := 5000
	for b.Loop() {
		peer(i)
		<-changed
		if _, err := a.Settle(ctx, dataplane.Scope{}); err != nil {
			b.Fatal(err)
		}
		i++
	}
	cancel()
	<-done
}
