package lease_test

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ovlnet/ovl/internal/cluster"
	"github.com/ovlnet/ovl/internal/identity"
	"github.com/ovlnet/ovl/internal/ipam"
	"github.com/ovlnet/ovl/internal/store"
	"github.com/ovlnet/ovl/node-agent/lease"
)

// sign makes the hosts of a rig sign what they write.
func (r *rig) sign() {
	r.t.Helper()
	var err error
	if r.ca, err = identity.NewAuthority(time.Now()); err != nil {
		r.t.Fatalf("%v", err)
	}
	r.judge = store.NewMirror(store.MirrorConfig{KV: r.store, Roots: r.ca.Roots})
	r.judge.SetPrefixes()
}

// enroll gives a host a key, and publishes the certificate.
func (h *host) enroll() {
	h.r.t.Helper()
	var err error
	if h.key, err = identity.NewKey(); err != nil {
		h.r.t.Fatalf("%v", err)
	}
	who := identity.Who{Role: identity.Host, Name: string(h.self.ID)}
	chain, err := h.r.ca.Issue(who, h.key.Public(), identity.Names{}, time.Now(), time.Hour)
	if err != nil {
		h.r.t.Fatalf("%v", err)
	}
	value, err := store.EncodeCertificate(h.self.ID, chain[0])
	if err != nil {
		h.r.t.Fatalf("%v", err)
	}
	h.r.put(store.CertificateKey(h.self.ID), value)
}

func (h *host) seal(key string, id store.LeaseID, value []byte) ([]byte, error) {
	return identity.Seal(h.key, identity.Place{Key: key, Lease: int64(id)}, value)
}

// signed bubbles: their hosts sign.
func signedBubble(t *testing.T, test func(t *testing.T, r *rig)) {
	t.Helper()
	bubble(t, func(t *testing.T, r *rig) {
		r.sign()
		test(t, r)
	})
}

func (r *rig) get(key string) store.Record {
	r.t.Helper()
	rec, _, err := store.Get(context.Background(), r.store, key)
	if err != nil {
		r.t.Fatalf("%v", err)
	}
	return rec
}

// claim returns a record by which h says that of has a prefix of blue.
func (h *host) claim(prefix netip.Prefix, of cluster.HostID, after int64) store.Record {
	h.r.t.Helper()
	key := store.SubnetKey("blue", prefix)
	id, err := h.r.store.Grant(context.Background(), 24*time.Hour)
	if err != nil {
		h.r.t.Fatalf("%v", err)
	}
	value, err := store.EncodeClaim(cluster.Lease{Network: "blue", Prefix: prefix, Host: of}, after)
	if err == nil {
		value, err = h.seal(key, id, value)
	}
	if err != nil {
		h.r.t.Fatalf("%v", err)
	}
	return store.Record{Key: key, Value: value, Lease: id}
}

func (r *rig) putRecord(rec store.Record) {
	r.t.Helper()
	if _, err := r.store.Txn(context.Background(), nil, []store.Write{store.Put(rec.Key, rec.Value, rec.Lease)}); err != nil {
		r.t.Fatalf("%v", err)
	}
}

// What others delete of a host's records, or write over them, comes back as it was,
// and is told for a while. No subnet is ever thought lost.
func TestMeddling(t *testing.T) {
	signedBubble(t, func(t *testing.T, r *rig) {
		network := r.network("blue", "10.64.0.0/16", 24)
		h1, h2 := r.addHost().start(), r.addHost().start()
		synctest.Wait()
		l := h1.take(network)
		time.Sleep(6 * time.Second) // longer than on probation
		synctest.Wait()
		old := h2.claim(l.Prefix, h2.self.ID, l.Revision-1) // h2 had it before, and gave it back
		h1.keeper.SetEndpoints(endpoints(l, 2))
		synctest.Wait()
		if h1.problem("somebody") {
			t.Errorf("problems before anybody did anything: %+v", h1.keeper.Status())
		}
		subnet, own := store.SubnetKey("blue", l.Prefix), store.HostKey(h1.self.ID)
		endpoint := store.EndpointKey("blue", h1.self.ID, "c001")
		times := 0
		for _, key := range []string{subnet, own, endpoint} {
			before := r.get(key)
			claims := l.Prefix
			other, _ := store.EncodeLease(cluster.Lease{Network: "blue", Prefix: claims, Host: h2.self.ID})
			bare, _ := identity.Unseal(before.Value)
			for name, do := range map[string]func(){
				"deleted":  func() { r.remove(key) },
				"junk":     func() { r.putRecord(store.Record{Key: key, Value: []byte("junk"), Lease: before.Lease}) },
				"unsigned": func() { r.putRecord(store.Record{Key: key, Value: bare, Lease: before.Lease}) },
				"another's, unsigned": func() {
					r.putRecord(store.Record{Key: key, Value: other})
				},
				"by another in this one's name": func() {
					rec := h2.claim(l.Prefix, h1.self.ID, r.store.Revision())
					r.putRecord(store.Record{Key: key, Value: rec.Value, Lease: rec.Lease})
				},
				"another's, signed and young": func() {
					rec := h2.claim(l.Prefix, h2.self.ID, r.store.Revision())
					r.putRecord(store.Record{Key: key, Value: rec.Value, Lease: rec.Lease})
				},
				"this one's own release, of some other time": func() {
					value, _ := store.EncodeRelease(l, 1)
					value, _ = h1.seal(key, before.Lease, value)
					r.putRecord(store.Record{Key: key, Value: value, Lease: before.Lease})
				},
				"another's old record": func() { r.putRecord(store.Record{Key: key, Value: old.Value, Lease: old.Lease}) },
			} {
				do()
				synctest.Wait()
				times++
				after := r.get(key)
				value, signature := identity.Unseal(after.Value)
				if after.Lease != before.Lease || signature == nil || key != subnet && string(after.Value) != string(before.Value) || !strings.Contains(string(value), string(h1.self.ID)) {
					t.Errorf("%s: %s: %q, want %q", key, name, after.Value, before.Value)
				}
				h1.want(l.Prefix, lease.StateHeld)
				if !h1.problem(fmt.Sprintf("(%d, the last one %s)", times, key)) {
					t.Errorf("%s: %s: not told: %+v", key, name, h1.keeper.Status().Problems)
				}
			}
		}
		// Endpoints in this host's name that it has not.
		r.putRecord(store.Record{Key: store.EndpointKey("blue", h1.self.ID, "ghost"), Value: r.get(endpoint).Value})
		synctest.Wait()
		if keys := r.keys(store.EndpointsPrefix("")); len(keys) != 2 {
			t.Errorf("endpoints %v", keys)
		}
		time.Sleep(11 * time.Minute)
		synctest.Wait()
		if h1.problem("somebody") {
			t.Errorf("still told: %+v", h1.keeper.Status().Problems)
		}
	})
}

// faster writes a record of his own whenever somebody is about to write at its key, so
// many times: what is compared has changed then.
type faster struct {
	store.KV
	thief func(key string)
	key   string
	times atomic.Int64
}

func (f *faster) Txn(ctx context.Context, conds []store.Cond, writes []store.Write) (int64, error) {
	if len(writes) > 0 && writes[0].Key == f.key && f.times.Add(-1) >= 0 {
		f.thief(f.key)
	}
	return f.KV.Txn(ctx, conds, writes)
}

// A thief who is faster than the host may keep it from writing its record again, and
// still has no part of the subnet.
func TestFasterThief(t *testing.T) {
	signedBubble(t, func(t *testing.T, r *rig) {
		network := r.network("blue", "10.64.0.0/16", 24)
		h1, h2 := r.addHost(), r.addHost().start()
		kv := &faster{KV: h1.kv}
		h1.startWith(kv)
		synctest.Wait()
		l := h1.take(network)
		time.Sleep(6 * time.Second) // longer than on probation
		synctest.Wait()
		kv.key = store.SubnetKey("blue", l.Prefix)
		kv.thief = func(key string) {
			rec := h2.claim(l.Prefix, h2.self.ID, r.store.Revision())
			r.putRecord(store.Record{Key: key, Value: rec.Value, Lease: rec.Lease})
		}
		kv.times.Store(20)
		kv.thief(kv.key)
		for range 400 { // longer than all pauses between its tries
			time.Sleep(50 * time.Millisecond)
			synctest.Wait()
			for _, held := range h1.keeper.Held() {
				if held.State == lease.Lost {
					t.Fatalf("lost with %d tries to go: %+v", kv.times.Load(), h1.keeper.Status().Problems)
				}
			}
		}
		if n := kv.times.Load(); n >= 0 {
			t.Errorf("the thief was to win %d times more", n)
		}
		h1.want(l.Prefix, lease.StateHeld)
	})
}

// A host that gets another key while it runs writes everything again.
func TestAnotherKey(t *testing.T) {
	signedBubble(t, func(t *testing.T, r *rig) {
		network := r.network("blue", "10.64.0.0/16", 24)
		h := r.addHost().start()
		synctest.Wait()
		l := h.take(network)
		h.keeper.SetEndpoints(endpoints(l, 2))
		synctest.Wait()
		h.enroll()
		time.Sleep(15 * time.Second) // the session is renewed
		synctest.Wait()
		page, err := r.store.Range(t.Context(), store.HostsPrefix, store.SubnetsPrefix(""), store.EndpointsPrefix(""))
		if err != nil || len(page.Records) != 4 {
			t.Fatalf("%+v, %v", page, err)
		}
		if doubts, err := r.judge.Doubts(t.Context(), page.Records); err != nil || len(doubts) > 0 {
			t.Errorf("%v, %v", doubts, err)
		}
		h.want(l.Prefix, lease.StateHeld)
		if h.problem("somebody") {
			t.Errorf("called a meddler with its own: %+v", h.keeper.Status().Problems)
		}
	})
}

// A subnet that another host has rightly taken meanwhile is lost.
func TestTakenRightly(t *testing.T) {
	signedBubble(t, func(t *testing.T, r *rig) {
		network := r.network("blue", "10.64.0.0/16", 24)
		h1, h2 := r.addHost().start(), r.addHost().start()
		synctest.Wait()
		l := h1.take(network)
		r.putRecord(h2.claim(l.Prefix, h2.self.ID, r.store.Revision()))
		synctest.Wait()
		h1.want(l.Prefix, lease.Lost)
		if h1.problem("somebody") {
			t.Errorf("an honest host is called a meddler: %+v", h1.keeper.Status().Problems)
		}
	})
}

// Who joined a moment ago is no liar, and where nobody can say who is a member
// nobody is called one.
func TestJudgesOnlyWhatIsKnown(t *testing.T) {
	signedBubble(t, func(t *testing.T, r *rig) {
		network := r.network("blue", "10.64.0.0/24", 26)
		h1 := r.addHost().start()
		synctest.Wait()
		l := h1.take(network)
		h2 := r.addHost().start()
		synctest.Wait()
		m := h2.take(network)
		if l.Prefix == m.Prefix {
			t.Fatalf("both have %s", l.Prefix)
		}
		n := h1.take(network)
		if n.Prefix == m.Prefix {
			t.Errorf("h1 has taken h2's %s", n.Prefix)
		}
	})
}

// Junk does not use a network up: it is passed by while there is anything else, and
// then taken for what it is.
func TestTakesFromJunk(t *testing.T) {
	signedBubble(t, func(t *testing.T, r *rig) {
		network := r.network("blue", "10.64.0.0/22", 24, "10.64.3.0/24")
		h1, h2 := r.addHost().start(), r.addHost().start()
		synctest.Wait()
		want := map[netip.Prefix]bool{}
		for i := range 3 {
			p := netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 64, byte(i), 0}), 24)
			want[p] = true
			if i > 0 {
				r.putRecord(h2.claim(p, h1.self.ID, r.store.Revision()))
			}
		}
		address := netip.MustParsePrefix("10.64.3.9/32")
		r.put(store.SubnetKey("blue", address), []byte("junk"))
		first := h2.take(network)
		if first.Prefix != netip.MustParsePrefix("10.64.0.0/24") {
			t.Errorf("took %s, which somebody has written at", first.Prefix)
		}
		for len(want) > 0 {
			delete(want, first.Prefix)
			if len(want) == 0 {
				break
			}
			if first = h2.take(network); !want[first.Prefix] {
				t.Fatalf("took %s", first.Prefix)
			}
		}
		if _, err := h2.keeper.Take(t.Context(), network, network.Pools[0]); !errors.Is(err, ipam.ErrExhausted) {
			t.Errorf("took a fourth: %v", err)
		}
		if _, err := h2.keeper.TakeThis(t.Context(), network, address); err != nil {
			t.Error(err)
		}
		synctest.Wait()
		for _, held := range h2.keeper.Held() {
			if held.State != lease.StateHeld {
				t.Errorf("%+v", held)
			}
		}
	})
}

// A host that lies about its address makes nobody withdraw.
func TestNoRivalByLie(t *testing.T) {
	signedBubble(t, func(t *testing.T, r *rig) {
		h1, h2 := r.addHost(), r.addHost()
		lie := h2.self
		lie.Underlay = h1.self.Underlay
		value, err := store.EncodeHost(lie)
		if err != nil {
			t.Fatal(err)
		}
		r.put(store.HostKey(h2.self.ID), value)
		h1.start()
		synctest.Wait()
		if keys := r.keys(store.HostsPrefix); !slices.Contains(keys, "hosts/"+string(h1.self.ID)) {
			t.Errorf("hosts: %v; %+v", keys, h1.keeper.Status())
		}
	})
}
