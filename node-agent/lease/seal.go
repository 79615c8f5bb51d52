package lease

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/ovlnet/ovl/internal/cluster"
	"github.com/ovlnet/ovl/internal/identity"
	"github.com/ovlnet/ovl/internal/store"
)

// seal signs a record of ours, where hosts sign.
func (k *Keeper) seal(key string, lease store.LeaseID, value []byte) ([]byte, error) {
	if k.cfg.Seal == nil {
		return value, nil
	}
	return k.cfg.Seal(key, lease, value)
}

// sealed reports whether a record is signed by us: what we would write there is it.
func (k *Keeper) sealed(rec store.Record) bool {
	value, _ := identity.Unseal(rec.Value)
	want, err := k.seal(rec.Key, rec.Lease, value)
	return err == nil && bytes.Equal(want, rec.Value)
}

// doubts returns, by key, which records are not their hosts' own.
func (k *Keeper) doubts(ctx context.Context, records []store.Record) (map[string]error, error) {
	if k.cfg.Seal == nil {
		return nil, nil
	}
	return bounded(ctx, func(ctx context.Context) (map[string]error, error) { return k.cfg.Doubts(ctx, records) })
}

// honest returns those of the records that are their hosts' own.
func (k *Keeper) honest(ctx context.Context, records []store.Record) ([]store.Record, error) {
	doubts, err := k.doubts(ctx, records)
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(records, func(r store.Record) bool { return doubts[r.Key] != nil }), nil
}

// reconsider returns the verdict on a record at the key of a subnet of ours that
// says that another host has it. Somebody else may have put that there: junk, a
// record that its host has not signed, or one that it did sign once, before we
// wrote ours.
func (k *Keeper) reconsider(ctx context.Context, rec store.Record, r row) (verdict, error) {
	if k.cfg.Seal == nil {
		return foreign, nil
	}
	_, after, err := store.DecodeClaim(rec)
	if err != nil || after < r.revision {
		return stale, nil //nolint:nilerr // junk is a verdict, not a failure
	}
	doubts, err := k.doubts(ctx, []store.Record{rec})
	if err != nil {
		return foreign, fmt.Errorf("judge %s: %w", rec.Key, err)
	}
	switch {
	case doubts[rec.Key] != nil:
		return stale, nil //nolint:nilerr // see above
	case r.defended(k.ownLease(), k.cfg.Elapsed()):
		return stale, nil
	}
	return foreign, nil
}

// probation is how long a subnet is held before it is defended against another host
// that claims it with its signature: that one may be its honest holder, whose record
// somebody has deleted a moment before this host found the key free.
const probation = 5 * time.Second

// announce says that a subnet is given back, where hosts sign: who reads that knows
// that the record, which is deleted next, was not deleted by somebody else. It returns
// the record's revision then.
func (k *Keeper) announce(ctx context.Context, rec store.Record) (int64, error) {
	l, err := store.DecodeLease(rec)
	if k.cfg.Seal == nil || err != nil {
		return rec.ModRev, err
	}
	value, err := store.EncodeRelease(l, rec.ModRev)
	if err == nil {
		value, err = k.seal(rec.Key, rec.Lease, value)
	}
	if err != nil {
		return 0, err
	}
	return k.write(ctx, []store.Cond{store.Unchanged(rec.Key, rec.ModRev)}, []store.Write{store.Put(rec.Key, value, rec.Lease)})
}

// signAnew has all records written again if the key that signs has changed: this host
// has joined again. What the last key has signed counts for a while longer.
func (k *Keeper) signAnew() error {
	// The seal of nothing names the key, since each has its own.
	own, err := k.seal("", 0, nil)
	if err != nil || bytes.Equal(own, k.signer) {
		return err
	}
	changed := k.signer != nil
	k.signer = own
	if !changed {
		return nil
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.hostWas = nil
	for key, r := range k.rows {
		r.confirmed = false
		k.rows[key] = r
	}
	for key, w := range k.wanted {
		w.lease, w.stood = 0, false
		k.wanted[key] = w
	}
	return nil
}

// remembered is how long what others did to our records is told.
const remembered = 10 * time.Minute

// meddling is what others did to our records: they came back, and somebody should
// know.
type meddling struct {
	times int
	last  string        // key
	until time.Duration // by Config.Elapsed
}

// meddledWith notes that somebody else has altered or deleted a record of ours.
func (k *Keeper) meddledWith(key string) {
	if k.cfg.Seal == nil {
		return
	}
	k.log.Warn("somebody else altered or deleted a record of this host; written again", "key", key)
	k.mu.Lock()
	defer k.mu.Unlock()
	k.meddled.times++
	k.meddled.last, k.meddled.until = key, k.cfg.Elapsed()+remembered
}

// forgive forgets what others did a while ago.
func (k *Keeper) forgive() {
	k.mu.Lock()
	defer k.mu.Unlock()
	switch {
	case k.meddled.times == 0:
	case k.cfg.Elapsed() >= k.meddled.until:
		k.meddled = meddling{}
	default:
		k.loop.by(k.meddled.until)
	}
}

func (k *Keeper) meddlingProblemLocked() cluster.Problem {
	return cluster.Problem{
		Severity: cluster.SeverityWarning, Subject: "host " + k.self.Name,
		What: fmt.Sprintf("somebody else altered or deleted records of this host (%d, the last one %s); it has written them again", k.meddled.times, k.meddled.last),
		Hint: "who can write to etcd? ovlctl host rm a stolen host; this is told for ten minutes",
	}
}

// Rekeyed wakes the loop, whose next pass finds that this host signs with another key
// than before and writes everything again: see signAnew.
func (k *Keeper) Rekeyed() { k.poke() }
