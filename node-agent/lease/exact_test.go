package lease_test

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ovlnet/ovl/internal/cluster"
	"github.com/ovlnet/ovl/internal/store"
	"github.com/ovlnet/ovl/node-agent/lease"
)

var static = netip.MustParsePrefix("10.64.63.9/32")

func (r *rig) blue() cluster.Network { return r.network("blue", "10.64.0.0/18", 24, "10.64.63.0/24") }

func (h *host) takeThis(n cluster.Network, p netip.Prefix) cluster.Lease {
	h.r.t.Helper()
	l, err := h.keeper.TakeThis(context.Background(), n, p)
	if err != nil {
		h.r.t.Fatalf("%s: %v", h.self.Name, err)
	}
	return l
}

// A static address goes from host to host; who asks while another has it is told
// who, and for which container.
func TestStaticMoves(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		network := r.blue()
		a, b := r.addHost().start(), r.addHost().start()
		synctest.Wait()
		l := a.takeThis(network, static)
		a.want(static, lease.StateHeld)
		if again := a.takeThis(network, static); again != l {
			t.Errorf("taken again: %v, want %v", again, l)
		}
		a.keeper.SetEndpoints([]cluster.Endpoint{{Network: "blue", ID: "db", Name: "db", Addrs: []netip.Addr{static.Addr()}, MAC: cluster.MAC{2, 1}}})
		synctest.Wait()

		_, err := b.keeper.TakeThis(t.Context(), network, static)
		held, ok := errors.AsType[*lease.HeldError](err)
		if !ok || *held != (lease.HeldError{Prefix: static, Host: a.self.ID, Name: "h1", Up: true, Container: "db"}) {
			t.Errorf("held by another: %v (%+v)", err, held)
		}
		// One that is down keeps it.
		a.kill()
		time.Sleep(time.Minute)
		_, err = b.keeper.TakeThis(t.Context(), network, static)
		if held, ok := errors.AsType[*lease.HeldError](err); !ok || held.Up || !strings.Contains(err.Error(), "ovlctl host rm --force h1") {
			t.Errorf("held by one that is down: %v", err)
		}
		a.start()
		synctest.Wait()
		a.want(static, lease.StateHeld)
		if err := a.keeper.Release(t.Context(), l); err != nil {
			t.Fatal(err)
		}
		b.takeThis(network, static)
		if _, err := a.keeper.TakeThis(t.Context(), network, static); err == nil {
			t.Error("the old host took it from the new one")
		}
	})
}

// While the store is away an address stays held; when it is back it can be given
// back.
func TestStaticWhileAway(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		network := r.blue()
		a := r.addHost().start()
		synctest.Wait()
		l := a.takeThis(network, static)
		a.kv.SetConnected(false)
		if err := a.keeper.Release(t.Context(), l); !errors.Is(err, store.ErrUnavailable) {
			t.Errorf("release: %v, want %v", err, store.ErrUnavailable)
		}
		a.want(static, lease.StateHeld)
		a.kill()
		a.start()
		synctest.Wait()
		a.want(static, lease.Pending)
		if err := a.keeper.Release(t.Context(), l); !errors.Is(err, store.ErrUnavailable) {
			t.Errorf("release by the next process: %v, want %v", err, store.ErrUnavailable)
		}
		a.want(static, lease.Pending)
		a.kv.SetConnected(true)
		time.Sleep(5 * time.Second)
		if err := a.keeper.Release(t.Context(), l); err != nil {
			t.Fatal(err)
		}
		if keys := r.keys(store.SubnetsPrefix("blue")); len(keys) != 0 || len(a.states()) != 0 {
			t.Errorf("in the store %v, held %v; want neither", keys, a.states())
		}
	})
}

// Two hosts that race for one address, many times: one wins, always.
func TestStaticRace(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		network := r.blue()
		for range 5 {
			r.addHost().start()
		}
		synctest.Wait()
		for range 100 {
			var wg sync.WaitGroup
			var mu sync.Mutex
			var won []cluster.Lease
			var winner *host
			for _, h := range r.hosts {
				wg.Go(func() {
					l, err := h.keeper.TakeThis(t.Context(), network, static)
					mu.Lock()
					defer mu.Unlock()
					if err == nil {
						won, winner = append(won, l), h
					} else if _, ok := errors.AsType[*lease.HeldError](err); !ok {
						t.Errorf("%s: %v", h.self.Name, err)
					}
				})
			}
			wg.Wait()
			if len(won) != 1 {
				t.Fatalf("%d won", len(won))
			}
			if err := winner.keeper.Release(t.Context(), won[0]); err != nil {
				t.Fatal(err)
			}
		}
	})
}

// A host that is away for longer than its ownership loses its address to who
// asks for it then, and says so when it is back.
func TestStaticLost(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		network := r.blue()
		a, b := r.addHost().start(), r.addHost().start()
		synctest.Wait()
		a.takeThis(network, static)
		other := a.takeThis(network, netip.MustParsePrefix("10.64.63.10/32"))
		a.kv.SetConnected(false)
		time.Sleep(ownershipTTL / 2)
		if _, err := b.keeper.TakeThis(t.Context(), network, static); err == nil {
			t.Fatal("taken within the other's ownership")
		}
		time.Sleep(ownershipTTL)
		a.ownership(lease.OwnershipFenced)
		if _, err := a.keeper.TakeThis(t.Context(), network, netip.MustParsePrefix("10.64.63.11/32")); !errors.Is(err, lease.ErrFenced) {
			t.Errorf("fenced: %v, want %v", err, lease.ErrFenced)
		}
		b.takeThis(network, static)
		a.kv.SetConnected(true)
		time.Sleep(5 * time.Second)
		a.want(static, lease.Lost)
		a.want(other.Prefix, lease.StateHeld)
		if !a.problem("address 10.64.63.9 of network blue: lost: host h2") {
			t.Errorf("problems: %v", a.keeper.Status().Problems)
		}
		if _, err := a.keeper.TakeThis(t.Context(), network, static); err == nil || !strings.Contains(err.Error(), "host h2") {
			t.Errorf("what was lost: %v", err)
		}
		a.want(static, lease.Lost) // asking changes nothing
	})
}

func TestTakeThisRefuses(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		network := r.blue()
		a, b := r.addHost().start(), r.addHost().start()
		synctest.Wait()
		for _, p := range []string{"10.64.1.9/32", "10.64.63.0/24", "10.64.63.0/25", "10.64.1.0/25", "10.65.0.0/24", "fd64::1/128"} {
			if _, err := a.keeper.TakeThis(t.Context(), network, netip.MustParsePrefix(p)); !errors.Is(err, lease.ErrNetworkGone) {
				t.Errorf("%s: %v, want %v", p, err, lease.ErrNetworkGone)
			}
		}
		free := netip.MustParsePrefix("10.64.5.0/24")
		a.takeThis(network, free)
		if _, err := b.keeper.TakeThis(t.Context(), network, free); err == nil || !strings.Contains(err.Error(), "host h1 holds the subnet 10.64.5.0/24") {
			t.Errorf("another's subnet: %v", err)
		}
		r.put(store.SubnetKey("blue", static), []byte("{"))
		if _, err := a.keeper.TakeThis(t.Context(), network, static); err == nil || !strings.Contains(err.Error(), "damaged record keeps 10.64.63.9/32") {
			t.Errorf("damaged: %v", err)
		}
		a.kv.SetConnected(false)
		if _, err := a.keeper.TakeThis(t.Context(), network, netip.MustParsePrefix("10.64.63.10/32")); !errors.Is(err, store.ErrUnavailable) {
			t.Errorf("store away: %v, want %v", err, store.ErrUnavailable)
		}
	})
}

// No host's subnet is chosen in the static range, and all outside of it are.
func TestStaticRangeIsKeptFree(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		network := r.network("blue", "10.64.0.0/20", 24, "10.64.8.128/25")
		h := r.addHost().start()
		synctest.Wait()
		for range 15 {
			if l := h.take(network); l.Prefix == netip.MustParsePrefix("10.64.8.0/24") {
				t.Errorf("took %s", l.Prefix)
			}
		}
		if _, err := h.keeper.Take(t.Context(), network, network.Pools[0]); err == nil {
			t.Error("took a 16th subnet")
		}
	})
}

// A thousand addresses on one host: taken, kept over a restart, repaired when
// the store loses them, given back.
func TestThousandStatics(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		const many = 1000
		network := r.network("blue", "10.64.0.0/16", 24, "10.64.248.0/21")
		h := r.addHost().start()
		synctest.Wait()
		addr := netip.MustParseAddr("10.64.248.0")
		for range many {
			addr = addr.Next()
			h.takeThis(network, netip.PrefixFrom(addr, 32))
		}
		h.kill()
		h.start()
		synctest.Wait()
		check := func(what string) {
			t.Helper()
			held := h.keeper.Held()
			for _, x := range held {
				if x.State != lease.StateHeld {
					t.Fatalf("%s: %s is %s", what, x.Prefix, x.State)
				}
			}
			if n := len(r.keys(store.SubnetsPrefix("blue"))); len(held) != many || n != many {
				t.Fatalf("%s: %d held, %d in the store", what, len(held), n)
			}
		}
		check("restarted")
		r.remove(store.SubnetKey("blue", netip.MustParsePrefix("10.64.249.7/32")))
		synctest.Wait()
		check("one deleted by hand")
		r.remove(store.SubnetsPrefix("blue"))
		synctest.Wait()
		check("all deleted by hand")
		for _, x := range h.keeper.Held() {
			if err := h.keeper.Release(t.Context(), x.Lease); err != nil {
				t.Fatal(err)
			}
		}
		if left := r.keys(store.SubnetsPrefix("blue")); len(left) > 0 {
			t.Errorf("%d left in the store: %v", len(left), fmt.Sprint(left[0]))
		}
	})
}
