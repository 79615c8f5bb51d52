package lease

import (
	"context"
	"sync"

	"github.com/ovlnet/ovl/internal/store"
)

// watches follow the changes of our prefixes. What they see is noted and wakes
// the loop; a watch that ends is one whose prefix must be read again.
type watches struct {
	k  *Keeper
	wg sync.WaitGroup

	mu  sync.Mutex
	run map[string]*watch // by prefix
}

type watch struct{ cancel context.CancelFunc }

func newWatches(k *Keeper) *watches { return &watches{k: k, run: map[string]*watch{}} }

// keep ends the watches of other prefixes and returns those of prefixes that
// are not watched.
func (w *watches) keep(prefixes []string) (missing []string) {
	wanted := make(map[string]bool, len(prefixes))
	for _, p := range prefixes {
		wanted[p] = true
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for p, one := range w.run {
		if !wanted[p] {
			one.cancel()
			delete(w.run, p)
			w.k.mu.Lock()
			w.k.known.forget(p)
			w.k.mu.Unlock()
		}
	}
	for _, p := range prefixes {
		if w.run[p] == nil {
			missing = append(missing, p)
		}
	}
	return missing
}

// start watches those of prefixes that are not watched, from revision rev.
func (w *watches) start(ctx context.Context, prefixes []string, rev int64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, p := range prefixes {
		if w.run[p] != nil {
			continue
		}
		ctx, cancel := context.WithCancel(ctx)
		one := &watch{cancel: cancel}
		w.run[p] = one
		w.wg.Go(func() {
			defer cancel()
			w.follow(ctx, p, one, rev)
		})
	}
}

func (w *watches) follow(ctx context.Context, prefix string, one *watch, rev int64) {
	for batch := range w.k.cfg.KV.Watch(ctx, prefix, rev) {
		if batch.Err == nil {
			w.see(ctx, prefix, batch.Events)
		}
	}
	w.mu.Lock()
	ended := w.run[prefix] == one
	if ended {
		delete(w.run, prefix)
	}
	w.mu.Unlock()
	if ended && ctx.Err() == nil {
		w.k.poke()
	}
}

func (w *watches) see(ctx context.Context, prefix string, events []store.Event) {
	news := false
	w.k.mu.Lock()
	for _, ev := range events {
		// After keep has ended this watch, its news would be of a forgotten prefix.
		news = ctx.Err() == nil && w.k.concernsLocked(ev.Record.Key) && w.k.known.event(prefix, ev) || news
	}
	w.k.mu.Unlock()
	if news {
		w.k.poke()
	}
}

// stop ends all watches and waits for them.
func (w *watches) stop() {
	w.mu.Lock()
	for p, one := range w.run {
		one.cancel()
		delete(w.run, p)
	}
	w.mu.Unlock()
	w.wg.Wait()
}
