package api

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"github.com/ovlnet/ovl/internal/store"
)

// allocationKey is written by every creation of a network and compared by the
// next: it makes creations one sequence, whichever controllers make them, so
// that two overlapping subnets cannot be admitted side by side. Its value means
// nothing.
const allocationKey = store.Root + "allocation"

// maxAttempts bounds how often a change is tried again because a record that it
// compares was written meanwhile. Within one controller creations take turns,
// so the others are as many as there are controllers.
const maxAttempts = 50

// read returns the facts under the prefixes, all at one revision.
func (s *Server) read(ctx context.Context, prefixes ...string) (facts, error) {
	page, err := s.fetch(ctx, prefixes...)
	if err != nil {
		return facts{}, err
	}
	doubts, err := s.doubts(ctx, page.Records)
	if err != nil {
		return facts{}, err
	}
	return newFacts(page, doubts), nil
}

// readAll is read, and believes every record: what is to be deleted need not be true.
func (s *Server) readAll(ctx context.Context, prefixes ...string) (facts, error) {
	page, err := s.fetch(ctx, prefixes...)
	if err != nil {
		return facts{}, err
	}
	return newFacts(page, nil), nil
}

// doubts returns, by key, which records are not their hosts' own.
func (s *Server) doubts(ctx context.Context, records []store.Record) (map[string]error, error) {
	if s.judge == nil {
		return nil, nil
	}
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	return s.judge(ctx, records)
}

func (s *Server) fetch(ctx context.Context, prefixes ...string) (store.Page, error) {
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	return s.kv.Range(ctx, prefixes...)
}

// get returns the record of exactly that key; ok is false if there is none.
func (s *Server) get(ctx context.Context, key string) (r store.Record, ok bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	return store.Get(ctx, s.kv, key)
}

func (s *Server) commit(ctx context.Context, conds []store.Cond, writes []store.Write) (int64, error) {
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	return s.kv.Txn(ctx, conds, writes)
}

// retry calls try, which reads afresh and commits, until it does anything but
// lose a race.
func retry[T any](ctx context.Context, doing string, try func() (T, error)) (T, error) {
	for attempt := range maxAttempts {
		v, err := try()
		if !errors.Is(err, store.ErrConflict) || attempt == maxAttempts-1 {
			return v, failed(ctx, doing, err)
		}
		if err := pause(ctx, attempt); err != nil {
			return v, failed(ctx, doing, err)
		}
	}
	panic("unreachable")
}

// pause waits up to 2 ms doubled with each attempt, at most 128 ms: a random
// share of it, so that the losers of one race do not meet in the next.
func pause(ctx context.Context, attempt int) error {
	limit := 2 * time.Millisecond << min(attempt, 6)
	t := time.NewTimer(rand.N(limit)) //nolint:gosec // spreads, hides nothing
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
