package audit

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/ovlnet/ovl/internal/store"
	ovlv1 "github.com/ovlnet/ovl/proto/ovl/v1"
)

// maxBatch is how many events one transaction takes along: etcd refuses more
// than 128 operations.
const maxBatch = 64

// The waits after a failure, and after losing a race with another controller.
const (
	awayPause = time.Second
	racePause = 20 * time.Millisecond
)

// lastChance is how long what waits may take when the controller stops.
const lastChance = time.Second

// Run brings what is recorded into the store, until ctx is done and what waits
// then had its chance.
func (t *Trail) Run(ctx context.Context) {
	for ctx.Err() == nil {
		select {
		case <-t.queue.wake:
			t.drain(ctx)
		case <-ctx.Done():
		}
	}
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), lastChance)
	defer cancel()
	t.drain(last)
}

// drain publishes until nothing waits or ctx is done.
func (t *Trail) drain(ctx context.Context) {
	away := false
	for {
		batch := t.queue.head(maxBatch)
		if len(batch) == 0 {
			return
		}
		err := t.publish(ctx, batch)
		if err == nil {
			t.queue.done(batch)
			away = false
			continue
		}
		pause := awayPause
		if errors.Is(err, store.ErrConflict) {
			pause = rand.N(racePause) //nolint:gosec // spreads, hides nothing
		} else if !away && ctx.Err() == nil {
			away = true
			t.Reports.Warn("events wait for the store", slog.Any("err", err))
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return
		}
	}
}

// publish writes events behind those that are there. An answer that got lost
// makes it write them again: twice is better than never.
func (t *Trail) publish(ctx context.Context, batch []queued) error {
	ctx, cancel := context.WithTimeout(ctx, t.StoreTimeout)
	defer cancel()
	h, rev, err := t.head(ctx)
	if err != nil {
		return err
	}
	var writes []store.Write
	for _, q := range batch {
		key := h.next(q.ring)
		value, err := encode(numbered(q.event, h.Number), maxValue)
		if err != nil {
			return err
		}
		writes = append(writes, store.Put(key, value, 0))
	}
	value, err := encodeHead(h)
	if err != nil {
		return err
	}
	_, err = t.Store.Txn(ctx, []store.Cond{store.Unchanged(headKey, rev)}, append(writes, store.Put(headKey, value, 0)))
	return err
}

// head returns where the next event goes, and the revision of the record that
// says so; without a good one, it goes behind the events there are.
func (t *Trail) head(ctx context.Context) (head, int64, error) {
	r, ok, err := store.Get(ctx, t.Store, headKey)
	if err != nil {
		return head{}, 0, err
	}
	if ok {
		if h, err := decodeHead(r.Value); err == nil && h.Number < maxNumber-maxBatch {
			return h, r.ModRev, nil
		}
	}
	page, err := t.Store.Range(ctx, Prefix)
	if err != nil {
		return head{}, 0, err
	}
	var h head
	if all := decodeAll(page.Records); len(all) > 0 {
		last := all[len(all)-1].GetNumber()
		h = head{Number: last, Changes: last, Refusals: last, Renewals: last}
	}
	if h.Number >= maxNumber-maxBatch {
		h = head{} // nobody counts that far: somebody wrote it
	}
	return h, r.ModRev, nil
}

// decodeAll returns the events among records, by number. What is none is left
// out: one bad record must not hide the others.
func decodeAll(records []store.Record) []*ovlv1.Event {
	var all []*ovlv1.Event
	for _, r := range records {
		if e, err := Decode(r); err == nil {
			all = append(all, e)
		}
	}
	slices.SortFunc(all, func(a, b *ovlv1.Event) int { return cmp.Compare(a.GetNumber(), b.GetNumber()) })
	return all
}

// Added returns the events that a batch of a watch of [Prefix] brings, by number.
func Added(b store.Batch) []*ovlv1.Event {
	var records []store.Record
	for _, e := range b.Events {
		if !e.Deleted {
			records = append(records, e.Record)
		}
	}
	return decodeAll(records)
}
