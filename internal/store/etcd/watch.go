package etcd

import (
	"context"
	"fmt"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/ovlnet/ovl/internal/store"
)

// Watch implements [store.KV]. The client resumes a broken stream where it
// was; a member without a leader ends the watch, lest a host behind a partition
// believe in silence. Events come unfragmented, so that those of one revision
// come together.
func (s *Store) Watch(ctx context.Context, prefix string, from int64) <-chan store.Batch {
	batches := make(chan store.Batch)
	go func() {
		defer close(batches)
		// The client keeps what it holds of a watch until its context ends.
		watched, cancel := context.WithCancel(clientv3.WithRequireLeader(ctx))
		defer cancel()
		responses := s.client.Watch(watched, prefix,
			clientv3.WithPrefix(), clientv3.WithRev(from+1), clientv3.WithProgressNotify())
		for resp := range responses {
			b, ok := batch(ctx, prefix, resp)
			if !ok {
				continue
			}
			select {
			case batches <- b:
			case <-ctx.Done():
				return
			}
			if b.Err != nil {
				return
			}
		}
		if ctx.Err() == nil {
			deliver(ctx, batches, store.Batch{Err: fmt.Errorf("watch %s: client closed: %w", prefix, store.ErrUnavailable)})
		}
	}()
	return batches
}

func deliver(ctx context.Context, batches chan<- store.Batch, b store.Batch) {
	select {
	case batches <- b:
	case <-ctx.Done():
	}
}

// batch translates a response; ok is false for one that says nothing.
func batch(ctx context.Context, prefix string, resp clientv3.WatchResponse) (b store.Batch, ok bool) {
	if err := resp.Err(); err != nil {
		return store.Batch{Err: wrap(ctx, "watch "+prefix, err)}, true
	}
	if resp.IsProgressNotify() {
		return store.Batch{Revision: resp.Header.Revision}, true
	}
	for _, ev := range resp.Events {
		e := store.Event{Deleted: ev.Type == clientv3.EventTypeDelete}
		if e.Deleted {
			e.Record = store.Record{Key: string(ev.Kv.Key), ModRev: ev.Kv.ModRevision}
		} else {
			e.Record = record(ev.Kv)
		}
		b.Events = append(b.Events, e)
		// Not the header's revision: while a watch catches up, that is ahead of
		// the events.
		b.Revision = ev.Kv.ModRevision
	}
	return b, len(b.Events) > 0
}
