package lease_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/ovlnet/ovl/internal/cluster"
	"github.com/ovlnet/ovl/internal/ipam"
	"github.com/ovlnet/ovl/internal/store"
	"github.com/ovlnet/ovl/node-agent/lease"
)

// The law: no two hosts hold one prefix at any time, whatever fails in whatever
// order; and what one holds is in the store under its name. A random history is
// drawn, then played in a bubble of fake time.
func TestLaw(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		const hosts = 20
		steps := rapid.SliceOfN(rapid.Custom(func(rt *rapid.T) step {
			return step{
				host:  rapid.IntRange(0, hosts-1).Draw(rt, "host"),
				act:   rapid.SampledFrom(acts).Draw(rt, "act"),
				pause: time.Duration(rapid.Int64Range(0, int64(2*time.Minute)).Draw(rt, "pause")),
				brief: rapid.Bool().Draw(rt, "brief"),
			}
		}), 20, 80).Draw(rt, "steps")
		dir := t.TempDir()
		var broken error
		synctest.Test(t, func(t *testing.T) { broken = play(t, dir, hosts, steps) })
		if broken != nil {
			rt.Fatalf("%v", broken)
		}
	})
}

type step struct {
	host  int
	act   string
	pause time.Duration
	brief bool // hardly any pause after it
}

var acts = []string{"take", "take", "static", "static", "contest", "release", "release", "cut", "mend", "mend", "kill", "reboot", "suspend", "outage", "back", "compact", "rush"}

func play(t *testing.T, dir string, hosts int, steps []step) error {
	r := newRig(t, dir)
	r.ttl = 5 * time.Minute
	defer r.close()
	// 31 subnets for 20 hosts, and four static addresses: scarce.
	network := r.network("blue", "10.64.0.0/19", 24, "10.64.31.0/24")
	for range hosts {
		r.addHost().start()
	}
	for i, s := range steps {
		r.act(network, r.hosts[s.host], s.act)
		if err := r.exclusive(); err != nil {
			return fmt.Errorf("step %d (%+v): %w", i, s, err)
		}
		pause := s.pause
		if s.brief {
			pause /= 1 << 12
		}
		// In pieces, to look in between.
		for range 4 {
			time.Sleep(pause / 4)
			if err := r.exclusive(); err != nil {
				return fmt.Errorf("after step %d (%+v): %w", i, s, err)
			}
		}
	}
	// All is well again: every host is as it should be.
	r.store.SetAvailable(true)
	for _, h := range r.hosts {
		h.kv.SetConnected(true)
	}
	time.Sleep(time.Minute)
	synctest.Wait()
	for _, h := range r.hosts {
		if s := h.keeper.Status(); !s.Connected || s.Ownership != lease.OwnershipHeld {
			return fmt.Errorf("%s at rest: %+v", h.self.Name, s)
		}
		for _, held := range h.keeper.Held() {
			if held.State == lease.Pending {
				return fmt.Errorf("%s at rest: %v", h.self.Name, h.states())
			}
		}
	}
	return r.exclusive()
}

func (r *rig) act(network cluster.Network, h *host, act string) {
	switch act {
	case "take":
		r.tryTake(h, network)
	case "static":
		r.tryTakeThis(h, network, rand.N(4))
	case "contest":
		done := make(chan struct{})
		n := rand.N(4)
		for _, h := range r.hosts {
			go func() { r.tryTakeThis(h, network, n); done <- struct{}{} }()
		}
		for range r.hosts {
			<-done
		}
	case "rush":
		done := make(chan struct{})
		for _, h := range r.hosts {
			go func() { r.tryTake(h, network); done <- struct{}{} }()
		}
		for range r.hosts {
			<-done
		}
	case "release":
		if held := h.keeper.Held(); len(held) > 0 {
			err := h.keeper.Release(context.Background(), held[rand.N(len(held))].Lease)
			if err != nil && !errors.Is(err, store.ErrUnavailable) {
				r.t.Errorf("release: %v", err)
			}
		}
	case "cut":
		h.kv.SetConnected(false)
	case "mend":
		h.kv.SetConnected(true)
	case "kill":
		h.kill()
		h.start()
	case "reboot":
		h.reboot(30 * time.Second)
	case "suspend":
		h.skew.Add(int64(r.ttl / 2))
	case "outage":
		r.store.SetAvailable(false)
	case "back":
		r.store.SetAvailable(true)
	case "compact":
		r.store.Compact(r.store.Revision())
	}
}

func (r *rig) tryTake(h *host, network cluster.Network) {
	_, err := h.keeper.Take(context.Background(), network, network.Pools[0])
	for _, known := range []error{nil, ipam.ErrExhausted, lease.ErrFenced, lease.ErrIdentity, store.ErrUnavailable} {
		if errors.Is(err, known) {
			return
		}
	}
	r.t.Errorf("take: %v", err)
}

func (r *rig) tryTakeThis(h *host, network cluster.Network, n int) {
	_, err := h.keeper.TakeThis(context.Background(), network, netip.MustParsePrefix(fmt.Sprintf("10.64.31.%d/32", n)))
	if _, held := errors.AsType[*lease.HeldError](err); held {
		return
	}
	for _, known := range []error{nil, lease.ErrFenced, lease.ErrIdentity, store.ErrUnavailable} {
		if errors.Is(err, known) {
			return
		}
	}
	r.t.Errorf("take static address: %v", err)
}

// exclusive checks the law now.
func (r *rig) exclusive() error {
	synctest.Wait()
	holders := map[string]*host{}
	for _, h := range r.hosts {
		for _, held := range h.keeper.Held() {
			if held.State != lease.StateHeld {
				continue
			}
			key := store.SubnetKey(held.Network, held.Prefix)
			if first := holders[key]; first != nil {
				return fmt.Errorf("%s is held by %s and by %s", held.Prefix, first.self.Name, h.self.Name)
			}
			holders[key] = h
		}
	}
	return r.recorded(holders)
}

// recorded checks that what is held is in the store. While the store is out of
// reach nothing can be read, but nothing is written either.
func (r *rig) recorded(holders map[string]*host) error {
	page, err := r.store.Range(context.Background(), store.SubnetsPrefix(""))
	if errors.Is(err, store.ErrUnavailable) {
		return nil
	}
	in := map[string]cluster.HostID{}
	for _, rec := range page.Records {
		l, err := store.DecodeLease(rec)
		if err != nil {
			return err
		}
		in[rec.Key] = l.Host
	}
	for key, h := range holders {
		if in[key] != h.self.ID {
			return fmt.Errorf("%s holds %s, in the store it is %q's", h.self.Name, key, in[key])
		}
	}
	return nil
}
