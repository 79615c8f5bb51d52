package lease

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/ovlnet/ovl/internal/store"
)

// renewEvery bounds the pause between two renewals of the ownership lease: it
// is what a crash costs of the ownership time.
const renewEvery = time.Minute

// ownership is the lease on which this host's subnets live.
type ownership struct {
	id store.LeaseID // 0 = none
	// until is the end of what the last renewal gave, by Config.Elapsed: counted
	// from the moment when it was sent, since the answer may have been slow.
	until   time.Duration
	renewed bool // in this run
	// reclaiming: the lease was lost, and not every subnet has been confirmed
	// under its successor yet.
	reclaiming bool
}

// recall returns the ownership that an earlier run left on the disk. Within one
// boot its end is known by the clock that cannot be set; after a reboot the wall
// clock counts, and one that went back proves nothing: then it has run out.
func recall(cfg Config, d diskOwnership) ownership {
	o := ownership{id: d.Lease, reclaiming: d.Reclaiming}
	now := time.Now()
	switch {
	case d.Lease == 0:
	case d.BootID == cfg.BootID:
		o.until = d.Until
	case !now.Before(d.Saved) && now.Before(d.Deadline):
		o.until = cfg.Elapsed() + d.Deadline.Sub(now)
	default:
		o.until = cfg.Elapsed()
	}
	return o
}

// fencedLocked reports whether another host may have our subnets by now.
func (k *Keeper) fencedLocked() bool {
	return k.owner.reclaiming || k.owner.id != 0 && k.cfg.Elapsed() >= k.owner.until
}

// holdOwnership renews the ownership lease when that is due, and makes another
// one when it is gone.
func (k *Keeper) holdOwnership(ctx context.Context) error {
	k.mu.Lock()
	o := k.owner
	k.mu.Unlock()
	if o.id != 0 && o.renewed && k.cfg.Elapsed() < k.loop.renewAt {
		k.loop.by(k.loop.renewAt)
		return nil
	}
	sent := k.cfg.Elapsed()
	if o.id != 0 {
		ttl, err := k.keepAlive(ctx, o.id)
		if err == nil {
			return k.renewed(o.id, sent, ttl)
		}
		if !errors.Is(err, store.ErrLeaseGone) {
			return fmt.Errorf("renew ownership: %w", err)
		}
		if err := k.loseOwnership(); err != nil {
			return err
		}
		sent = k.cfg.Elapsed()
	}
	id, err := k.grant(ctx, k.cfg.OwnershipTTL)
	if err != nil {
		return fmt.Errorf("make ownership lease: %w", err)
	}
	if err := k.renewed(id, sent, k.cfg.OwnershipTTL); err != nil {
		return errors.Join(err, k.cfg.KV.Revoke(ctx, id))
	}
	return nil
}

// renewed notes on disk and in memory that the lease lives for ttl from sent.
func (k *Keeper) renewed(id store.LeaseID, sent, ttl time.Duration) error {
	k.mu.Lock()
	if k.owner.id != id && !k.owner.reclaiming {
		k.owner.reclaiming = k.subnetsLocked() > 0
	}
	o := ownership{id: id, until: sent + usable(ttl), renewed: true, reclaiming: k.owner.reclaiming}
	k.mu.Unlock()
	// The disk first: a lease that a crash makes us forget holds nothing.
	if err := k.saveOwnership(o); err != nil {
		return err
	}
	k.mu.Lock()
	k.owner = o
	k.mu.Unlock()
	k.loop.renewAt = sent + jittered(min(ttl/3, renewEvery))
	k.loop.by(k.loop.renewAt)
	return nil
}

// loseOwnership notes that the lease is gone: nothing is ours until the store
// has confirmed it under another one. The disk learns it before a new lease is
// asked for, so that a crash in between cannot make the old subnets look safe.
func (k *Keeper) loseOwnership() error {
	k.mu.Lock()
	k.owner = ownership{reclaiming: k.subnetsLocked() > 0}
	o := k.owner
	for key, r := range k.rows {
		r.confirmed = false
		k.rows[key] = r
	}
	k.mu.Unlock()
	return k.saveOwnership(o)
}

// ownLease returns the ownership lease that is renewed now; 0 if there is none.
func (k *Keeper) ownLease() store.LeaseID {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.owner.id
}

func (k *Keeper) subnetsLocked() int {
	n := 0
	for _, r := range k.rows {
		if r.Phase == phaseHeld && !r.gone {
			n++
		}
	}
	return n
}

// settle ends the reclaiming when every subnet's fate is known.
func (k *Keeper) settle() error {
	k.mu.Lock()
	o := k.owner
	for _, r := range k.rows {
		if r.Phase == phaseHeld && !r.settled() {
			k.mu.Unlock()
			return nil
		}
	}
	k.mu.Unlock()
	if !o.reclaiming {
		return nil
	}
	o.reclaiming = false
	if err := k.saveOwnership(o); err != nil {
		return err
	}
	k.mu.Lock()
	k.owner.reclaiming = false
	k.mu.Unlock()
	return nil
}

func (k *Keeper) saveOwnership(o ownership) error {
	now := time.Now()
	return k.disk.putOwnership(diskOwnership{
		Lease: o.id, BootID: k.cfg.BootID, Until: o.until, Reclaiming: o.reclaiming,
		Saved: now.Round(0), Deadline: now.Round(0).Add(o.until - k.cfg.Elapsed()),
	})
}
