package storetest

import (
	"context"
	"testing"
	"time"

	"github.com/ovlnet/ovl/internal/store"
)

// Harness is one store under test and what KV cannot do to it.
type Harness struct {
	KV store.KV // empty
	// Compact forgets the history before a revision.
	Compact func(ctx context.Context, rev int64) error
	// Unreachable is a client of a store that is not there.
	Unreachable store.KV
	// LeaseTTL is a short lease that the store grants as asked.
	LeaseTTL time.Duration
}

// Run runs the suite. open is called once for each test.
func Run(t *testing.T, open func(t *testing.T) Harness) {
	for _, c := range []struct {
		name string
		test func(*testing.T, Harness)
	}{
		{"Revisions", testRevisions},
		{"RangeSortedOnce", testRangeSortedOnce},
		{"RangeLarge", testRangeLarge},
		{"RangeManyPrefixes", testRangeManyPrefixes},
		{"Conditions", testConditions},
		{"ConflictWritesNothing", testConflictWritesNothing},
		{"OneRevisionPerTxn", testOneRevisionPerTxn},
		{"MalformedTxn", testMalformedTxn},
		{"DeletePrefix", testDeletePrefix},
		{"OneWinner", testOneWinner},
		{"LeaseExpires", testLeaseExpires},
		{"LeaseKeptAlive", testLeaseKeptAlive},
		{"LeaseRevoked", testLeaseRevoked},
		{"LeaseGone", testLeaseGone},
		{"LeaseMoves", testLeaseMoves},
		{"WatchFromRevision", testWatchFromRevision},
		{"WatchPrefixOnly", testWatchPrefixOnly},
		{"WatchWholeRevisions", testWatchWholeRevisions},
		{"WatchFuture", testWatchFuture},
		{"WatchCompacted", testWatchCompacted},
		{"WatchAfterCompaction", testWatchAfterCompaction},
		{"WatchEndsWithContext", testWatchEndsWithContext},
		{"WatchFollowsConcurrentWriters", testWatchFollowsConcurrentWriters},
		{"Cancelled", testCancelled},
		{"Unreachable", testUnreachable},
	} {
		t.Run(c.name, func(t *testing.T) { c.test(t, open(t)) })
	}
}

// write makes writes that must succeed and returns their revision.
func write(t *testing.T, h Harness, writes ...store.Write) int64 {
	t.Helper()
	rev, err := h.KV.Txn(t.Context(), nil, writes)
	if err != nil {
		t.Fatal(err)
	}
	return rev
}

// put writes one key without a lease.
func put(t *testing.T, h Harness, key, value string) int64 {
	t.Helper()
	return write(t, h, store.Put(key, []byte(value), 0))
}

// list reads what must be readable.
func list(t *testing.T, h Harness, prefixes ...string) store.Page {
	t.Helper()
	page, err := h.KV.Range(t.Context(), prefixes...)
	if err != nil {
		t.Fatal(err)
	}
	return page
}

func keys(records []store.Record) []string {
	var ks []string
	for _, r := range records {
		ks = append(ks, r.Key)
	}
	return ks
}

// events reads a watch until it has brought n of them; more in the last batch
// are an error.
func events(t *testing.T, watch <-chan store.Batch, n int) []store.Event {
	t.Helper()
	var got []store.Event
	for len(got) < n {
		b, ok := <-watch
		if !ok {
			t.Fatalf("watch closed after %d of %d events", len(got), n)
		}
		if b.Err != nil {
			t.Fatalf("watch ended after %d of %d events: %v", len(got), n, b.Err)
		}
		got = append(got, b.Events...)
		if len(b.Events) > 0 && b.Revision != b.Events[len(b.Events)-1].Record.ModRev {
			t.Fatalf("batch of revision %d ends with an event of %d", b.Revision, b.Events[len(b.Events)-1].Record.ModRev)
		}
	}
	if len(got) != n {
		t.Fatalf("%d events, want %d: %v", len(got), n, got)
	}
	return got
}

func watchFrom(t *testing.T, h Harness, prefix string, rev int64) <-chan store.Batch {
	t.Helper()
	return h.KV.Watch(t.Context(), prefix, rev)
}
