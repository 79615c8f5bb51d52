package lease_test

import (
	"context"
	"crypto"
	"fmt"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.etcd.io/bbolt"

	"github.com/ovlnet/ovl/internal/cluster"
	"github.com/ovlnet/ovl/internal/identity"
	"github.com/ovlnet/ovl/internal/store"
	"github.com/ovlnet/ovl/internal/store/mem"
	"github.com/ovlnet/ovl/node-agent/lease"
)

// testing.TB, or rapid's: what a rig fails.
type fataler interface {
	Helper()
	Fatalf(format string, args ...any)
	Errorf(format string, args ...any)
}

const ownershipTTL = time.Hour

// rig is a store and the hosts that share it, in a synctest bubble.
type rig struct {
	t     fataler
	dir   string
	store *mem.Store
	ttl   time.Duration // of ownership
	hosts []*host
	ca    *identity.Authority // hosts sign; nil: they do not
	judge *store.Mirror       // of what they sign
}

func newRig(t fataler, dir string) *rig {
	return &rig{t: t, dir: dir, store: mem.New(), ttl: ownershipTTL}
}

// host is one machine: its disk survives restarts of its agent.
type host struct {
	r        *rig
	self     cluster.Host
	db       *bbolt.DB
	kv       *mem.Client
	boot     int
	booted   time.Time
	skew     atomic.Int64 // what Elapsed counts beyond the bubble's clock: suspend
	runs     int
	keeper   *lease.Keeper
	instance string
	key      crypto.Signer
	kill     func() // without leaving
	stop     func()
}

func (r *rig) addHost() *host {
	r.t.Helper()
	n := len(r.hosts) + 1
	h := &host{r: r, kv: r.store.NewClient(), boot: 1, booted: time.Now(), self: cluster.Host{
		ID: cluster.HostID(fmt.Sprintf("%032x", n)), Name: fmt.Sprintf("h%d", n), VXLANPort: 4789, Version: "test",
		Underlay: []netip.Addr{netip.AddrFrom4([4]byte{192, 0, byte(2 + n/250), byte(1 + n%250)})},
	}}
	if r.ca != nil {
		h.enroll()
	}
	h.db = r.openDB(fmt.Sprintf("h%d.db", n))
	r.hosts = append(r.hosts, h)
	return h
}

func (r *rig) openDB(name string) *bbolt.DB {
	r.t.Helper()
	db, err := bbolt.Open(filepath.Join(r.dir, name), 0o600, &bbolt.Options{NoSync: true, NoFreelistSync: true})
	if err != nil {
		r.t.Fatalf("open database: %v", err)
	}
	return db
}

// deadable cuts a process off from the store without its noticing: kill -9.
type deadable struct {
	store.KV
	dead *bool
}

func (d deadable) Revoke(ctx context.Context, id store.LeaseID) error {
	if *d.dead {
		return nil
	}
	return d.KV.Revoke(ctx, id)
}

// start starts the host's agent.
func (h *host) start() *host { return h.startWith(h.kv) }

func (h *host) startWith(kv store.KV) *host {
	h.r.t.Helper()
	h.runs++
	h.instance = fmt.Sprintf("i%s-%d", h.self.Name, h.runs)
	booted, skew := h.booted, &h.skew
	dead := new(bool)
	cfg := lease.Config{
		KV: deadable{kv, dead}, DB: h.db, Self: h.self, BootID: fmt.Sprintf("boot-%s-%d", h.self.Name, h.boot), Instance: h.instance,
		SessionTTL: 15 * time.Second, OwnershipTTL: h.r.ttl,
		Elapsed: func() time.Duration { return time.Since(booted) + time.Duration(skew.Load()) },
	}
	if h.r.ca != nil {
		cfg.Seal, cfg.Doubts = h.seal, h.r.judge.Doubts
	}
	k, err := lease.Open(cfg)
	if err != nil {
		h.r.t.Fatalf("open: %v", err)
	}
	h.keeper = k
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- k.Run(ctx) }()
	h.stop = func() {
		cancel()
		if err := <-done; err != nil {
			h.r.t.Errorf("run: %v", err)
		}
		h.stop, h.kill = nil, nil
	}
	h.kill = func() { *dead = true; h.stop() }
	return h
}

// reboot starts the agent again after the machine was off for d.
func (h *host) reboot(d time.Duration) {
	h.kill()
	time.Sleep(d)
	h.boot++
	h.booted = time.Now()
	h.skew.Store(0)
	h.start()
}

// close ends all that runs, so that the bubble can end.
func (r *rig) close() {
	for _, h := range r.hosts {
		if h.stop != nil {
			h.stop()
		}
		h.db.Close()
	}
	r.store.Close()
}

// network writes a network, as a controller does.
func (r *rig) network(name, pool string, hostPrefix int, static ...string) cluster.Network {
	r.t.Helper()
	n := cluster.Network{Name: name, VNI: 100, Driver: cluster.DriverOverlay, Pools: []cluster.Pool{{Prefix: netip.MustParsePrefix(pool), HostPrefix: hostPrefix}}}
	for _, s := range static {
		n.StaticRanges = append(n.StaticRanges, netip.MustParsePrefix(s))
	}
	return r.keep(n)
}

// keep puts a network into the store, and returns it as it is there.
func (r *rig) keep(n cluster.Network) cluster.Network {
	r.t.Helper()
	name := n.Name
	value, err := store.EncodeNetwork(n)
	if err != nil {
		r.t.Fatalf("%v", err)
	}
	r.put(store.NetworkKey(name), value)
	rec, _, _ := store.Get(context.Background(), r.store, store.NetworkKey(name))
	if n, err = store.DecodeNetwork(rec); err != nil {
		r.t.Fatalf("%v", err)
	}
	return n
}

func (r *rig) put(key string, value []byte) {
	r.t.Helper()
	if _, err := r.store.Txn(context.Background(), nil, []store.Write{store.Put(key, value, 0)}); err != nil {
		r.t.Fatalf("%v", err)
	}
}

func (r *rig) remove(prefix string) {
	r.t.Helper()
	if _, err := r.store.Txn(context.Background(), nil, []store.Write{store.DeletePrefix(prefix)}); err != nil {
		r.t.Fatalf("%v", err)
	}
}

// keys returns the keys in the store under a prefix.
func (r *rig) keys(prefix string) []string {
	page, err := r.store.Range(context.Background(), prefix)
	if err != nil {
		r.t.Fatalf("%v", err)
	}
	var out []string
	for _, rec := range page.Records {
		out = append(out, strings.TrimPrefix(rec.Key, store.Root))
	}
	return out
}

func (h *host) take(n cluster.Network) cluster.Lease {
	h.r.t.Helper()
	l, err := h.keeper.Take(context.Background(), n, n.Pools[0])
	if err != nil {
		h.r.t.Fatalf("%s: %v", h.self.Name, err)
	}
	return l
}

// states prints what the host holds: "blue 10.64.1.0/24 held".
func (h *host) states() []string {
	var out []string
	for _, held := range h.keeper.Held() {
		out = append(out, fmt.Sprintf("%s %s %s", held.Network, held.Prefix, held.State))
	}
	return out
}

func (h *host) want(prefix netip.Prefix, state lease.State) {
	h.r.t.Helper()
	for _, held := range h.keeper.Held() {
		if held.Prefix == prefix && held.State == state {
			return
		}
	}
	h.r.t.Errorf("%s: %v, want %s %s; %+v", h.self.Name, h.states(), prefix, state, h.keeper.Status())
}

func (h *host) ownership(want string) {
	h.r.t.Helper()
	if s := h.keeper.Status(); s.Ownership != want {
		h.r.t.Errorf("%s: ownership %q, want %q; %+v", h.self.Name, s.Ownership, want, s)
	}
}

// problem reports whether one of the host's problems has the text.
func (h *host) problem(text string) bool {
	return slices.ContainsFunc(h.keeper.Status().Problems, func(p cluster.Problem) bool {
		return strings.Contains(p.Subject+": "+p.What+": "+p.Hint, text)
	})
}

// bubble runs a test with a fresh rig in a synctest bubble.
func bubble(t *testing.T, test func(t *testing.T, r *rig)) {
	t.Helper()
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, dir)
		defer r.close()
		test(t, r)
	})
}
