package lease_test

import (
	"context"
	"errors"
	"net/netip"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ovlnet/ovl/internal/cluster"
	"github.com/ovlnet/ovl/internal/ipam"
	"github.com/ovlnet/ovl/internal/store"
	"github.com/ovlnet/ovl/node-agent/lease"
)

// rush lets n hosts take a subnet at the same instant.
func rush(t *testing.T, r *rig, n int, network cluster.Network) map[netip.Prefix]int {
	t.Helper()
	for range n {
		r.addHost().start()
	}
	synctest.Wait()
	var wg sync.WaitGroup
	var mu sync.Mutex
	got := map[netip.Prefix]int{}
	for _, h := range r.hosts {
		wg.Go(func() {
			l, err := h.keeper.Take(t.Context(), network, network.Pools[0])
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				t.Errorf("%s: %v", h.self.Name, err)
				return
			}
			got[l.Prefix]++
		})
	}
	wg.Wait()
	return got
}

func TestRush(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		if got := rush(t, r, 50, r.network("blue", "10.64.0.0/18", 24)); len(got) != 50 {
			t.Errorf("%d subnets for 50 hosts", len(got))
		}
	})
}

// A pool with exactly as many subnets as hosts: 64 of both, and one host more.
func TestRushExactly(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		network := r.network("blue", "10.64.0.0/18", 24)
		if got := rush(t, r, 64, network); len(got) != 64 {
			t.Errorf("%d subnets for 64 hosts", len(got))
		}
		late := r.addHost().start()
		synctest.Wait()
		_, err := late.keeper.Take(t.Context(), network, network.Pools[0])
		if !errors.Is(err, ipam.ErrExhausted) {
			t.Errorf("one host too many: %v, want %v", err, ipam.ErrExhausted)
		}
		// What one gives back, another gets.
		given := r.hosts[7].keeper.Held()[0]
		if err := r.hosts[7].keeper.Release(t.Context(), given.Lease); err != nil {
			t.Fatal(err)
		}
		if l := late.take(network); l.Prefix != given.Prefix {
			t.Errorf("took %s, want %s that was given back", l.Prefix, given.Prefix)
		}
		if got := r.hosts[7].states(); len(got) != 0 {
			t.Errorf("still held after Release: %v", got)
		}
	})
}

func TestTakeRefuses(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		network := r.network("blue", "10.64.0.0/18", 24)
		h := r.addHost()
		h.kv.SetConnected(false)
		h.start()
		synctest.Wait()
		if _, err := h.keeper.Take(t.Context(), network, network.Pools[0]); !errors.Is(err, store.ErrUnavailable) {
			t.Errorf("store away: %v, want %v", err, store.ErrUnavailable)
		}
		h.kv.SetConnected(true)
		time.Sleep(2 * time.Second)
		r.remove(store.NetworkKey("blue"))
		if _, err := h.keeper.Take(t.Context(), network, network.Pools[0]); !errors.Is(err, lease.ErrNetworkGone) {
			t.Errorf("network deleted: %v, want %v", err, lease.ErrNetworkGone)
		}
		again := r.network("blue", "10.64.0.0/18", 24)
		if _, err := h.keeper.Take(t.Context(), network, network.Pools[0]); !errors.Is(err, lease.ErrNetworkGone) {
			t.Errorf("another network of that name: %v, want %v", err, lease.ErrNetworkGone)
		}
		h.take(again)
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := h.keeper.Take(ctx, again, again.Pools[0]); !errors.Is(err, context.Canceled) {
			t.Errorf("cancelled: %v", err)
		}
	})
}

// A network whose pools are cut anew while hosts hold and take: no overlap.
func TestPoolCutAnew(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		network := r.network("blue", "10.64.0.0/24", 26)
		a, b := r.addHost().start(), r.addHost().start()
		synctest.Wait()
		old := a.take(network)
		network = r.network("blue", "10.64.0.0/24", 28)
		for range 12 { // all that 10.64.0.0/24 has besides a's quarter
			if l := b.take(network); l.Prefix.Overlaps(old.Prefix) {
				t.Errorf("%s overlaps %s", l.Prefix, old.Prefix)
			}
		}
		// a's record lost by hand cannot be written again over the new grid.
		r.remove(store.SubnetKey("blue", old.Prefix))
		synctest.Wait()
		a.want(old.Prefix, lease.Lost)
	})
}

// A crash between the intent on the disk and the answer of the store.
func TestCrashWhileTaking(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		network := r.network("blue", "10.64.0.0/18", 24)
		h := r.addHost()
		lost := &answerless{KV: h.kv}
		h.startWith(lost)
		synctest.Wait()
		lost.drop = store.SubnetsPrefix("blue")
		if _, err := h.keeper.Take(t.Context(), network, network.Pools[0]); !errors.Is(err, store.ErrUnavailable) {
			t.Fatalf("take: %v, want %v", err, store.ErrUnavailable)
		}
		if keys := r.keys(store.SubnetsPrefix("blue")); len(keys) != 1 {
			t.Fatalf("in the store: %v, want one", keys)
		}
		h.kill()
		h.start()
		synctest.Wait()
		held := h.keeper.Held()
		if len(held) != 1 || held[0].State != lease.StateHeld {
			t.Errorf("after the crash: %v, want one held", h.states())
		}
	})
}

// answerless does transactions that write under a prefix, but loses the answer.
type answerless struct {
	store.KV
	drop string
}

func (a *answerless) Txn(ctx context.Context, conds []store.Cond, writes []store.Write) (int64, error) {
	rev, err := a.KV.Txn(ctx, conds, writes)
	if a.drop != "" && len(writes) > 0 && len(writes[0].Key) > len(a.drop) && writes[0].Key[:len(a.drop)] == a.drop {
		return 0, store.ErrUnavailable
	}
	return rev, err
}

// A Release that does not get through is made good later.
func TestReleaseWhileAway(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		network := r.network("blue", "10.64.0.0/18", 24)
		h := r.addHost().start()
		synctest.Wait()
		l := h.take(network)
		h.kv.SetConnected(false)
		if err := h.keeper.Release(t.Context(), l); !errors.Is(err, store.ErrUnavailable) {
			t.Errorf("release: %v, want %v", err, store.ErrUnavailable)
		}
		if got := h.states(); len(got) != 0 {
			t.Errorf("still usable: %v", got)
		}
		h.kill()
		h.kv.SetConnected(true)
		h.start()
		synctest.Wait()
		if keys := r.keys(store.SubnetsPrefix("blue")); len(keys) != 0 || len(h.states()) != 0 {
			t.Errorf("in the store %v, held %v; want neither", keys, h.states())
		}
	})
}

func TestForget(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		network := r.network("blue", "10.64.0.0/18", 24)
		h := r.addHost().start()
		synctest.Wait()
		l := h.take(network)
		r.remove(store.NetworkKey("blue"))
		r.remove(store.SubnetsPrefix("blue"))
		synctest.Wait()
		h.want(l.Prefix, lease.Lost)
		again := r.network("blue", "10.64.0.0/18", 24)
		h.keeper.Forget("blue", network.CreateRevision)
		if got := h.states(); len(got) != 0 {
			t.Errorf("after Forget: %v", got)
		}
		h.take(again)
		h.keeper.Forget("blue", network.CreateRevision) // the earlier one's, again
		synctest.Wait()
		h.want(l.Prefix, lease.StateHeld) // by its hash the same
	})
}
