package api

import (
	"context"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/ovlnet/ovl/internal/store"
)

// maxBacklog is how many events may wait for one slow client. Beyond, its watch
// ends: it can resume, while memory and the store's watch belong to everybody.
const maxBacklog = 10_000

// backlog passes batches on, keeping those for which the reader is not ready,
// so that the sender never waits for it. It ends when in does, or with
// RESOURCE_EXHAUSTED when too much waits; then the rest is dropped.
func backlog(ctx context.Context, in <-chan store.Batch) <-chan store.Batch {
	out := make(chan store.Batch)
	go func() {
		defer close(out)
		var waiting []store.Batch
		events := 0
		for in != nil || len(waiting) > 0 {
			var next store.Batch
			var ready chan<- store.Batch
			if len(waiting) > 0 {
				next, ready = waiting[0], out
			}
			select {
			case b, ok := <-in:
				if !ok {
					in = nil
					continue
				}
				events += len(b.Events)
				waiting = append(waiting, b)
				if events > maxBacklog {
					waiting = []store.Batch{{Err: status.Errorf(codes.ResourceExhausted, "watch: this client reads too slowly, %d events wait for it: resume from the last revision that it saw", events)}}
					in = nil
				}
			case ready <- next:
				events -= len(next.Events)
				waiting = waiting[1:]
			case <-ctx.Done():
				return
			}
		}
	}()
	return out
}
