package lease

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/ovlnet/ovl/internal/cluster"
	"github.com/ovlnet/ovl/internal/ipam"
	"github.com/ovlnet/ovl/internal/store"
)

// Take takes one more subnet of a pool of the network for this host. It is on
// the disk and in the store, and Held shows it, when Take returns. The errors
// are [ErrNetworkGone], [ErrFenced], [ErrIdentity], [ipam.ErrExhausted] and
// [store.ErrUnavailable]. After the last a subnet may have been taken all the
// same; Held shows it when that is known.
func (k *Keeper) Take(ctx context.Context, n cluster.Network, pool cluster.Pool) (cluster.Lease, error) {
	l, err := k.take(ctx, n, pool)
	k.notify()
	k.poke() // to watch it, or to find out what became of it
	if err != nil {
		return cluster.Lease{}, fmt.Errorf("take subnet of network %s: %w", n.Name, err)
	}
	return l, nil
}

func (k *Keeper) take(ctx context.Context, n cluster.Network, pool cluster.Pool) (cluster.Lease, error) {
	if err := k.begin(ctx); err != nil {
		return cluster.Lease{}, err
	}
	defer k.end()
	// Each conflict means that another host has got a subnet, or that the
	// network has changed: so this ends.
	for {
		if err := k.ready(); err != nil {
			return cluster.Lease{}, err
		}
		l, err := k.list(ctx, n.Name)
		if err != nil {
			return cluster.Lease{}, err
		}
		if l.network.CreateRevision == 0 || l.network.CreateRevision != n.CreateRevision {
			return cluster.Lease{}, fmt.Errorf("%w: it was deleted", ErrNetworkGone)
		}
		if !slices.Contains(l.network.Pools, pool) {
			return cluster.Lease{}, fmt.Errorf("%w: its pool %s is not there or cut otherwise now", ErrNetworkGone, pool.Prefix)
		}
		if l.engaged, err = k.engaged(ctx, l.network, pool); err != nil {
			return cluster.Lease{}, err
		}
		prefix, rev, err := k.choose(l, pool)
		if err != nil {
			return cluster.Lease{}, err
		}
		lease, err := k.takeThis(ctx, l, prefix, rev)
		if !errors.Is(err, store.ErrConflict) {
			return lease, err
		}
	}
}

// ready returns why no subnet can be taken now, or nil.
func (k *Keeper) ready() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if err := k.mayAttachLocked(); err != nil {
		return err
	}
	if !k.place.incumbent || !k.owner.renewed {
		return fmt.Errorf("%w: this host has not been able to register since its agent started: make etcd reachable", store.ErrUnavailable)
	}
	return nil
}

// choose returns a free subnet of the pool, or one that is in the store as ours
// but that we do not use: what a lost answer, or a return that did not get
// through, has left there. With it comes the revision of its record.
func (k *Keeper) choose(l listing, pool cluster.Pool) (netip.Prefix, int64, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, lease := range l.leases {
		r, known := k.rows[store.SubnetKey(lease.Network, lease.Prefix)]
		unused := !known || r.Phase != phaseHeld
		if lease.Host == k.self.ID && unused && pool.Prefix.Overlaps(lease.Prefix) && !lease.Prefix.IsSingleIP() && l.fits(lease.Prefix) {
			return lease.Prefix, lease.Revision, nil
		}
	}
	taken := slices.Concat(l.taken, l.engaged)
	for _, r := range k.rows {
		// One of ours that is not in the store now will be written again.
		if r.Phase == phaseHeld && r.Network == l.network.Name && !r.gone {
			taken = append(taken, r.Prefix)
		}
	}
	// What nobody holds but somebody has written something at is taken last.
	prefix, err := ipam.Subnet(pool.Leased(), k.self.ID, slices.Concat(taken, l.void), l.network.StaticRange(pool))
	if errors.Is(err, ipam.ErrExhausted) && len(l.void) > 0 {
		prefix, err = ipam.Subnet(pool.Leased(), k.self.ID, taken, l.network.StaticRange(pool))
	}
	return prefix, l.revision(prefix), err
}

// takeThis takes a prefix. The intent goes to the disk before the store is
// asked: whatever happens then, the next run knows what to look for.
func (k *Keeper) takeThis(ctx context.Context, l listing, prefix netip.Prefix, rev int64) (cluster.Lease, error) {
	key := store.SubnetKey(l.network.Name, prefix)
	r := row{diskSubnet: diskSubnet{Network: l.network.Name, Created: l.network.CreateRevision, Prefix: prefix, Phase: phaseIntent}}
	if err := k.keepRow(key, r); err != nil {
		return cluster.Lease{}, err
	}
	rev, err := k.claim(ctx, l, key, rev, prefix)
	switch {
	case errors.Is(err, store.ErrConflict):
		return cluster.Lease{}, errors.Join(err, k.drop(key))
	case errors.Is(err, errNoLease):
		return cluster.Lease{}, fmt.Errorf("%w: %w", ErrFenced, err)
	case err != nil:
		return cluster.Lease{}, err // the intent stays: Run finds out
	}
	r.Phase = phaseHeld
	r.confirm(rev, k.ownLease(), k.cfg.Elapsed())
	if err := k.keepRow(key, r); err != nil {
		return cluster.Lease{}, err
	}
	return cluster.Lease{Network: r.Network, Prefix: prefix, Host: k.cfg.Self.ID, Revision: rev}, nil
}

// keepRow puts a subnet on the disk, then into memory.
func (k *Keeper) keepRow(key string, r row) error {
	if err := k.disk.putSubnet(key, r.diskSubnet); err != nil {
		return err
	}
	k.mu.Lock()
	k.rows[key] = r
	k.mu.Unlock()
	return nil
}

// Release gives back a subnet that no attachment uses. From the call on it is no
// longer in Held, also when the store cannot be reached: then the error is
// [store.ErrUnavailable], and Run gives it back later. A static address of which
// nothing has reached the store stays held, for a container that starts here again.
func (k *Keeper) Release(ctx context.Context, l cluster.Lease) error {
	err := k.release(ctx, store.SubnetKey(l.Network, l.Prefix))
	k.notify()
	k.poke()
	if err != nil {
		return fmt.Errorf("release subnet %s of network %s: %w", l.Prefix, l.Network, err)
	}
	return nil
}

func (k *Keeper) release(ctx context.Context, key string) error {
	if err := k.begin(ctx); err != nil {
		return err
	}
	defer k.end()
	k.mu.Lock()
	r, ok := k.rows[key]
	incumbent := k.place.incumbent
	k.mu.Unlock()
	if !ok {
		return nil
	}
	if r.Prefix.IsSingleIP() && r.Phase == phaseHeld {
		if !incumbent {
			return fmt.Errorf("%w: this host is not registered", store.ErrUnavailable)
		}
		if _, _, err := k.get(ctx, key); err != nil {
			return err
		}
	}
	r.Phase, r.confirmed = phaseReleasing, false
	if err := k.keepRow(key, r); err != nil {
		return err
	}
	if !incumbent {
		return fmt.Errorf("%w: this host is not registered; it is given back later", store.ErrUnavailable)
	}
	for {
		rec, exists, err := k.get(ctx, key)
		if err != nil {
			return err
		}
		k.mu.Lock()
		v, _ := k.judge(rec, exists, k.owner.id)
		k.mu.Unlock()
		if err := k.giveBack(ctx, key, rec, v); !errors.Is(err, store.ErrConflict) {
			return err
		}
	}
}

func (k *Keeper) get(ctx context.Context, key string) (rec store.Record, exists bool, err error) {
	page, err := k.read(ctx, key)
	if err != nil || len(page.Records) == 0 || page.Records[0].Key != key {
		return store.Record{}, false, err
	}
	return page.Records[0], true, nil
}

// Forget drops the subnets of a network that is gone, created at that revision.
// Held no longer shows them; whatever of them is left in the store Run deletes.
func (k *Keeper) Forget(network string, createRevision int64) {
	k.mu.Lock()
	for key, r := range k.rows {
		if r.Network != network || r.Created != createRevision || r.Phase == phaseReleasing {
			continue
		}
		r.Phase, r.confirmed = phaseReleasing, false
		if err := k.disk.putSubnet(key, r.diskSubnet); err != nil {
			// The next run finds the network gone again.
			k.log.Warn("forget subnet failed on disk", "subnet", r.Prefix, "network", network, "err", err)
		}
		k.rows[key] = r
	}
	k.mu.Unlock()
	k.notify()
	k.poke()
}
