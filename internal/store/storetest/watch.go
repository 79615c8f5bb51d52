package storetest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/ovlnet/ovl/internal/store"
)

// A watch brings what came after its revision: past and present, in order.
func testWatchFromRevision(t *testing.T, h Harness) {
	from := put(t, h, "a/1", "x")
	changed := put(t, h, "a/1", "y")
	deleted := write(t, h, store.Delete("a/1"))
	watch := watchFrom(t, h, "a/", from)
	got := events(t, watch, 2)
	if r := got[0].Record; got[0].Deleted || r.ModRev != changed || r.CreateRev != from || string(r.Value) != "y" {
		t.Fatalf("first event %+v, want the change at %d", got[0], changed)
	}
	want := store.Record{Key: "a/1", ModRev: deleted}
	if r := got[1].Record; !got[1].Deleted || r.Key != want.Key || r.ModRev != want.ModRev || r.CreateRev != 0 || r.Value != nil {
		t.Fatalf("second event %+v, want the deletion at %d", got[1], deleted)
	}
	again := put(t, h, "a/1", "z")
	if ev := events(t, watch, 1)[0]; ev.Record.CreateRev != again {
		t.Fatalf("event %+v, want the creation at %d", ev, again)
	}
	// Resumed where it was, it brings nothing twice.
	last := put(t, h, "a/2", "")
	if ev := events(t, watchFrom(t, h, "a/", again), 1)[0]; ev.Record.ModRev != last {
		t.Fatalf("resumed with %+v, want revision %d", ev, last)
	}
}

func testWatchPrefixOnly(t *testing.T, h Harness) {
	from := list(t, h, "a").Revision
	for _, k := range []string{"a", "a0", "b/1", "a/1"} {
		put(t, h, k, "")
	}
	if ev := events(t, watchFrom(t, h, "a/", from), 1)[0]; ev.Record.Key != "a/1" {
		t.Fatalf("event %+v", ev)
	}
	events(t, watchFrom(t, h, "a", from), 3)
}

// Events of one revision come in one batch, live or from history.
func testWatchWholeRevisions(t *testing.T, h Harness) {
	from := list(t, h, "a/").Revision
	live := watchFrom(t, h, "a/", from)
	const revisions, each = 20, 100
	for r := range revisions {
		var writes []store.Write
		for k := range each {
			writes = append(writes, store.Put(fmt.Sprintf("a/%d", k), fmt.Appendf(nil, "%d", r), 0))
		}
		write(t, h, writes...)
	}
	for name, watch := range map[string]<-chan store.Batch{"live": live, "history": watchFrom(t, h, "a/", from)} {
		for n := 0; n < revisions*each; {
			b := <-watch
			if b.Err != nil {
				t.Fatal(b.Err)
			}
			if len(b.Events)%each != 0 {
				t.Fatalf("%s: a batch of %d events, want whole revisions of %d", name, len(b.Events), each)
			}
			n += len(b.Events)
		}
	}
}

// A watch from a revision that is yet to come waits for it.
func testWatchFuture(t *testing.T, h Harness) {
	now := list(t, h, "a/").Revision
	watch := watchFrom(t, h, "a/", now+1)
	put(t, h, "a/1", "")
	second := put(t, h, "a/2", "")
	if ev := events(t, watch, 1)[0]; ev.Record.ModRev != second {
		t.Fatalf("event %+v, want that of revision %d", ev, second)
	}
}

func testWatchCompacted(t *testing.T, h Harness) {
	from := put(t, h, "a/1", "x")
	put(t, h, "a/1", "y")
	last := put(t, h, "a/1", "z")
	if err := h.Compact(t.Context(), last); err != nil {
		t.Fatal(err)
	}
	watch := watchFrom(t, h, "a/", from)
	for b := range watch {
		if b.Err == nil && len(b.Events) == 0 {
			continue
		}
		if !errors.Is(b.Err, store.ErrCompacted) {
			t.Fatalf("batch %+v, want ErrCompacted", b)
		}
		if _, open := <-watch; open {
			t.Fatal("the watch goes on after its error")
		}
		return
	}
	t.Fatal("the watch ended without an error")
}

// What is compacted is of no matter to those who are past it.
func testWatchAfterCompaction(t *testing.T, h Harness) {
	put(t, h, "a/1", "x")
	last := put(t, h, "a/1", "y")
	watch := watchFrom(t, h, "a/", last)
	if err := h.Compact(t.Context(), last); err != nil {
		t.Fatal(err)
	}
	rev := put(t, h, "a/1", "z")
	for name, watch := range map[string]<-chan store.Batch{"old": watch, "new": watchFrom(t, h, "a/", last)} {
		if ev := events(t, watch, 1)[0]; ev.Record.ModRev != rev {
			t.Errorf("%s: event %+v, want revision %d", name, ev, rev)
		}
	}
}

func testWatchEndsWithContext(t *testing.T, h Harness) {
	ctx, cancel := context.WithCancel(t.Context())
	rev := list(t, h, "a/").Revision
	idle := h.KV.Watch(ctx, "a/", rev)
	behind := h.KV.Watch(ctx, "b/", rev)
	for range 3 {
		put(t, h, "b/1", "")
	}
	<-behind // and let the rest lie
	cancel()
	for b := range idle {
		t.Errorf("batch %+v after the end", b)
	}
	for b := range behind {
		if b.Err != nil {
			t.Errorf("error %v after the end", b.Err)
		}
	}
}

// While many write, a watch from before brings every write once, in the order
// of revisions, and its last word on each key is what a range says.
func testWatchFollowsConcurrentWriters(t *testing.T, h Harness) {
	const writers, each = 8, 25
	watch := watchFrom(t, h, "a/", list(t, h, "a/").Revision)
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			for i := range each {
				w := store.Put(fmt.Sprintf("a/%d", (w+i)%5), fmt.Appendf(nil, "%d/%d", w, i), 0)
				if _, err := h.KV.Txn(t.Context(), nil, []store.Write{w}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	state, last := map[string]store.Record{}, int64(0)
	for _, ev := range events(t, watch, writers*each) {
		if ev.Record.ModRev <= last {
			t.Fatalf("revision %d after %d", ev.Record.ModRev, last)
		}
		last = ev.Record.ModRev
		state[ev.Record.Key] = ev.Record
	}
	for _, r := range list(t, h, "a/").Records {
		if got := state[r.Key]; got.ModRev != r.ModRev || string(got.Value) != string(r.Value) {
			t.Errorf("watch ended with %+v, the store holds %+v", got, r)
		}
	}
}
