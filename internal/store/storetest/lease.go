package storetest

import (
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/ovlnet/ovl/internal/store"
)

func grant(t *testing.T, h Harness, ttl time.Duration) store.LeaseID {
	t.Helper()
	id, err := h.KV.Grant(t.Context(), ttl)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// A lease that nobody renews ends, and its keys go in one revision. Only the
// watch says when.
func testLeaseExpires(t *testing.T, h Harness) {
	id := grant(t, h, h.LeaseTTL)
	rev := write(t, h, store.Put("a/1", nil, id), store.Put("a/2", nil, id), store.Put("b/1", nil, 0))
	if r := list(t, h, "a/1").Records[0]; r.Lease != id {
		t.Fatalf("record of lease %d, want %d", r.Lease, id)
	}
	got := events(t, watchFrom(t, h, "a/", rev), 2)
	if !got[0].Deleted || !got[1].Deleted || got[0].Record.ModRev != got[1].Record.ModRev {
		t.Fatalf("events %+v, want two deletions at one revision", got)
	}
	if left := keys(list(t, h, "a/", "b/").Records); !slices.Equal(left, []string{"b/1"}) {
		t.Fatalf("left over: %q", left)
	}
}

// Of two leases the one that is renewed outlives the one that is not.
func testLeaseKeptAlive(t *testing.T, h Harness) {
	kept := grant(t, h, h.LeaseTTL)
	lost := grant(t, h, h.LeaseTTL)
	rev := write(t, h, store.Put("a/kept", nil, kept), store.Put("a/lost", nil, lost))
	watch := watchFrom(t, h, "a/lost", rev)
	tick := time.NewTicker(h.LeaseTTL / 4)
	defer tick.Stop()
	for ended := false; !ended; {
		left, err := h.KV.KeepAlive(t.Context(), kept)
		if err != nil || left < h.LeaseTTL/2 {
			t.Fatalf("KeepAlive: %v left, error %v", left, err)
		}
		select {
		case b := <-watch:
			ended = len(b.Events) > 0
		case <-tick.C:
		}
	}
	if got := keys(list(t, h, "a/").Records); !slices.Equal(got, []string{"a/kept"}) {
		t.Fatalf("keys %q, want the kept one alone", got)
	}
}

func testLeaseRevoked(t *testing.T, h Harness) {
	id := grant(t, h, time.Hour)
	rev := write(t, h, store.Put("a/1", nil, id))
	watch := watchFrom(t, h, "a/", rev)
	for range 2 { // what is gone is gone
		if err := h.KV.Revoke(t.Context(), id); err != nil {
			t.Fatal(err)
		}
	}
	if ev := events(t, watch, 1)[0]; !ev.Deleted || ev.Record.Key != "a/1" {
		t.Fatalf("event %+v, want the deletion", ev)
	}
}

func testLeaseGone(t *testing.T, h Harness) {
	id := grant(t, h, time.Hour)
	if err := h.KV.Revoke(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	if _, err := h.KV.KeepAlive(t.Context(), id); !errors.Is(err, store.ErrLeaseGone) {
		t.Errorf("KeepAlive: %v, want ErrLeaseGone", err)
	}
	writes := []store.Write{store.Put("a/1", nil, 0), store.Put("a/2", nil, id)}
	if _, err := h.KV.Txn(t.Context(), nil, writes); !errors.Is(err, store.ErrLeaseGone) {
		t.Errorf("Txn: %v, want ErrLeaseGone", err)
	}
	if page := list(t, h, "a/"); len(page.Records) != 0 {
		t.Errorf("written all the same: %q", keys(page.Records))
	}
}

// A key lives on the lease of its last write.
func testLeaseMoves(t *testing.T, h Harness) {
	first, second := grant(t, h, time.Hour), grant(t, h, time.Hour)
	write(t, h, store.Put("a/1", nil, first), store.Put("a/2", nil, first))
	write(t, h, store.Put("a/1", nil, second), store.Put("a/2", nil, 0))
	if err := h.KV.Revoke(t.Context(), first); err != nil {
		t.Fatal(err)
	}
	if got := keys(list(t, h, "a/").Records); !slices.Equal(got, []string{"a/1", "a/2"}) {
		t.Fatalf("keys %q, want both", got)
	}
	if err := h.KV.Revoke(t.Context(), second); err != nil {
		t.Fatal(err)
	}
	if got := keys(list(t, h, "a/").Records); !slices.Equal(got, []string{"a/2"}) {
		t.Fatalf("keys %q, want the one without a lease", got)
	}
}
