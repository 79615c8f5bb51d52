package mem

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/ovlnet/ovl/internal/store"
)

// Watch implements [store.KV]. What happened while the watch was behind, or cut
// off, comes as one batch.
func (c *Client) Watch(ctx context.Context, prefix string, from int64) <-chan store.Batch {
	batches := make(chan store.Batch)
	go func() {
		defer close(batches)
		for next := from + 1; ; {
			batch, ok := c.next(ctx, prefix, next)
			if !ok {
				return
			}
			select {
			case batches <- batch:
			case <-ctx.Done():
				return
			}
			if batch.Err != nil {
				return
			}
			next = batch.Revision + 1
		}
	}()
	return batches
}

// next waits for events of revision next or later; it reports false when ctx is
// done.
func (c *Client) next(ctx context.Context, prefix string, next int64) (store.Batch, bool) {
	for {
		if !c.gate.wait(ctx) || !c.store.gate.wait(ctx) {
			return store.Batch{}, false
		}
		batch, seen, changed := c.store.since(prefix, next)
		if batch.Err != nil || len(batch.Events) > 0 {
			// A door may have closed meanwhile, but what has been read is right.
			return batch, true
		}
		// What is compacted beyond this point a watch that has seen it does not need.
		next = max(next, seen+1)
		select {
		case <-changed:
		case <-ctx.Done():
			return store.Batch{}, false
		}
	}
}

// since returns the events of revision next or later under the prefix, the
// revision up to which it looked, and what is closed at the next change.
func (s *Store) since(prefix string, next int64) (store.Batch, int64, <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if next < s.compacted {
		err := fmt.Errorf("watch %s from revision %d: %w", prefix, next, store.ErrCompacted)
		return store.Batch{Err: err}, s.rev, s.changed
	}
	i, _ := slices.BinarySearchFunc(s.history, next, func(c change, rev int64) int { return int(c.rev - rev) })
	batch := store.Batch{}
	for _, c := range s.history[i:] {
		if strings.HasPrefix(c.ev.Record.Key, prefix) {
			ev := c.ev
			ev.Record = copyRecord(ev.Record)
			batch.Events = append(batch.Events, ev)
			batch.Revision = c.rev
		}
	}
	return batch, s.rev, s.changed
}
