package store_test

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/ovlnet/ovl/internal/cluster"
	"github.com/ovlnet/ovl/internal/store"
	"github.com/ovlnet/ovl/internal/store/mem"
)

// onlyTB hides from rapid that it runs in a bubble: it would ask a *testing.T
// for its deadline, which a bubble forbids.
type onlyTB struct{ rapid.TB }

// faulty is a store with the faults of the field: watches that lose a batch or
// end, and lists that fail.
type faulty struct {
	store.KV
	lose, end, fail faults
}

// faults counts how many of the next ones are to go wrong.
type faults struct{ left atomic.Int32 }

func (f *faults) add() { f.left.Add(1) }

func (f *faults) take() bool {
	for {
		n := f.left.Load()
		if n == 0 || f.left.CompareAndSwap(n, n-1) {
			return n > 0
		}
	}
}

func (f *faulty) Range(ctx context.Context, prefixes ...string) (store.Page, error) {
	if f.fail.take() {
		return store.Page{}, store.ErrUnavailable
	}
	return f.KV.Range(ctx, prefixes...)
}

func (f *faulty) Watch(ctx context.Context, prefix string, from int64) <-chan store.Batch {
	out := make(chan store.Batch)
	go func() {
		defer close(out)
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		for b := range f.KV.Watch(ctx, prefix, from) {
			if f.lose.take() {
				continue
			}
			if f.end.take() {
				b = store.Batch{Err: store.ErrUnavailable}
			}
			select {
			case out <- b:
			case <-ctx.Done():
				return
			}
			if b.Err != nil {
				return
			}
		}
	}()
	return out
}

// mirrored are all the prefixes that the law plays with, one of them a key.
var mirrored = []string{store.NetworksPrefix, store.HostsPrefix, store.DrainsPrefix, store.SubnetsPrefix("n1"), store.NetworkKey("n1"), store.SubnetsPrefix("")}

// Whatever happened, once the store is reached again and the slow timer has
// gone round, the mirror is what a range says.
func TestMirrorLaw(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rapid.Check(onlyTB{t}, func(rt *rapid.T) {
			const relist = time.Minute
			s := mem.New()
			defer s.Close()
			link := s.NewClient()
			kv := &faulty{KV: link}
			m := store.NewMirror(store.MirrorConfig{KV: kv, Relist: relist})
			prefixes := []string{store.NetworksPrefix}
			m.SetPrefixes(prefixes...)
			m.Load([]store.Record{{Key: store.NetworkKey("n9"), Value: []byte("stale"), ModRev: 900}})

			ctx, cancel := context.WithCancel(t.Context())
			done := make(chan error, 1)
			go func() { done <- m.Run(ctx) }()
			defer func() {
				cancel()
				if err := <-done; !errors.Is(err, context.Canceled) {
					rt.Errorf("Run: %v", err)
				}
			}()

			rt.Repeat(map[string]func(*rapid.T){
				"write":      func(rt *rapid.T) { _, _ = s.Txn(ctx, nil, drawWrites(rt, s)) },
				"compact":    func(*rapid.T) { s.Compact(s.Revision()) },
				"down":       func(*rapid.T) { link.SetConnected(false) },
				"up":         func(*rapid.T) { link.SetConnected(true) },
				"lose":       func(*rapid.T) { kv.lose.add() },
				"end":        func(*rapid.T) { kv.end.add() },
				"fail":       func(*rapid.T) { kv.fail.add() },
				"let settle": func(*rapid.T) { synctest.Wait() },
				"let pass": func(rt *rapid.T) {
					time.Sleep(time.Duration(rapid.IntRange(1, 5000).Draw(rt, "ms")) * time.Millisecond)
				},
				"prefixes": func(rt *rapid.T) {
					prefixes = rapid.SliceOfNDistinct(rapid.SampledFrom(mirrored), 1, 4, rapid.ID).Draw(rt, "prefixes")
					m.SetPrefixes(prefixes...)
				},
				"refresh": func(rt *rapid.T) {
					if m.Refresh(ctx) == nil {
						compare(rt, m, s, prefixes)
					}
				},
			})
			link.SetConnected(true)
			time.Sleep(2 * relist)
			synctest.Wait()
			compare(rt, m, s, prefixes)
			if st := m.Status(); !st.Live || !st.Connected || st.Err != nil {
				rt.Fatalf("status %+v, want live and connected", st)
			}
		})
	})
}

// drawWrites draws a transaction over few keys, some of it undecodable.
func drawWrites(rt *rapid.T, s *mem.Store) []store.Write {
	lease, err := s.Grant(context.Background(), time.Duration(rapid.IntRange(1, 9).Draw(rt, "ttl"))*time.Second)
	if err != nil {
		rt.Fatal(err)
	}
	keys := []string{store.HostKey(hostA), store.DrainKey(hostA), store.SubnetKey("n1", netip.MustParsePrefix("10.64.1.0/24"))}
	for i := range 12 {
		keys = append(keys, store.NetworkKey(fmt.Sprintf("n%d", i)))
	}
	var writes []store.Write
	for _, key := range rapid.SliceOfNDistinct(rapid.SampledFrom(keys), 1, 4, rapid.ID).Draw(rt, "keys") {
		w := store.Put(key, validValue(key), 0)
		switch rapid.IntRange(0, 5).Draw(rt, "kind") {
		case 0, 1:
			w = store.Delete(key)
		case 2:
			w.Lease = lease
		case 3:
			w.Value = []byte("{")
		}
		writes = append(writes, w)
	}
	return writes
}

func validValue(key string) []byte {
	var value []byte
	if name, err := store.ParseNetworkKey(key); err == nil {
		n := blue()
		n.Name = name
		value, _ = store.EncodeNetwork(n)
	} else if _, err := store.ParseHostKey(key); err == nil {
		value, _ = store.EncodeHost(host())
	} else if network, prefix, err := store.ParseSubnetKey(key); err == nil {
		value, _ = store.EncodeLease(cluster.Lease{Network: network, Prefix: prefix, Host: hostA})
	}
	return value
}

// compare fails unless the mirror is what the store holds.
func compare(rt *rapid.T, m *store.Mirror, kv store.KV, prefixes []string) {
	rt.Helper()
	page, err := kv.Range(context.Background(), prefixes...)
	if err != nil {
		rt.Fatal(err)
	}
	want := slices.DeleteFunc(page.Records, func(r store.Record) bool {
		whole := slices.Contains(prefixes, store.NetworksPrefix) || !slices.Contains(prefixes, store.NetworkKey("n1"))
		name, err := store.ParseNetworkKey(r.Key)
		return err == nil && !whole && name != "n1" // n10 and n11 begin with n1
	})
	if got := m.Records(); !reflect.DeepEqual(normal(got), normal(want)) {
		rt.Fatalf("mirror %+v\nstore %+v", got, want)
	}
	got, gotProblems := m.Snapshot()
	snapshot, problems := store.Snapshot(want)
	if !reflect.DeepEqual(got, snapshot) || !reflect.DeepEqual(gotProblems, problems) {
		rt.Fatalf("snapshot %+v %v\nwant %+v %v", got, gotProblems, snapshot, problems)
	}
}

// normal makes empty values nil and an empty list an empty one.
func normal(records []store.Record) []store.Record {
	out := make([]store.Record, 0, len(records))
	for _, r := range records {
		if len(r.Value) == 0 {
			r.Value = nil
		}
		out = append(out, r)
	}
	return out
}

// run starts a mirror in a bubble; Changed is counted.
func run(t *testing.T, kv store.KV, prefixes ...string) (m *store.Mirror, changes *int) {
	t.Helper()
	changes = new(int)
	m = store.NewMirror(store.MirrorConfig{KV: kv, Relist: time.Hour, Changed: func() { *changes++ }})
	m.SetPrefixes(prefixes...)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = m.Run(ctx)
	}()
	t.Cleanup(func() {
		cancel()
		<-done
	})
	synctest.Wait()
	return m, changes
}

func putNetwork(t *testing.T, kv store.KV, names ...string) {
	t.Helper()
	var writes []store.Write
	for _, name := range names {
		writes = append(writes, store.Put(store.NetworkKey(name), validValue(store.NetworkKey(name)), 0))
	}
	if _, err := kv.Txn(t.Context(), nil, writes); err != nil {
		t.Fatal(err)
	}
}

// A mirror that starts from disk shows what it has until the store is reached,
// and believes no absence before.
func TestMirrorStartsFromDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := mem.New()
		putNetwork(t, s, "blue", "red")
		page, err := s.Range(t.Context(), store.Root)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.Txn(t.Context(), nil, []store.Write{store.Delete(store.NetworkKey("red"))}); err != nil {
			t.Fatal(err)
		}
		s.SetAvailable(false)
		m, _ := run(t, s, store.NetworksPrefix)
		m.Load(page.Records)
		time.Sleep(time.Hour)
		if snap, _ := m.Snapshot(); len(snap.Networks) != 2 {
			t.Fatalf("while the store is away: %+v", snap)
		}
		if st := m.Status(); st.Live || st.Connected || !errors.Is(st.Err, store.ErrUnavailable) {
			t.Fatalf("status %+v", st)
		}
		s.SetAvailable(true)
		// The promise: current three seconds after an outage of any length.
		time.Sleep(3 * time.Second)
		synctest.Wait()
		if snap, _ := m.Snapshot(); len(snap.Networks) != 1 || snap.Networks[0].Name != "blue" {
			t.Fatalf("after the store came back: %+v", snap)
		}
		if st := m.Status(); !st.Live || !st.Connected {
			t.Fatalf("status %+v", st)
		}
	})
}

// Endpoints arrive with the networks that they are on, and do not make hosts
// report another revision.
func TestMirrorEndpoints(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := mem.New()
		putNetwork(t, s, "blue")
		bad := store.EndpointKey("blue", hostA, "bad")
		if _, err := s.Txn(t.Context(), nil, []store.Write{store.Put(bad, []byte("no"), 0)}); err != nil {
			t.Fatal(err)
		}
		m, changes := run(t, s, store.NetworksPrefix, store.EndpointsPrefix("blue"))
		snap, _ := m.Snapshot()
		before, revision := *changes, snap.Revision
		e := cluster.Endpoint{
			Network: "blue", Host: hostA, ID: "web", Name: "web", Aliases: []string{"www"},
			Addrs: []netip.Addr{netip.MustParseAddr("10.64.1.2")}, MAC: cluster.MAC{2},
		}
		v, err := store.EncodeEndpoint(e)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.Txn(t.Context(), nil, []store.Write{store.Put(store.EndpointKey("blue", hostA, "web"), v, 0)}); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		snap, problems := m.Snapshot()
		if len(snap.Endpoints) != 1 {
			t.Fatalf("endpoints %+v", snap.Endpoints)
		}
		e.Revision = snap.Endpoints[0].Revision
		if !reflect.DeepEqual(snap.Endpoints[0], e) || e.Revision == 0 {
			t.Errorf("endpoint %+v, want %+v", snap.Endpoints[0], e)
		}
		if len(problems) != 1 || problems[0].Subject != "record "+bad {
			t.Errorf("problems %+v", problems)
		}
		if snap.Revision != revision {
			t.Errorf("revision %d, was %d", snap.Revision, revision)
		}
		if *changes != before+1 {
			t.Errorf("%d changes for one transaction", *changes-before)
		}
	})
}

// One transaction, however large, is one change; a prefix that is forgotten
// wakes nobody.
func TestMirrorChanges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := mem.New()
		m, changes := run(t, s, store.NetworksPrefix, store.HostsPrefix)
		before := *changes
		putNetwork(t, s, "a", "b", "c")
		synctest.Wait()
		if *changes != before+1 {
			t.Errorf("%d changes for one transaction", *changes-before)
		}
		putDrain := store.Put(store.DrainKey(hostA), nil, 0)
		if _, err := s.Txn(t.Context(), nil, []store.Write{putDrain}); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if *changes != before+1 {
			t.Errorf("a record that nobody asked for was a change")
		}
		m.SetPrefixes(store.HostsPrefix)
		synctest.Wait()
		if snap, _ := m.Snapshot(); len(snap.Networks) != 0 || *changes != before+1 {
			t.Errorf("forgotten networks are still there: %+v, %d changes", snap, *changes-before)
		}
		putNetwork(t, s, "d")
		synctest.Wait()
		if *changes != before+1 {
			t.Errorf("a forgotten prefix is still watched")
		}
	})
}

// A prefix added to a live mirror makes it not live until it is listed.
func TestMirrorAddPrefix(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := mem.New()
		putNetwork(t, s, "a")
		m, _ := run(t, s, store.HostsPrefix)
		if !m.Status().Live {
			t.Fatal("not live after the first list")
		}
		m.SetPrefixes(store.HostsPrefix, store.NetworksPrefix)
		if m.Status().Live {
			t.Fatal("live before the new prefix is listed")
		}
		synctest.Wait()
		if snap, _ := m.Snapshot(); !m.Status().Live || len(snap.Networks) != 1 {
			t.Fatalf("after: %+v %+v", m.Status(), snap)
		}
	})
}

// A store that was restored from a backup is older than the mirror; the next
// list takes it as it is, and the watch follows it from there.
func TestMirrorFollowsRestoredStore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		old, restored := mem.New(), mem.New()
		swap := &swapped{KV: old, to: restored}
		putNetwork(t, restored, "backup")
		for range 5 {
			putNetwork(t, old, "a", "b")
		}
		m, _ := run(t, swap, store.NetworksPrefix)
		swap.other.Store(true)
		time.Sleep(2 * time.Hour) // the slow timer
		synctest.Wait()
		if snap, _ := m.Snapshot(); len(snap.Networks) != 1 {
			t.Fatalf("after the restore: %+v", snap)
		}
		putNetwork(t, restored, "new")
		synctest.Wait()
		if snap, _ := m.Snapshot(); len(snap.Networks) != 2 {
			t.Fatalf("after a write to the restored store: %+v", snap)
		}
	})
}

// swapped is a store that is replaced by another one.
type swapped struct {
	store.KV
	other atomic.Bool
	to    store.KV
}

func (s *swapped) Range(ctx context.Context, prefixes ...string) (store.Page, error) {
	if s.other.Load() {
		return s.to.Range(ctx, prefixes...)
	}
	return s.KV.Range(ctx, prefixes...)
}

func (s *swapped) Watch(ctx context.Context, prefix string, from int64) <-chan store.Batch {
	if s.other.Load() {
		return s.to.Watch(ctx, prefix, from)
	}
	return s.KV.Watch(ctx, prefix, from)
}

func leases(n int) []store.Record {
	records := make([]store.Record, 0, n)
	for i := range n {
		l := cluster.Lease{
			Network: "blue", Host: cluster.HostID(fmt.Sprintf("%032x", i)),
			Prefix: netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(i >> 8), byte(i), 0}), 24),
		}
		value, err := store.EncodeLease(l)
		if err != nil {
			panic(err)
		}
		records = append(records, store.Record{Key: store.SubnetKey(l.Network, l.Prefix), Value: value, CreateRev: 1, ModRev: int64(i + 1)})
	}
	return records
}

// One record more among 10,000, and the snapshot after it.
func BenchmarkMirrorOneMore(b *testing.B) {
	m := store.NewMirror(store.MirrorConfig{KV: mem.New()})
	m.SetPrefixes(store.SubnetsPrefix("blue"))
	all := leases(10_001)
	m.Load(all[:10_000])
	one := all[10_000]
	for b.Loop() {
		one.ModRev++
		m.Load([]store.Record{one})
		if s, _ := m.Snapshot(); len(s.Leases) != 10_001 {
			b.Fatal(len(s.Leases))
		}
	}
}

// The first list of 10,000 records: all are decoded.
func BenchmarkSnapshot(b *testing.B) {
	all := leases(10_000)
	for b.Loop() {
		store.Snapshot(all)
	}
}
