package agent_test

import (
	"context"
	"log/slog"
	"net/netip"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.etcd.io/bbolt"

	"github.com/ovlnet/ovl/internal/cluster"
	"github.com/ovlnet/ovl/internal/dataplane"
	"github.com/ovlnet/ovl/internal/kernel/fake"
	"github.com/ovlnet/ovl/internal/plan"
	"github.com/ovlnet/ovl/internal/store"
	"github.com/ovlnet/ovl/internal/store/mem"
	"github.com/ovlnet/ovl/node-agent/agent"
	"github.com/ovlnet/ovl/node-agent/lease"
)

const (
	self  = cluster.HostID("00000000000000000000000000000001")
	other = cluster.HostID("00000000000000000000000000000002")
	third = cluster.HostID("00000000000000000000000000000003")
)

// subnets is a lease room that holds what it is told.
type subnets struct {
	mu      sync.Mutex
	held    []lease.Held
	host    cluster.Host
	applied int64
}

func (s *subnets) Held() []lease.Held {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.held)
}
func (s *subnets) Status() lease.Status { return lease.Status{} }
func (s *subnets) Forget(string, int64) {}
func (s *subnets) SetHost(h cluster.Host) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.host = h
}

func (s *subnets) SetReport(applied int64, _ []cluster.Problem) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.applied = applied
}

// attachments is an attach room that holds what it is told.
type attachments struct {
	mu   sync.Mutex
	list []cluster.Attachment
	lent func(seen dataplane.State, list []cluster.Attachment) bool
}

func (a *attachments) List() []cluster.Attachment {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Clone(a.list)
}

func (a *attachments) Lent(seen dataplane.State) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.lent != nil && a.lent(seen, a.list)
}

func (a *attachments) Vanished(gone []dataplane.NS) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.list = slices.DeleteFunc(a.list, func(att cluster.Attachment) bool { return slices.Contains(gone, dataplane.NS(att.NetNS)) })
}

// quiet is a monitor that announces only what a test tells it to.
type quiet struct{ wake chan dataplane.Scope }

func (quiet) Watch([]dataplane.NS) {}

func (quiet) WatchLinks([]string) {}
func (q quiet) Run(ctx context.Context, wake func(dataplane.Scope)) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case s := <-q.wake:
			wake(s)
		}
	}
}

// rig is an agent with all around it in memory.
type rig struct {
	*agent.Agent
	kernel *fake.Kernel
	kv     *mem.Store
	sub    *subnets
	att    *attachments
	events chan dataplane.Scope
	stop   func()
}

func newDB(t *testing.T) *bbolt.DB {
	t.Helper()
	db, err := bbolt.Open(filepath.Join(t.TempDir(), "db"), 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	return db
}

func newHostKernel() *fake.Kernel {
	return fake.New(dataplane.HostLink{Name: "eth0", MTU: 1500, Up: true, Addrs: []netip.Prefix{netip.MustParsePrefix("192.168.77.1/24")}})
}

// start runs an agent of the host self over what is given.
func start(t *testing.T, k *fake.Kernel, kv *mem.Store, db *bbolt.DB) *rig {
	t.Helper()
	r := &rig{kernel: k, kv: kv, sub: &subnets{}, att: &attachments{}, events: make(chan dataplane.Scope)}
	r.sub.held = []lease.Held{{Lease: cluster.Lease{Network: "blue", Host: self, Prefix: netip.MustParsePrefix("10.64.1.0/24")}, State: lease.StateHeld}}
	ctx, cancel := context.WithCancel(t.Context())
	log := slog.New(slog.DiscardHandler)
	mirror := store.NewMirror(store.MirrorConfig{KV: kv, Log: log, Changed: func() { r.Wake(nil) }})
	choice := agent.UnderlayChoice{Link: "eth0"}
	underlay := mustUnderlay(t, k)
	r.Agent = agent.New(agent.Config{
		Self: cluster.Host{ID: self, Name: "h1", VXLANPort: 4789}, Underlay: choice, Kernel: k, Monitor: quiet{r.events},
		Cluster: mirror, Subnets: r.sub, Attachments: r.att, Disk: agent.NewDisk(db), Log: log,
	}, underlay)
	var wg sync.WaitGroup
	wg.Go(func() { _ = mirror.Run(ctx) })
	wg.Go(func() {
		if err := r.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	r.stop = sync.OnceFunc(func() { cancel(); wg.Wait() })
	t.Cleanup(r.stop)
	return r
}

func mustUnderlay(tb testing.TB, k *fake.Kernel) plan.Underlay {
	tb.Helper()
	_, facts, err := k.Observe(context.Background(), dataplane.FullScope())
	if err != nil {
		tb.Fatal(err)
	}
	u, err := agent.UnderlayChoice{Link: "eth0"}.Resolve(*facts.Host)
	if err != nil {
		tb.Fatal(err)
	}
	return u
}

func mustPut(t testing.TB, kv store.KV, key string, value []byte, err error) {
	t.Helper()
	if err == nil {
		_, err = kv.Txn(context.Background(), nil, []store.Write{store.Put(key, value, 0)})
	}
	if err != nil {
		t.Fatal(err)
	}
}

func putNetwork(t *testing.T, kv store.KV) {
	t.Helper()
	v, err := store.EncodeNetwork(cluster.Network{
		Name: "blue", VNI: 100, Driver: cluster.DriverOverlay, Masquerade: true,
		Pools: []cluster.Pool{{Prefix: netip.MustParsePrefix("10.64.0.0/16"), HostPrefix: 24}},
	})
	mustPut(t, kv, store.NetworkKey("blue"), v, err)
}

func putPeer(t *testing.T, kv store.KV, id cluster.HostID, underlay, prefix string) {
	t.Helper()
	p := netip.MustParsePrefix(prefix)
	v, err := store.EncodeHost(cluster.Host{ID: id, Name: "peer-" + string(id[31:]), VXLANPort: 4789, Version: "test", Underlay: []netip.Addr{netip.MustParseAddr(underlay)}})
	mustPut(t, kv, store.HostKey(id), v, err)
	v, err = store.EncodeLease(cluster.Lease{Network: "blue", Host: id, Prefix: p})
	mustPut(t, kv, store.SubnetKey("blue", p), v, err)
}

func hasRoute(k *fake.Kernel, dst string) bool {
	_, ok := k.State().Routes[dataplane.RouteKey{Dst: netip.MustParsePrefix(dst)}]
	return ok
}

// TestFollowsTheCluster: a peer that joins is programmed, one that leaves is
// forgotten, and at rest there is nothing to do.
func TestFollowsTheCluster(t *testing.T) {
	db := newDB(t)
	synctest.Test(t, func(t *testing.T) {
		kv := mem.New()
		putNetwork(t, kv)
		r := start(t, newHostKernel(), kv, db)
		settled()
		if !hasRoute(r.kernel, "10.64.1.0/24") || hasRoute(r.kernel, "10.64.2.0/24") {
			t.Fatalf("before the peer:\n%s", r.kernel.State())
		}
		putPeer(t, kv, other, "192.168.77.2", "10.64.2.0/24")
		settled()
		if !hasRoute(r.kernel, "10.64.2.0/24") {
			t.Fatalf("after the peer joined:\n%s", r.kernel.State())
		}
		if ops, _, err := r.Diff(t.Context()); err != nil || len(ops) != 0 {
			t.Errorf("Diff at rest: %v, %v", ops, err)
		}
		if _, err := kv.Txn(t.Context(), nil, []store.Write{store.Delete(store.SubnetKey("blue", netip.MustParsePrefix("10.64.2.0/24")))}); err != nil {
			t.Fatal(err)
		}
		settled()
		if hasRoute(r.kernel, "10.64.2.0/24") {
			t.Error("the peer that left is still routed")
		}
		r.stop()
	})
}

// TestRepairsWhatIsAnnounced: a deleted row comes back on the event alone, long
// before the slow timer.
func TestRepairsWhatIsAnnounced(t *testing.T) {
	db := newDB(t)
	synctest.Test(t, func(t *testing.T) {
		kv := mem.New()
		putNetwork(t, kv)
		putPeer(t, kv, other, "192.168.77.2", "10.64.2.0/24")
		r := start(t, newHostKernel(), kv, db)
		settled()
		before := time.Now()
		if err := r.kernel.Remove(dataplane.RouteKey{Dst: netip.MustParsePrefix("10.64.2.0/24")}); err != nil {
			t.Fatal(err)
		}
		r.events <- dataplane.Scope{dataplane.Host: dataplane.Of(dataplane.TableRoute)}
		settled()
		if !hasRoute(r.kernel, "10.64.2.0/24") || time.Since(before) > 100*time.Millisecond { // of synctest's clock
			t.Errorf("not repaired on the event (after %v)", time.Since(before))
		}
		r.stop()
	})
}

// TestRepairsWhatIsNot: what nobody announced is found by the slow timer.
func TestRepairsWhatIsNot(t *testing.T) {
	db := newDB(t)
	synctest.Test(t, func(t *testing.T) {
		kv := mem.New()
		putNetwork(t, kv)
		r := start(t, newHostKernel(), kv, db)
		settled()
		if err := r.kernel.Remove(dataplane.LinkKey{Name: "ovb100"}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(40 * time.Second) // of synctest's clock
		settled()
		if !hasRoute(r.kernel, "10.64.1.0/24") {
			t.Error("not repaired by the timer")
		}
		r.stop()
	})
}

// TestANetworkIsOnDiskBeforeItIsInTheKernel: an agent killed the moment its first
// container's rows are in place, and started while the store is away, must find
// the network on disk, or it would take the container for one without.
func TestANetworkIsOnDiskBeforeItIsInTheKernel(t *testing.T) {
	db := newDB(t)
	synctest.Test(t, func(t *testing.T) {
		kv, k := mem.New(), newHostKernel()
		putNetwork(t, kv)
		r := start(t, k, kv, db)
		settled() // well before the snapshot is next saved
		if !hasRoute(k, "10.64.1.0/24") {
			t.Fatalf("the network is not in the kernel:\n%s", k.State())
		}
		saved, err := agent.NewDisk(db).LoadSnapshot()
		if err != nil || !slices.ContainsFunc(saved, func(r store.Record) bool { return r.Key == store.NetworkKey("blue") }) {
			t.Errorf("the snapshot on disk has %d records and no network, %v", len(saved), err)
		}
		r.stop()
	})
}

// TestStartsWhileTheStoreIsAway: a restarted agent plans from its disk, repairs,
// and deletes no peer that joined after the disk was written, until the store
// has shown the cluster whole.
func TestStartsWhileTheStoreIsAway(t *testing.T) {
	db := newDB(t)
	synctest.Test(t, func(t *testing.T) {
		kv, k := mem.New(), newHostKernel()
		putNetwork(t, kv)
		putPeer(t, kv, other, "192.168.77.2", "10.64.2.0/24")
		r := start(t, k, kv, db)
		time.Sleep(5 * time.Second) // the snapshot is on disk
		saved, err := agent.NewDisk(db).LoadSnapshot()
		if err != nil || len(saved) == 0 {
			t.Fatalf("snapshot on disk: %d records, %v", len(saved), err)
		}
		putPeer(t, kv, third, "192.168.77.3", "10.64.3.0/24")
		settled()
		r.stop()
		if err := agent.NewDisk(db).SaveSnapshot(saved); err != nil { // as after a kill -9
			t.Fatal(err)
		}
		if err := k.Remove(dataplane.RouteKey{Dst: netip.MustParsePrefix("10.64.2.0/24")}); err != nil {
			t.Fatal(err)
		}

		kv.SetAvailable(false)
		r = start(t, k, kv, db)
		time.Sleep(time.Minute)
		if !hasRoute(k, "10.64.2.0/24") {
			t.Error("the peer on disk was not repaired")
		}
		if !hasRoute(k, "10.64.3.0/24") {
			t.Error("the peer that only the kernel knows was deleted on old evidence")
		}

		if _, err := kvDelete(t, kv, third); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		if hasRoute(k, "10.64.3.0/24") {
			t.Error("the peer that left is still routed after the store came back")
		}
		r.stop()
	})
}

// kvDelete takes the peer out of the store and makes the store available.
func kvDelete(t *testing.T, kv *mem.Store, id cluster.HostID) (int64, error) {
	t.Helper()
	kv.SetAvailable(true)
	return kv.Txn(t.Context(), nil, []store.Write{
		store.Delete(store.HostKey(id)), store.Delete(store.SubnetKey("blue", netip.MustParsePrefix("10.64.3.0/24"))),
	})
}

// TestVanishedNamespace: a container whose namespace went is forgotten.
func TestVanishedNamespace(t *testing.T) {
	db := newDB(t)
	synctest.Test(t, func(t *testing.T) {
		kv, k := mem.New(), newHostKernel()
		putNetwork(t, kv)
		r := start(t, k, kv, db)
		settled() // the network is known
		k.AddNamespace("/run/netns/web")
		r.att.mu.Lock()
		r.att.list = []cluster.Attachment{{ID: "web", Name: "web", NetNS: "/run/netns/web", Interfaces: []cluster.Interface{{
			Network: "blue", Name: "eth0", Addrs: []netip.Prefix{netip.MustParsePrefix("10.64.1.2/24")}, MAC: cluster.MAC{2, 1},
		}}}}
		r.att.mu.Unlock()
		rep, err := r.Settle(t.Context(), dataplane.Scope{"/run/netns/web": dataplane.NSTables})
		if err != nil || len(rep.Outcomes) > 0 {
			t.Fatalf("Settle: %v, %v", rep.Outcomes, err)
		}
		if len(k.State().Links) != 4 {
			t.Fatalf("after the attachment:\n%s", k.State())
		}
		k.RemoveNamespace("/run/netns/web")
		r.events <- dataplane.Scope{dataplane.Host: dataplane.AllTables}
		time.Sleep(time.Second) // what was just written is believed for a moment
		settled()
		if n := len(r.att.List()); n != 0 {
			t.Errorf("%d attachments left", n)
		}
		if ops, _, err := r.Diff(t.Context()); err != nil || len(ops) != 0 {
			t.Errorf("Diff: %v, %v", ops, err)
		}
		r.stop()
	})
}

// TestRestsAfterDetach: what nobody reads any more is not owed for ever.
func TestRestsAfterDetach(t *testing.T) {
	db := newDB(t)
	synctest.Test(t, func(t *testing.T) {
		kv, k := mem.New(), newHostKernel()
		putNetwork(t, kv)
		r := start(t, k, kv, db)
		settled()
		k.AddNamespace("/run/netns/web")
		scope := dataplane.Scope{"/run/netns/web": dataplane.NSTables}
		for _, list := range [][]cluster.Attachment{{{ID: "web", Name: "web", NetNS: "/run/netns/web", Interfaces: []cluster.Interface{{
			Network: "blue", Name: "eth0", Addrs: []netip.Prefix{netip.MustParsePrefix("10.64.1.2/24")}, MAC: cluster.MAC{2, 1},
		}}}}, nil} {
			r.att.mu.Lock()
			r.att.list = list
			r.att.mu.Unlock()
			if rep, err := r.Settle(t.Context(), scope); err != nil || len(rep.Outcomes) > 0 {
				t.Fatalf("Settle: %v, %v", rep.Outcomes, err)
			}
		}
		time.Sleep(3 * time.Second) // all is read that was believed
		settled()
		before := r.Status().Passes
		time.Sleep(10 * time.Second) // and the slow timer is further away
		settled()
		if n := r.Status().Passes - before; n != 0 {
			t.Errorf("%d passes though nothing happened", n)
		}
		r.stop()
	})
}

// TestUnderlayChanges: a new address of the uplink is published and the tunnel
// follows it.
func TestUnderlayChanges(t *testing.T) {
	db := newDB(t)
	synctest.Test(t, func(t *testing.T) {
		kv, k := mem.New(), newHostKernel()
		putNetwork(t, kv)
		r := start(t, k, kv, db)
		settled()
		if err := k.Set(dataplane.Addr{AddrKey: dataplane.AddrKey{Link: "eth0", Prefix: netip.MustParsePrefix("192.168.77.9/24")}}); err != nil {
			t.Fatal(err)
		}
		if err := k.Remove(dataplane.AddrKey{Link: "eth0", Prefix: netip.MustParsePrefix("192.168.77.1/24")}); err != nil {
			t.Fatal(err)
		}
		r.events <- dataplane.Scope{dataplane.Host: dataplane.Of(dataplane.TableAddr)}
		settled()
		if local := k.State().Links[dataplane.LinkKey{Name: "ovx100"}].VXLAN.Local.String(); local != "192.168.77.9" {
			t.Errorf("the tunnel's own address is %s", local)
		}
		if u := r.sub.host.Underlay; len(u) != 1 || u[0].String() != "192.168.77.9" {
			t.Errorf("published underlay: %v", u)
		}

		// Without any address the last one stays in force, and that is told.
		if err := k.Remove(dataplane.AddrKey{Link: "eth0", Prefix: netip.MustParsePrefix("192.168.77.9/24")}); err != nil {
			t.Fatal(err)
		}
		r.events <- dataplane.Scope{dataplane.Host: dataplane.Of(dataplane.TableAddr)}
		settled()
		if local := k.State().Links[dataplane.LinkKey{Name: "ovx100"}].VXLAN.Local.String(); local != "192.168.77.9" {
			t.Errorf("without an address the tunnel's own is %s", local)
		}
		if ps := r.Status().Problems; len(ps) != 1 || ps[0].Subject != "underlay" {
			t.Errorf("problems: %v", ps)
		}
		r.stop()
	})
}

// settled lets the bubble's time pass until the loop has served what came, and
// waits until all are idle.
func settled() {
	time.Sleep(20 * time.Millisecond)
	synctest.Wait()
}
