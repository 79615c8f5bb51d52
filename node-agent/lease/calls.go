package lease

import (
	"context"
	"errors"
	"time"

	"github.com/ovlnet/ovl/internal/store"
)

// callTimeout bounds each call of the store: a server behind a broken link must
// not hold up the next try for longer.
const callTimeout = 3 * time.Second

// The calls below are those of store.KV, bounded in time. Whoever makes them
// holds the turn. Their errors of time are ErrUnavailable, if ctx itself lives.

func (k *Keeper) read(ctx context.Context, prefixes ...string) (store.Page, error) {
	return bounded(ctx, func(ctx context.Context) (store.Page, error) { return k.cfg.KV.Range(ctx, prefixes...) })
}

func (k *Keeper) keepAlive(ctx context.Context, id store.LeaseID) (time.Duration, error) {
	return bounded(ctx, func(ctx context.Context) (time.Duration, error) { return k.cfg.KV.KeepAlive(ctx, id) })
}

func (k *Keeper) grant(ctx context.Context, ttl time.Duration) (store.LeaseID, error) {
	return bounded(ctx, func(ctx context.Context) (store.LeaseID, error) { return k.cfg.KV.Grant(ctx, ttl) })
}

// write makes a transaction and notes what it did. After any failure what is
// known of the store is doubtful, also when nobody can say whether it was done:
// it is read again before the next write.
func (k *Keeper) write(ctx context.Context, conds []store.Cond, writes []store.Write) (int64, error) {
	rev, err := bounded(ctx, func(ctx context.Context) (int64, error) { return k.cfg.KV.Txn(ctx, conds, writes) })
	if err != nil {
		k.loop.stale = true
		return 0, err
	}
	k.mu.Lock()
	k.known.wrote(writes, rev)
	k.mu.Unlock()
	return rev, nil
}

func bounded[T any](ctx context.Context, call func(context.Context) (T, error)) (T, error) {
	short, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	v, err := call(short)
	if err != nil && ctx.Err() == nil && short.Err() != nil && !errors.Is(err, store.ErrUnavailable) {
		err = errors.Join(store.ErrUnavailable, err)
	}
	return v, err
}

// begin takes the turn, unless ctx ends before.
func (k *Keeper) begin(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	select {
	case k.turn <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// end gives the turn back.
func (k *Keeper) end() { <-k.turn }
