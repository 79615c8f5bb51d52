package lease

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/ovlnet/ovl/internal/store"
)

const (
	// relist is how often all of ours is read again though nothing happened: a
	// watch has been known to lose events.
	relist = 5 * time.Minute
	// The first pause after a failure, and the longest.
	firstPause, longestPause = 20 * time.Millisecond, time.Second
)

// loopState is what the holder of the turn remembers between passes. Its
// durations are of Config.Elapsed.
type loopState struct {
	session   store.LeaseID
	sessionAt time.Duration // renew the session
	renewAt   time.Duration // renew the ownership
	relistAt  time.Duration // read all of ours again
	stale     bool          // read all of ours again now
	relisted  bool          // all of ours was read in this pass
	published time.Duration // when the session was last written
	appliedAt time.Duration // when it may be written for the revision alone
	started   time.Time     // of Run
	next      time.Duration // the pass after this one, if nothing happens
	// leaving says when a network without endpoints of ours may be forgotten.
	leaving map[string]time.Duration
}

// by makes the next pass begin at t or before.
func (l *loopState) by(t time.Duration) { l.next = min(l.next, t) }

// Run registers this host and keeps its records as they should be until ctx is
// done. Then everything stays in the store but the session, so that the host is
// seen to be down at once. It returns nil.
func (k *Keeper) Run(ctx context.Context) error {
	w := newWatches(k)
	defer w.stop()
	for fails := 0; ; {
		next, err := k.pass(ctx, w)
		if ctx.Err() != nil {
			k.leave(ctx)
			return nil
		}
		switch {
		case err == nil:
			fails = 0
		case fails == 0:
			k.log.Warn("store pass failed", "err", err)
			fails++
		default:
			fails++
		}
		k.setConnected(!errors.Is(err, store.ErrUnavailable))
		k.notify()
		k.noteSettled()
		k.rest(ctx, fails, next)
	}
}

// rest waits for a wake or the next due time; after a failure, which every wake
// would only meet again, for a pause that grows.
func (k *Keeper) rest(ctx context.Context, fails int, next time.Duration) {
	wake := k.wake
	pause := next - k.cfg.Elapsed()
	if fails > 0 {
		wake = nil
		pause = jittered(min(firstPause<<min(fails, 16), longestPause))
	}
	t := time.NewTimer(pause)
	defer t.Stop()
	select {
	case <-wake:
	case <-t.C:
	case <-ctx.Done():
	}
}

// pass brings the store to what this host wants, step by step. A step that
// fails for want of the store ends the pass; other failures do not starve the
// steps after them.
func (k *Keeper) pass(ctx context.Context, w *watches) (next time.Duration, err error) {
	if err := k.begin(ctx); err != nil {
		return 0, err
	}
	defer k.end()
	k.loop.next, k.loop.relisted = math.MaxInt64, false
	if k.loop.started.IsZero() {
		k.loop.started = time.Now()
	}
	for _, step := range []func(context.Context) error{
		k.holdSession,
		func(ctx context.Context) error { return k.sync(ctx, w) },
		k.identify,
	} {
		if err := step(ctx); err != nil {
			return 0, err
		}
	}
	steps := []func(context.Context) error{k.holdOwnership, k.repairSubnets, k.repairHost, k.repairEndpoints, k.publish}
	if !k.incumbent() {
		steps = []func(context.Context) error{k.publish}
	}
	k.forgive()
	if err := k.signAnew(); err != nil {
		return 0, err
	}
	var errs []error
	for _, step := range steps {
		err := step(ctx)
		errs = append(errs, err)
		if errors.Is(err, store.ErrUnavailable) || errors.Is(err, errNoLease) {
			break
		}
	}
	return k.loop.next, errors.Join(errs...)
}

// errNoLease: the ownership lease is not there, and nothing can be put under it.
var errNoLease = errors.New("no ownership lease")

// leased turns the news that a lease is gone, learned from a write under the
// ownership lease, into the state that it means.
func (k *Keeper) leased(err error) error {
	if !errors.Is(err, store.ErrLeaseGone) {
		return err
	}
	return fmt.Errorf("%w: %w", errNoLease, errors.Join(err, k.loseOwnership()))
}

// sync reads those of our prefixes that are not watched yet, and watches them
// from there; all of them when what is known is doubtful or old.
func (k *Keeper) sync(ctx context.Context, w *watches) error {
	now := k.cfg.Elapsed()
	all := k.prefixes()
	missing := w.keep(all)
	if k.loop.stale || now >= k.loop.relistAt {
		missing = all
	}
	if len(missing) > 0 {
		page, err := k.read(ctx, missing...)
		if err != nil {
			return fmt.Errorf("read own records: %w", err)
		}
		k.mu.Lock()
		page.Records = slices.DeleteFunc(page.Records, func(r store.Record) bool { return !k.concernsLocked(r.Key) })
		k.known.replace(missing, page)
		k.mu.Unlock()
		w.start(ctx, missing, page.Revision)
		if len(missing) == len(all) {
			k.loop.stale, k.loop.relisted = false, true
			k.loop.relistAt = now + jittered(relist)
		}
	}
	k.loop.by(k.loop.relistAt)
	return nil
}

// prefixes returns the keys and prefixes of the store that concern this host.
func (k *Keeper) prefixes() []string {
	k.mu.Lock()
	defer k.mu.Unlock()
	id := k.self.ID
	ps := []string{store.HostKey(id), store.SessionKey(id), store.HostClonesPrefix(id)}
	ps = append(ps, k.subnetPrefixesLocked()...)
	for network := range k.endpointNetworksLocked() {
		ps = append(ps, store.HostEndpointsPrefix(network, id))
	}
	if r := k.place.rival; r != nil {
		ps = append(ps, store.HostKey(r.host.ID), store.SessionKey(r.host.ID))
	}
	return ps
}

// mostKeys is how many subnets of one network are watched key by key. Whoever
// has more there, which only static addresses make, watches all of the network's:
// a watch for each of a thousand would weigh on the store more than the news of
// others do.
const mostKeys = 16

// subnetPrefixesLocked returns the keys and prefixes at which this host's
// subnets are.
func (k *Keeper) subnetPrefixesLocked() []string {
	count := map[string]int{}
	for _, r := range k.rows {
		count[r.Network]++
	}
	var ps []string
	for key, r := range k.rows {
		if count[r.Network] <= mostKeys {
			ps = append(ps, key)
		}
	}
	for network, n := range count {
		if n > mostKeys {
			ps = append(ps, store.SubnetsPrefix(network))
		}
	}
	return ps
}

// concernsLocked reports whether a record is one that this host keeps an eye on:
// of the subnets, its own.
func (k *Keeper) concernsLocked(key string) bool {
	if !strings.HasPrefix(key, store.SubnetsPrefix("")) {
		return true
	}
	_, ours := k.rows[key]
	return ours
}
