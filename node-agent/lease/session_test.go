package lease_test

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ovlnet/ovl/internal/cluster"
	"github.com/ovlnet/ovl/internal/store"
	"github.com/ovlnet/ovl/node-agent/lease"
)

func (r *rig) session(h *host) (cluster.Session, bool) {
	r.t.Helper()
	rec, ok, err := store.Get(r.t.(*testing.T).Context(), r.store, store.SessionKey(h.self.ID))
	if err != nil || !ok {
		return cluster.Session{}, false
	}
	s, err := store.DecodeSession(rec)
	if err != nil {
		r.t.Fatalf("%v", err)
	}
	return s, true
}

func TestSessionEnds(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		h := r.addHost().start()
		synctest.Wait()
		if _, ok := r.session(h); !ok {
			t.Fatal("no session")
		}
		h.stop()
		if _, ok := r.session(h); ok {
			t.Error("session after a graceful stop")
		}
		h.start()
		synctest.Wait()
		h.kill()
		time.Sleep(14*time.Second - 15*time.Second/3)
		if _, ok := r.session(h); !ok {
			t.Error("session did not outlast the process by its time")
		}
		time.Sleep(10 * time.Second)
		if _, ok := r.session(h); ok {
			t.Error("session of a dead process")
		}
		if keys := r.keys(store.HostsPrefix); len(keys) != 1 {
			t.Errorf("hosts: %v, want ours: it still owns what it owns", keys)
		}
	})
}

// kill -9 and restart: the successor of the same boot does not wait.
func TestTakeOverOwnSession(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		h := r.addHost().start()
		synctest.Wait()
		h.kill()
		h.start()
		synctest.Wait()
		h.settled(true) // by the disk alone, were the store away
		if s, _ := r.session(h); s.Instance != h.instance {
			t.Errorf("session of %s, want %s", s.Instance, h.instance)
		}
	})
}

// settled checks whether the keeper says that it is.
func (h *host) settled(want bool) {
	h.r.t.Helper()
	select {
	case <-h.keeper.Settled():
		if !want {
			h.r.t.Errorf("settled with the session of before alive")
		}
	default:
		if want {
			h.r.t.Errorf("not settled")
		}
	}
}

// After a reboot the old session may be a clone's: wait until it ends.
func TestReboot(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		network := r.network("blue", "10.64.0.0/16", 24)
		h := r.addHost().start()
		synctest.Wait()
		l := h.take(network)
		h.settled(true) // its first run
		h.reboot(2 * time.Second)
		synctest.Wait()
		h.ownership(lease.OwnershipConflict)
		h.settled(false)
		time.Sleep(15 * time.Second)
		h.ownership(lease.OwnershipHeld)
		h.settled(true)
		h.want(l.Prefix, lease.StateHeld)
		if keys := r.keys(store.ClonesPrefix); len(keys) != 0 {
			t.Errorf("clones: %v", keys)
		}
	})
}

// clone returns another machine with a copy of h's disk.
func (r *rig) clone(h *host) *host {
	r.t.Helper()
	c := r.addHost()
	c.self.ID = h.self.ID
	c.db.Close()
	path := fmt.Sprintf("clone%d.db", len(r.hosts))
	copyDB(r, h, path)
	c.db = r.openDB(path)
	return c
}

func TestClone(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		network := r.network("blue", "10.64.0.0/16", 24)
		h := r.addHost().start()
		synctest.Wait()
		l := h.take(network)
		c := r.clone(h).start()
		time.Sleep(2 * time.Second)
		c.ownership(lease.OwnershipConflict)
		c.want(l.Prefix, lease.Pending)
		if err := c.keeper.MayAttach(); !errors.Is(err, lease.ErrIdentity) {
			t.Errorf("clone: %v, want %v", err, lease.ErrIdentity)
		}
		if _, err := c.keeper.Take(t.Context(), network, network.Pools[0]); !errors.Is(err, lease.ErrIdentity) {
			t.Errorf("clone takes: %v, want %v", err, lease.ErrIdentity)
		}
		if !c.problem("host h1 (192.0.2.2)") || !h.problem("host h2 (192.0.2.3)") {
			t.Errorf("clone says %+v, incumbent says %+v: want each to name the other", c.keeper.Status().Problems, h.keeper.Status().Problems)
		}
		h.want(l.Prefix, lease.StateHeld)
		h.ownership(lease.OwnershipHeld)
		if s, _ := r.session(h); len(s.Problems) != 1 {
			t.Errorf("published: %+v, want the clone", s.Problems)
		}
		c.stop()
		time.Sleep(2 * time.Second)
		if len(h.keeper.Status().Problems) != 0 {
			t.Errorf("clone is gone: %+v", h.keeper.Status().Problems)
		}
	})
}

// An incumbent that was cut off for longer than its session comes back to find
// the clone in its place: never both.
func TestCloneTakesOver(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		network := r.network("blue", "10.64.0.0/16", 24)
		h := r.addHost().start()
		synctest.Wait()
		l := h.take(network)
		c := r.clone(h).start()
		h.kv.SetConnected(false)
		time.Sleep(20 * time.Second)
		c.want(l.Prefix, lease.StateHeld)
		h.kv.SetConnected(true)
		time.Sleep(2 * time.Second)
		h.ownership(lease.OwnershipConflict)
		h.want(l.Prefix, lease.Pending)
		c.stop()
		synctest.Wait()
		h.want(l.Prefix, lease.StateHeld)
	})
}

func TestReportRate(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		h := r.addHost().start()
		synctest.Wait()
		time.Sleep(10 * time.Second)
		before, _ := r.session(h)
		for i := range int64(100) { // a revision every 100 ms, 10 s long
			h.keeper.SetReport(i, nil)
			time.Sleep(100 * time.Millisecond)
		}
		after, _ := r.session(h)
		if writes := after.Revision - before.Revision; writes < 1 || writes > 4 { // intervals are shortened by up to a quarter
			t.Errorf("%d writes of the applied revision in 10 s, want 1 to 4", writes)
		}
		time.Sleep(7 * time.Second) // more than the longest interval
		if after, _ = r.session(h); after.AppliedRevision != 99 {
			t.Errorf("applied revision %d, want 99", after.AppliedRevision)
		}
		ps := []cluster.Problem{{Severity: cluster.SeverityWarning, Subject: "network blue", What: "wrong"}}
		h.keeper.SetReport(100, ps)
		synctest.Wait()
		if after, _ = r.session(h); !slices.Equal(after.Problems, ps) || after.AppliedRevision != 100 {
			t.Errorf("a first problem after rest: %+v, want it at once", after)
		}
	})
}

// Two hosts with one underlay address: the second stays out until it has
// another, or the first is gone.
func TestRival(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		network := r.network("blue", "10.64.0.0/16", 24)
		a, b := r.addHost().start(), r.addHost()
		synctest.Wait()
		own := b.self.Underlay
		b.self.Underlay = a.self.Underlay
		b.start()
		synctest.Wait()
		b.ownership(lease.OwnershipConflict)
		if _, err := b.keeper.Take(t.Context(), network, network.Pools[0]); !errors.Is(err, lease.ErrIdentity) {
			t.Errorf("take: %v, want %v", err, lease.ErrIdentity)
		}
		if !b.problem("host h1") || !b.problem("10.0.2.15") {
			t.Errorf("problems: %+v", b.keeper.Status().Problems)
		}
		if keys := r.keys(store.HostKey(b.self.ID)); len(keys) != 0 {
			t.Errorf("registered: %v", keys)
		}
		time.Sleep(2 * time.Second)
		if s, ok := r.session(b); !ok || len(s.Problems) != 1 {
			t.Errorf("session %+v, want one that says why", s)
		}
		renumbered := b.self
		renumbered.Underlay = own
		b.keeper.SetHost(renumbered)
		synctest.Wait()
		b.ownership(lease.OwnershipHeld)
		if keys := r.keys(store.HostKey(b.self.ID)); len(keys) != 1 {
			t.Error("not registered with its own address")
		}
		b.keeper.SetHost(b.self) // back to the wrong one
		synctest.Wait()
		if keys := r.keys(store.HostKey(b.self.ID)); len(keys) != 0 {
			t.Error("registered with another's address")
		}
		a.stop()
		synctest.Wait()
		if !b.problem("ovlctl host rm h1") {
			t.Errorf("problems after the other's end: %+v", b.keeper.Status().Problems)
		}
		r.remove(store.HostKey(a.self.ID)) // ovlctl host rm
		synctest.Wait()
		b.ownership(lease.OwnershipHeld)
	})
}

// Both look before either writes: one of them withdraws.
func TestRivalsAtOnce(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		for range 5 {
			h := r.addHost()
			h.self.Underlay = r.hosts[0].self.Underlay
			h.start()
		}
		time.Sleep(5 * time.Second)
		if keys := r.keys(store.HostsPrefix); len(keys) != 1 {
			t.Errorf("registered with one address: %v", keys)
		}
	})
}
