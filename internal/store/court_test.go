package store_test

import (
	"context"
	"crypto/x509"
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ovlnet/ovl/internal/cluster"
	"github.com/ovlnet/ovl/internal/identity"
	"github.com/ovlnet/ovl/internal/store"
	"github.com/ovlnet/ovl/internal/store/mem"
)

// signed is a cluster whose hosts sign.
type signed struct {
	testing.TB
	kv    *mem.Store
	ca    *identity.Authority
	roots []*x509.Certificate
}

func newSigned(t testing.TB) *signed {
	t.Helper()
	ca, err := identity.NewAuthority(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	return &signed{TB: t, kv: mem.New(), ca: ca, roots: ca.Roots()}
}

// joined is a host of it.
type joined struct {
	*signed
	id    cluster.HostID
	pair  identity.Pair
	lease store.LeaseID
}

// join makes the n-th host a member; again it gets another key.
func (c *signed) join(n int) *joined {
	c.Helper()
	h := &joined{signed: c, id: cluster.HostID(fmt.Sprintf("%032x", n))}
	key, err := identity.NewKey()
	if err != nil {
		c.Fatal(err)
	}
	h.pair.Key = key
	if h.lease, err = c.kv.Grant(context.Background(), 1000*24*time.Hour); err != nil {
		c.Fatal(err)
	}
	h.renew(c.ca)
	return h
}

// renew publishes another certificate for the same key.
func (h *joined) renew(ca *identity.Authority) {
	h.Helper()
	var err error
	who := identity.Who{Role: identity.Host, Name: string(h.id)}
	if h.pair.Chain, err = ca.Issue(who, h.pair.Key.Public(), identity.Names{}, time.Now(), time.Hour); err != nil {
		h.Fatal(err)
	}
	value, err := store.EncodeCertificate(h.id, h.pair.Leaf())
	if err != nil {
		h.Fatal(err)
	}
	h.put(store.Put(store.CertificateKey(h.id), value, 0))
}

func (c *signed) put(writes ...store.Write) int64 {
	c.Helper()
	rev, err := c.kv.Txn(context.Background(), nil, writes)
	if err != nil {
		c.Fatal(err)
	}
	return rev
}

// seal returns the write of a record, signed by this host.
func (h *joined) seal(key string, value []byte, err error) store.Write {
	h.Helper()
	if err == nil {
		value, err = identity.Seal(h.pair.Key, identity.Place{Key: key, Lease: int64(h.lease)}, value)
	}
	if err != nil {
		h.Fatal(err)
	}
	return store.Put(key, value, h.lease)
}

func subnetOf(n int) netip.Prefix {
	return netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(n >> 8), byte(n), 0}), 24)
}

// claim returns the write by which the host says that it has the n-th subnet.
func (h *joined) claim(n int, of cluster.HostID, after int64) store.Write {
	h.Helper()
	l := cluster.Lease{Network: "blue", Prefix: subnetOf(n), Host: of}
	value, err := store.EncodeClaim(l, after)
	return h.seal(store.SubnetKey("blue", l.Prefix), value, err)
}

// release returns the write by which the host gives the n-th subnet back.
func (h *joined) release(n int, of cluster.HostID) store.Write {
	h.Helper()
	l := cluster.Lease{Network: "blue", Prefix: subnetOf(n), Host: of}
	value, err := store.EncodeRelease(l, h.kv.Revision())
	return h.seal(store.SubnetKey("blue", l.Prefix), value, err)
}

func (h *joined) host() store.Write {
	h.Helper()
	value, err := store.EncodeHost(cluster.Host{ID: h.id, Name: "h", Underlay: []netip.Addr{netip.MustParseAddr("192.0.2.1")}, VXLANPort: 4789})
	return h.seal(store.HostKey(h.id), value, err)
}

func (h *joined) endpoint(id string) store.Write {
	h.Helper()
	value, err := store.EncodeEndpoint(cluster.Endpoint{Network: "blue", Host: h.id, ID: id})
	return h.seal(store.EndpointKey("blue", h.id, id), value, err)
}

// follow runs a mirror of all that is signed.
func (c *signed) follow(t *testing.T) *store.Mirror {
	t.Helper()
	m := store.NewMirror(store.MirrorConfig{KV: c.kv, Relist: time.Hour, Roots: func() []*x509.Certificate { return c.roots }})
	m.SetPrefixes(store.NetworksPrefix, store.HostsPrefix, store.SubnetsPrefix(""), store.EndpointsPrefix(""))
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
	return m
}

// shown is what a mirror shows, in words: hosts, subnets with their holders,
// endpoints, and how many problems.
func shown(m *store.Mirror) string {
	synctest.Wait()
	snap, problems := m.Snapshot()
	var words []string
	for _, h := range snap.Hosts {
		words = append(words, "h"+short(h.ID))
	}
	for _, l := range snap.Leases {
		words = append(words, fmt.Sprintf("%s=h%s", l.Prefix, short(l.Host)))
	}
	for _, e := range snap.Endpoints {
		words = append(words, "h"+short(e.Host)+"/"+e.ID)
	}
	if len(problems) > 0 {
		words = append(words, fmt.Sprintf("%d wrong", len(problems)))
	}
	return strings.Join(words, " ")
}

func short(id cluster.HostID) string { return strings.TrimLeft(string(id), "0") }

func expect(t *testing.T, m *store.Mirror, when, want string) {
	t.Helper()
	if got := shown(m); got != want {
		_, problems := m.Snapshot()
		t.Errorf("%s: %s, want %s; %+v", when, got, want, problems)
	}
}

// A record counts if its host has signed it, at that place.
func TestMirrorBelievesSigned(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newSigned(t)
		h1, h2 := c.join(1), c.join(2)
		m := c.follow(t)
		c.put(h1.host(), h1.claim(1, h1.id, 0), h1.endpoint("web"))
		expect(t, m, "signed", "h1 10.0.1.0/24=h1 h1/web")

		bare := h2.claim(2, h2.id, 0)
		bare.Value, _ = identity.Unseal(bare.Value)
		stranger := *c.join(3)
		stranger.signed = newSigned(t)
		stranger = *stranger.join(3)
		stranger.signed = c
		moved := h1.claim(1, h1.id, 0)
		moved.Key = store.SubnetKey("blue", subnetOf(4))
		moved.Value = slices.Concat([]byte(strings.Replace(string(moved.Value), "10.0.1.0", "10.0.4.0", 1)))
		released := h1.endpoint("old")
		released.Lease = h2.lease
		tampered := h1.endpoint("tampered")
		tampered.Value = []byte(strings.Replace(string(tampered.Value), "{", `{"name":"db",`, 1))
		for name, lie := range map[string]store.Write{
			"not signed": bare, "signed by another": h2.claim(3, h1.id, 0), "signed with a stranger's key": stranger.claim(5, stranger.id, 0),
			"another place": moved, "another lease": released, "altered": tampered,
		} {
			before := shown(m)
			c.put(lie)
			expect(t, m, name, before+" 1 wrong")
			_, problems := m.Snapshot()
			if p := problems[0]; !strings.HasPrefix(p.What, "ignored: ") || p.Hint == "" {
				t.Errorf("%s: %+v", name, p)
			}
			c.put(store.Delete(lie.Key))
			expect(t, m, "without "+name, before)
		}
	})
}

// A lie in the place of a record, or its deletion, changes nothing that is shown
// before its host has had time to write it again.
func TestMirrorKeepsHonest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newSigned(t)
		h1, h2 := c.join(1), c.join(2)
		m := c.follow(t)
		old := h1.claim(1, h1.id, 1)
		c.put(old)
		c.put(store.Delete(old.Key))
		time.Sleep(time.Minute)
		now := h2.claim(1, h2.id, c.kv.Revision())
		c.put(h1.host(), h2.host(), now, h2.endpoint("web"))
		honest := "h1 h2 10.0.1.0/24=h2 h2/web"
		expect(t, m, "at first", honest)

		junk := store.Put(now.Key, []byte("junk"), 0)
		for name, lie := range map[string]store.Write{
			"another's claim": h1.claim(1, h2.id, c.kv.Revision()), "an old record of another's": old, "junk": junk,
			"unsigned": store.Put(now.Key, []byte(`{"network":"blue","prefix":"10.0.1.0/24","host":"`+string(h1.id)+`"}`), 0),
		} {
			c.put(lie)
			expect(t, m, name, honest+" 1 wrong")
			if !slices.ContainsFunc(m.Records(), func(r store.Record) bool { return r.Key == now.Key && reflect.DeepEqual(r.Value, now.Value) }) {
				t.Errorf("%s: what would go to the disk is not the last honest record", name)
			}
			c.put(now)
			expect(t, m, "after "+name, honest)
		}
		c.put(store.Delete(now.Key), store.Delete(store.HostKey(h2.id)))
		expect(t, m, "deleted", honest)
		time.Sleep(time.Second)
		c.put(now, h2.host())
		time.Sleep(time.Minute)
		expect(t, m, "and written again", honest)
		c.put(store.Delete(now.Key))
		taken := h1.claim(1, h1.id, c.kv.Revision())
		c.put(taken)
		expect(t, m, "taken by another meanwhile", honest+" 1 wrong")
		c.put(now)
		expect(t, m, "and defended", honest)
		c.put(h1.claim(1, h1.id, c.kv.Revision()))
		expect(t, m, "without having been deleted", honest+" 1 wrong")
		time.Sleep(time.Minute)
		expect(t, m, "and not defended", "h1 h2 10.0.1.0/24=h1 h2/web")
		c.put(h2.release(1, h2.id))
		expect(t, m, "released by another", "h1 h2 10.0.1.0/24=h1 h2/web 1 wrong")
		c.put(h2.release(1, h1.id))
		expect(t, m, "released by another in his name", "h1 h2 10.0.1.0/24=h1 h2/web 1 wrong")
		c.put(h1.claim(1, h1.id, c.kv.Revision()))
		expect(t, m, "again", "h1 h2 10.0.1.0/24=h1 h2/web")
		released := h1.release(1, h1.id)
		c.put(released)
		c.put(store.Delete(now.Key))
		expect(t, m, "given back", "h1 h2 h2/web")
		c.put(h2.claim(1, h2.id, c.kv.Revision()))
		expect(t, m, "and taken at once", honest)
		c.put(released)
		expect(t, m, "an old release", honest+" 1 wrong")
	})
}

// Membership is by key: renewed certificates change nothing, a removed host counts
// no more at once, and one that joined again does with its new key alone.
func TestMirrorFollowsMembers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newSigned(t)
		h := c.join(1)
		m := c.follow(t)
		c.put(h.host(), h.claim(1, h.id, 0))
		in := "h1 10.0.1.0/24=h1"
		expect(t, m, "joined", in)
		h.renew(c.ca)
		expect(t, m, "renewed", in)
		time.Sleep(400 * 24 * time.Hour)
		expect(t, m, "its certificate has expired, and it is still connected", in)

		second := newSigned(t).ca
		c.roots = append(slices.Clone(c.roots), second.Roots()...)
		expect(t, m, "two CAs", in)
		h.renew(second)
		expect(t, m, "renewed by the second", in)
		c.roots = second.Roots()
		expect(t, m, "without the first", in)
		h.renew(c.ca)
		expect(t, m, "the first CA's again", in) // for the same key, which is proved
		h.renew(second)
		c.ca = second

		c.put(store.Delete(store.CertificateKey(h.id)))
		expect(t, m, "removed", "2 wrong")
		again := c.join(1)
		expect(t, m, "joined again, with another key", "2 wrong")
		again.lease = h.lease
		c.put(again.host(), again.claim(1, h.id, 0))
		expect(t, m, "and has written", in)
		c.put(h.host())
		expect(t, m, "the old key once more", in+" 1 wrong")

		next := c.join(1) // without having been removed: its last key has handed over
		next.lease = h.lease
		expect(t, m, "with another key, and not signed anew yet", in+" 1 wrong")
		c.put(again.claim(2, h.id, 0))
		expect(t, m, "the last key has written since", in+" 2 wrong")
		c.put(next.host())
		expect(t, m, "one is signed anew", in+" 1 wrong")
		time.Sleep(2 * time.Minute)
		expect(t, m, "and the other never", "h1 2 wrong")
	})
}

// What is on disk was verified once, and counts without the store.
func TestMirrorStartsFromVerified(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newSigned(t)
		h := c.join(1)
		c.put(h.host(), h.claim(1, h.id, 0), store.Put(store.SubnetKey("blue", subnetOf(2)), []byte(`{}`), 0))
		lie := h.claim(3, c.join(2).id, 0)
		c.put(lie)
		m := c.follow(t)
		saved := m.Records()
		if slices.ContainsFunc(saved, func(r store.Record) bool { return r.Key == lie.Key }) {
			t.Error("a lie goes to the disk")
		}
		c.kv.SetAvailable(false)
		cold := c.follow(t)
		cold.Load(saved)
		expect(t, cold, "from the disk", "h1 10.0.1.0/24=h1")
		c.kv.SetAvailable(true)
		time.Sleep(time.Minute)
		expect(t, cold, "and the store", "h1 10.0.1.0/24=h1 2 wrong")
	})
}

// Who reads the store himself learns the same, also of hosts that the mirror has not
// heard of yet.
func TestDoubts(t *testing.T) {
	c := newSigned(t)
	m := store.NewMirror(store.MirrorConfig{KV: c.kv, Roots: func() []*x509.Certificate { return c.roots }})
	m.SetPrefixes()
	h1, h2 := c.join(1), c.join(2)
	lie := h1.claim(2, h2.id, 0)
	c.put(h1.host(), h1.claim(1, h1.id, 0), lie, store.Put(store.NetworkKey("blue"), nil, 0), store.Put(store.SubnetKey("blue", subnetOf(9)), []byte("junk"), 0))
	for range 2 { // the second time from memory
		page, err := c.kv.Range(t.Context(), store.Root)
		if err != nil {
			t.Fatal(err)
		}
		doubts, err := m.Doubts(t.Context(), page.Records)
		if err != nil || len(doubts) != 1 || doubts[lie.Key] == nil {
			t.Errorf("%v, %v", doubts, err)
		}
	}
	c.kv.SetAvailable(false)
	h3 := &joined{signed: c, id: cluster.HostID(fmt.Sprintf("%032x", 3)), pair: h1.pair}
	w := h3.claim(3, h3.id, 0)
	if doubts, err := m.Doubts(t.Context(), []store.Record{{Key: w.Key, Value: w.Value, ModRev: c.kv.Revision() + 1}}); err == nil {
		t.Errorf("judged without knowing the members: %v", doubts)
	}
}

// processorTime is what this process has used of all processors: what others do on the
// machine meanwhile does not count.
func processorTime(b *testing.B) time.Duration {
	b.Helper()
	var used syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &used); err != nil {
		b.Fatal(err)
	}
	return time.Duration(used.Utime.Nano() + used.Stime.Nano())
}

// The first list of a large cluster, without and with signatures, and the next
// snapshots of it.
func BenchmarkSigned(b *testing.B) {
	c := newSigned(b)
	const hosts, each = 1000, 10
	for n := range hosts {
		h := c.join(n + 1)
		writes := []store.Write{h.host(), h.claim(n, h.id, 0)}
		for i := range each {
			writes = append(writes, h.endpoint(fmt.Sprint(i)))
		}
		c.put(writes...)
	}
	for name, roots := range map[string]func() []*x509.Certificate{"unsigned": nil, "signed": func() []*x509.Certificate { return c.roots }} {
		fill := func() *store.Mirror {
			m := store.NewMirror(store.MirrorConfig{KV: c.kv, Roots: roots})
			m.SetPrefixes(store.HostsPrefix, store.SubnetsPrefix(""), store.EndpointsPrefix(""))
			if err := m.Refresh(b.Context()); err != nil {
				b.Fatal(err)
			}
			if s, problems := m.Snapshot(); len(s.Endpoints) != hosts*each || len(problems) > 0 {
				b.Fatal(len(s.Endpoints), problems)
			}
			return m
		}
		b.Run("first/"+name, func(b *testing.B) {
			began := processorTime(b)
			for b.Loop() {
				fill()
			}
			b.ReportMetric(float64((processorTime(b)-began).Microseconds())/float64(b.N)/(hosts*(each+2)), "cpu-µs/record")
		})
		b.Run("again/"+name, func(b *testing.B) {
			m := fill()
			records := m.Records()
			for b.Loop() {
				m.Load(records[:1]) // has the snapshot built again
				m.Snapshot()
			}
		})
		b.Run("relist/"+name, func(b *testing.B) {
			m := fill()
			for b.Loop() {
				if err := m.Refresh(b.Context()); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
