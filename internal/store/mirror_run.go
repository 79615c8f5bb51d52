package store

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"
)

const (
	// The pause after a failure doubles from first to last, ±50 %: at most three
	// seconds, so that a host is current soon after an outage of any length.
	firstPause = 100 * time.Millisecond
	lastPause  = 2 * time.Second
	// A watch that lived this long was a good one: its end begins a new series
	// of failures.
	goodWatch = 10 * time.Second
)

// Run follows the store until ctx is done, which is its only reason to return,
// then with ctx's error. One Run at a time.
func (m *Mirror) Run(ctx context.Context) error {
	m.mu.Lock()
	for _, s := range m.subs {
		s.listed = false
	}
	m.mu.Unlock()
	ctx, cancel := context.WithCancel(ctx)
	f := &follower{
		Mirror:   m,
		arrivals: make(chan arrival),
		watches:  map[*subscription]*watch{},
	}
	err := f.run(ctx)
	cancel()
	f.tasks.Wait()
	return err
}

// follower is one Run. Its fields belong to Run's goroutine, which alone
// applies what watches bring.
type follower struct {
	*Mirror
	tasks    sync.WaitGroup
	arrivals chan arrival
	watches  map[*subscription]*watch
	all      bool // list everything, not only what is not watched
	failures int  // in a row
	down     bool // the last attempt failed
	pause    <-chan time.Time
}

// watch is a running watch of one subscription.
type watch struct {
	sub    *subscription
	began  time.Time
	cancel context.CancelFunc
}

// arrival is what a watch brought; ended is its last.
type arrival struct {
	watch *watch
	batch Batch
	ended bool
}

func (f *follower) run(ctx context.Context) error {
	relist := time.NewTimer(f.nextRelist())
	defer relist.Stop()
	for {
		if f.pause == nil {
			f.list(ctx)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-f.wake:
		case <-f.pause:
			f.pause = nil
		case <-relist.C:
			f.all = true
			relist.Reset(f.nextRelist())
		case a := <-f.arrivals:
			f.tell(f.takeAll(a))
		}
	}
}

func (f *follower) nextRelist() time.Duration {
	return jittered(f.cfg.Relist, 0.1)
}

// list reads what is not watched, or everything; then watches it. Endpoints come
// last: there may be very many to verify, and no packet waits for them.
func (f *follower) list(ctx context.Context) {
	subs := f.unlisted()
	endpoints := slices.DeleteFunc(slices.Clone(subs), func(s *subscription) bool { return !strings.HasPrefix(s.prefix, endpointsRoot) })
	facts := slices.DeleteFunc(subs, func(s *subscription) bool { return strings.HasPrefix(s.prefix, endpointsRoot) })
	if f.listSome(ctx, facts) && f.listSome(ctx, endpoints) {
		f.all = false
	}
}

// listSome reads those in one go, and reports whether it did.
func (f *follower) listSome(ctx context.Context, subs []*subscription) bool {
	if len(subs) == 0 {
		return true
	}
	select {
	case f.listing <- struct{}{}:
		defer func() { <-f.listing }()
	case <-ctx.Done():
		return false
	}
	page, err := f.cfg.KV.Range(ctx, prefixesOf(subs)...)
	if err != nil {
		if ctx.Err() == nil {
			f.fail(fmt.Errorf("list records: %w", err))
		}
		return false
	}
	if f.down {
		f.down = false
		f.cfg.Log.Info("the store answers again", "revision", page.Revision)
	}
	for _, s := range subs {
		f.restart(ctx, s, page.Revision)
	}
	changed, err := f.applyList(ctx, subs, page, true)
	if changed {
		f.cfg.Changed()
	}
	return err == nil
}

// unlisted stops the watches of what is forgotten and returns the subscriptions
// to list.
func (f *follower) unlisted() []*subscription {
	subs := f.current()
	wanted := make(map[*subscription]bool, len(subs))
	var todo []*subscription
	for _, s := range subs {
		wanted[s] = true
		if f.all || f.watches[s] == nil {
			todo = append(todo, s)
		}
	}
	for s, w := range f.watches {
		if !wanted[s] {
			w.cancel()
			delete(f.watches, s)
		}
	}
	return todo
}

// restart begins the watch of s after revision, if none is running that will
// come by there.
func (f *follower) restart(ctx context.Context, s *subscription, revision int64) {
	if w := f.watches[s]; w != nil {
		if revision >= f.revisionOf(s) {
			return
		}
		f.cfg.Log.Warn("the store went back to an older revision", "prefix", s.prefix, "revision", revision)
		w.cancel()
	}
	ctx, cancel := context.WithCancel(ctx)
	w := &watch{sub: s, began: time.Now(), cancel: cancel}
	f.watches[s] = w
	f.tasks.Go(func() { f.follow(ctx, w, revision) })
}

func (f *follower) revisionOf(s *subscription) int64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return s.revision
}

// follow passes on what one watch brings until it ends.
func (f *follower) follow(ctx context.Context, w *watch, revision int64) {
	defer w.cancel()
	for b := range f.cfg.KV.Watch(ctx, w.sub.prefix, revision) {
		if !f.pass(ctx, arrival{watch: w, batch: b, ended: b.Err != nil}) || b.Err != nil {
			return
		}
	}
	f.pass(ctx, arrival{watch: w, ended: true, batch: Batch{Err: errors.New("watch ended")}})
}

func (f *follower) pass(ctx context.Context, a arrival) bool {
	select {
	case f.arrivals <- a:
		return true
	case <-ctx.Done():
		return false
	}
}

// takeAll applies an arrival and those that wait behind it.
func (f *follower) takeAll(a arrival) (what news) {
	for {
		what |= f.take(a)
		select {
		case a = <-f.arrivals:
		default:
			return what
		}
	}
}

func (f *follower) take(a arrival) news {
	if f.watches[a.watch.sub] != a.watch {
		return 0 // of a watch that was stopped meanwhile
	}
	if !a.ended {
		f.failures = 0
		return f.applyBatch(a.watch.sub, a.batch)
	}
	delete(f.watches, a.watch.sub)
	if time.Since(a.watch.began) >= goodWatch {
		f.failures = 0
	}
	if errors.Is(a.batch.Err, ErrCompacted) && f.failures == 0 {
		f.failures++ // twice in a row is not listing too slowly but something wrong
		return 0
	}
	f.fail(fmt.Errorf("watch %s: %w", a.watch.sub.prefix, a.batch.Err))
	return 0
}

// fail notes a failure and begins the pause before the next attempt.
func (f *follower) fail(err error) {
	pause := min(firstPause<<min(f.failures, 10), lastPause)
	f.failures++
	f.pause = time.After(jittered(pause, 0.5))
	f.mu.Lock()
	changed := f.heard(err)
	f.mu.Unlock()
	if !f.down {
		f.down = true
		f.cfg.Log.Warn("the store does not answer", "err", err)
	}
	if changed {
		f.cfg.Changed()
	}
}

// jittered returns d, more or less by up to that part of it, so that a thousand
// hosts do not ask at once.
func jittered(d time.Duration, part float64) time.Duration {
	return time.Duration(float64(d) * (1 - part + 2*part*rand.Float64())) //nolint:gosec // nobody gains by guessing it
}
