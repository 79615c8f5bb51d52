package lease_test

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ovlnet/ovl/internal/store"
	"github.com/ovlnet/ovl/node-agent/lease"
)

// A host that is away for the whole ownership time: fenced by its own clock,
// before the store gives its subnet to others.
func TestFence(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		network := r.network("blue", "10.64.0.0/24", 24) // one subnet only
		a, b := r.addHost().start(), r.addHost().start()
		synctest.Wait()
		l := a.take(network)
		a.kv.SetConnected(false)
		time.Sleep(ownershipTTL - 2*time.Minute)
		a.want(l.Prefix, lease.StateHeld)
		if err := a.keeper.MayAttach(); err != nil {
			t.Errorf("away, not yet fenced: %v", err)
		}
		time.Sleep(2 * time.Minute)
		a.want(l.Prefix, lease.Pending)
		a.ownership(lease.OwnershipFenced)
		if err := a.keeper.MayAttach(); !errors.Is(err, lease.ErrFenced) {
			t.Errorf("fenced: %v, want %v", err, lease.ErrFenced)
		}
		time.Sleep(time.Minute) // the store counts from when it answered
		if got := b.take(network); got.Prefix != l.Prefix {
			t.Fatalf("took %s, want %s", got.Prefix, l.Prefix)
		}
		a.kv.SetConnected(true)
		time.Sleep(2 * time.Second)
		a.want(l.Prefix, lease.Lost)
		b.want(l.Prefix, lease.StateHeld)
		if !a.problem("host h2") || !a.problem("lost") {
			t.Errorf("problems of a: %+v", a.keeper.Status().Problems)
		}
		if err := a.keeper.MayAttach(); err != nil {
			t.Errorf("all is settled: %v", err)
		}
		// The other gives it back: ours again.
		if err := b.keeper.Release(t.Context(), l); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		a.want(l.Prefix, lease.StateHeld)
	})
}

// The same, but nobody took the subnet meanwhile.
func TestFenceAndBack(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		network := r.network("blue", "10.64.0.0/16", 24)
		h := r.addHost().start()
		synctest.Wait()
		one, two := h.take(network), h.take(network)
		h.kv.SetConnected(false)
		time.Sleep(2 * ownershipTTL)
		h.ownership(lease.OwnershipFenced)
		if keys := r.keys(store.SubnetsPrefix("")); len(keys) != 0 {
			t.Fatalf("records outlived their lease: %v", keys)
		}
		h.kv.SetConnected(true)
		time.Sleep(2 * time.Second)
		h.want(one.Prefix, lease.StateHeld)
		h.want(two.Prefix, lease.StateHeld)
		h.ownership(lease.OwnershipHeld)
		if keys := r.keys(store.Root + "hosts/"); len(keys) != 1 {
			t.Errorf("hosts: %v", keys)
		}
	})
}

// A suspended host: its timers stood still, its clock did not.
func TestSuspend(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		network := r.network("blue", "10.64.0.0/16", 24)
		h := r.addHost().start()
		synctest.Wait()
		l := h.take(network)
		h.kv.SetConnected(false)
		h.skew.Add(int64(ownershipTTL))
		h.want(l.Prefix, lease.Pending)
		if err := h.keeper.MayAttach(); !errors.Is(err, lease.ErrFenced) {
			t.Errorf("after suspend: %v, want %v", err, lease.ErrFenced)
		}
		h.kv.SetConnected(true)
		time.Sleep(2 * time.Second)
		h.want(l.Prefix, lease.StateHeld)
	})
}

// Fenced, then killed: the next run must not believe the disk.
func TestFenceSurvivesRestart(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		network := r.network("blue", "10.64.0.0/16", 24)
		h := r.addHost().start()
		synctest.Wait()
		l := h.take(network)
		h.kv.SetConnected(false)
		h.kill()
		h.start()
		synctest.Wait()
		h.want(l.Prefix, lease.Pending)
		h.ownership(lease.OwnershipPending)
		if err := h.keeper.MayAttach(); err != nil {
			t.Errorf("restarted without the store: %v", err)
		}
		h.reboot(5 * time.Minute)
		if err := h.keeper.MayAttach(); err != nil {
			t.Errorf("rebooted without the store: %v", err)
		}
		h.reboot(ownershipTTL)
		if err := h.keeper.MayAttach(); !errors.Is(err, lease.ErrFenced) {
			t.Errorf("off for the ownership time: %v, want %v", err, lease.ErrFenced)
		}
		h.kv.SetConnected(true)
		time.Sleep(2 * time.Second)
		h.want(l.Prefix, lease.StateHeld)
		if err := h.keeper.MayAttach(); err != nil {
			t.Errorf("confirmed: %v", err)
		}
	})
}

// A restart goes on with the same lease: nothing in the store is written again.
func TestRestart(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		network := r.network("blue", "10.64.0.0/16", 24)
		h := r.addHost().start()
		synctest.Wait()
		l := h.take(network)
		before, _, _ := store.Get(t.Context(), r.store, store.SubnetKey("blue", l.Prefix))
		h.kill()
		h.start()
		synctest.Wait()
		h.want(l.Prefix, lease.StateHeld)
		after, _, _ := store.Get(t.Context(), r.store, store.SubnetKey("blue", l.Prefix))
		if after.ModRev != before.ModRev || after.Lease != before.Lease {
			t.Errorf("record written again: %+v, was %+v", after, before)
		}
	})
}

// An outage of a minute, at whatever point of the renewals, costs nothing.
func TestOutage(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		network := r.network("blue", "10.64.0.0/16", 24)
		h := r.addHost().start()
		synctest.Wait()
		l := h.take(network)
		for range 10 {
			r.store.SetAvailable(false)
			time.Sleep(61 * time.Second)
			h.want(l.Prefix, lease.StateHeld)
			if h.keeper.Status().Connected {
				t.Error("connected to a store that is away")
			}
			r.store.SetAvailable(true)
			time.Sleep(2 * time.Second)
			if s := h.keeper.Status(); !s.Connected || s.Ownership != lease.OwnershipHeld {
				t.Errorf("after the outage: %+v", s)
			}
			if len(r.keys(store.SessionsPrefix)) != 1 {
				t.Error("no session after the outage")
			}
		}
	})
}
