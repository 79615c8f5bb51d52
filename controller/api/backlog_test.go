package api

import (
	"context"
	"errors"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/ovlnet/ovl/internal/store"
)

func TestBacklogKeepsOrderAndErrors(t *testing.T) {
	in := make(chan store.Batch)
	out := backlog(t.Context(), in)
	for i := range 100 { // taken although nobody reads
		in <- store.Batch{Revision: int64(i), Events: make([]store.Event, 1)}
	}
	in <- store.Batch{Err: store.ErrCompacted}
	close(in)
	for i := range 100 {
		if b := <-out; b.Revision != int64(i) {
			t.Fatalf("batch of revision %d, want %d", b.Revision, i)
		}
	}
	if b := <-out; !errors.Is(b.Err, store.ErrCompacted) {
		t.Errorf("last batch %v, want the error", b)
	}
	if _, open := <-out; open {
		t.Error("not closed at the end")
	}
}

func TestBacklogIsBounded(t *testing.T) {
	in := make(chan store.Batch)
	out := backlog(t.Context(), in)
	for range 10 {
		in <- store.Batch{Events: make([]store.Event, maxBacklog/10)}
	}
	in <- store.Batch{Events: make([]store.Event, 1)}
	if b := <-out; status.Code(b.Err) != codes.ResourceExhausted {
		t.Errorf("after too much: %v, want RESOURCE_EXHAUSTED", b)
	}
	if _, open := <-out; open {
		t.Error("not closed at the end")
	}
}

func TestBacklogEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	out := backlog(ctx, make(chan store.Batch))
	cancel()
	if _, open := <-out; open {
		t.Error("not closed when its context ended")
	}
}
