package audit

import (
	"context"
	"sync"
	"time"

	ovlv1 "github.com/ovlnet/ovl/proto/ovl/v1"
)

// queued is an event on its way to the store.
type queued struct {
	event *ovlv1.Event
	ring  ring
}

// maxQueued bounds the events that wait while the store is away. Beyond, the
// oldest are left out: the log has them.
const maxQueued = 1000

// queue is what waits for the store.
type queue struct {
	wake chan struct{} // holds one when there is something to do

	mu      sync.Mutex
	waiting []queued
	pushed  int           // ever
	settled int           // of those, how many no longer wait
	change  chan struct{} // closed and replaced when settled grows
}

func newQueue() queue {
	return queue{wake: make(chan struct{}, 1), change: make(chan struct{})}
}

func (q *queue) push(e queued) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.waiting = append(q.waiting, e)
	q.pushed++
	if len(q.waiting) > maxQueued {
		q.pop(1)
	}
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// head returns a copy of the first n events that wait.
func (q *queue) head(n int) []queued {
	q.mu.Lock()
	defer q.mu.Unlock()
	return append([]queued(nil), q.waiting[:min(n, len(q.waiting))]...)
}

// done removes those of a head that still wait: some may have been left out.
func (q *queue) done(head []queued) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for len(head) > 0 && len(q.waiting) > 0 {
		if q.waiting[0].event == head[0].event {
			q.pop(1)
		}
		head = head[1:]
	}
}

// pop is called with the lock held.
func (q *queue) pop(n int) {
	q.waiting = q.waiting[n:]
	q.settled += n
	close(q.change)
	q.change = make(chan struct{})
}

// settle waits until what was pushed before no longer waits, for a while.
func (q *queue) settle(ctx context.Context, atMost time.Duration) {
	ctx, cancel := context.WithTimeout(ctx, atMost)
	defer cancel()
	q.mu.Lock()
	want := q.pushed
	q.mu.Unlock()
	for {
		q.mu.Lock()
		settled, change := q.settled >= want, q.change
		q.mu.Unlock()
		if settled {
			return
		}
		select {
		case <-change:
		case <-ctx.Done():
			return
		}
	}
}
