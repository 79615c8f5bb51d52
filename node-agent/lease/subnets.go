package lease

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"

	"github.com/ovlnet/ovl/internal/cluster"
	"github.com/ovlnet/ovl/internal/store"
)

// verdict is what the store says about a subnet's key.
type verdict int

const (
	free    verdict = iota // no record
	ours                   // our record, under the lease that we renew
	stale                  // our record, to be written again
	foreign                // another host's
)

// judge returns the verdict on a record, and whose it is if it is foreign.
func (k *Keeper) judge(rec store.Record, exists bool, lease store.LeaseID) (verdict, cluster.HostID) {
	if !exists {
		return free, ""
	}
	l, err := store.DecodeLease(rec)
	switch {
	case err != nil && rec.Lease == lease && lease != 0:
		return stale, "" // ours, damaged by hand: nobody else writes under our lease
	case err != nil:
		return foreign, ""
	case l.Host != k.cfg.Self.ID:
		return foreign, l.Host
	case rec.Lease != lease || !k.sealed(rec) || store.IsRelease(rec):
		return stale, ""
	}
	return ours, ""
}

// repairSubnets brings every subnet of the disk and its record together.
func (k *Keeper) repairSubnets(ctx context.Context) error {
	k.mu.Lock()
	keys := slices.Sorted(maps.Keys(k.rows))
	k.mu.Unlock()
	networks := map[string]listing{} // each is read once for all of its subnets
	var errs []error
	for _, key := range keys {
		err := k.repairSubnet(ctx, key, networks)
		errs = append(errs, err)
		if errors.Is(err, store.ErrUnavailable) || errors.Is(err, errNoLease) {
			return errors.Join(errs...)
		}
	}
	return errors.Join(append(errs, k.settle())...)
}

func (k *Keeper) repairSubnet(ctx context.Context, key string, networks map[string]listing) error {
	k.mu.Lock()
	r := k.rows[key]
	rec, exists := k.known.records[key]
	rests := r.Phase == phaseHeld && r.confirmed && exists && rec.ModRev == r.revision && rec.Lease == k.owner.id
	v, whose := ours, cluster.HostID("")
	if !rests { // nearly all do, and there may be a thousand to decode
		v, whose = k.judge(rec, exists, k.owner.id)
	}
	k.mu.Unlock()
	if v == foreign {
		var err error
		if v, err = k.reconsider(ctx, rec, r); err != nil {
			return err
		}
	}
	switch {
	case rests:
		return nil
	case r.Phase == phaseReleasing:
		return k.giveBack(ctx, key, rec, v)
	case r.Phase == phaseIntent && (v == free || v == foreign):
		return k.drop(key) // it was not taken
	case r.Phase == phaseIntent:
		r.Phase = phaseHeld
		if err := k.disk.putSubnet(key, r.diskSubnet); err != nil {
			return err
		}
	}
	switch {
	case r.gone:
	case v == ours:
		r.confirm(rec.ModRev, k.ownLease(), k.cfg.Elapsed())
	case v == foreign:
		if r.lost == "" || r.blocked {
			r.lost = k.nameOf(ctx, whose) + " has it now"
		}
		r.confirmed, r.blocked = false, false
	default:
		return k.reclaim(ctx, key, r, rec, networks)
	}
	k.setRow(key, r)
	return nil
}

// reclaim writes the record of a subnet that is not in the store as it should
// be: if its network still is the one that it was taken in, and nobody has any
// of it meanwhile.
func (k *Keeper) reclaim(ctx context.Context, key string, r row, rec store.Record, networks map[string]listing) error {
	if r.blocked && !k.loop.relisted {
		return nil // nothing that is watched can change the verdict
	}
	meddled := r.confirmed
	r.confirmed = false
	k.setRow(key, r)
	l, ok := networks[r.Network]
	if !ok {
		var err error
		if l, err = k.list(ctx, r.Network); err != nil {
			return err
		}
		networks[r.Network] = l
	}
	if l.network.CreateRevision != r.Created {
		r.gone = true
		k.setRow(key, r)
		return nil
	}
	if why := l.without(r.Prefix, k.cfg.Seal != nil).against(r.Prefix, k.cfg.Self.ID); why != "" {
		r.lost, r.blocked = why, true
		k.setRow(key, r)
		return nil
	}
	rev, err := k.claim(ctx, l, key, rec.ModRev, r.Prefix)
	if err != nil {
		return fmt.Errorf("confirm subnet %s of network %s: %w", r.Prefix, r.Network, err)
	}
	if meddled {
		k.meddledWith(key)
	}
	r.confirm(rev, k.ownLease(), k.cfg.Elapsed())
	k.setRow(key, r)
	return nil
}

// claim puts our record at the key of a prefix, if the key still is as of
// revision rev (0 = absent) and the network as it was listed. The network's last
// revision is compared, not only its creation: when a pool is cut anew, no two
// hosts can take overlapping pieces of the old and of the new size.
func (k *Keeper) claim(ctx context.Context, l listing, key string, rev int64, prefix netip.Prefix) (int64, error) {
	lease := k.ownLease()
	if lease == 0 {
		return 0, errNoLease
	}
	value, err := store.EncodeClaim(cluster.Lease{Network: l.network.Name, Prefix: prefix, Host: k.cfg.Self.ID}, l.read)
	if err == nil {
		value, err = k.seal(key, lease, value)
	}
	if err != nil {
		return 0, err
	}
	conds := []store.Cond{store.Unchanged(store.NetworkKey(l.network.Name), l.network.Revision), store.Unchanged(key, rev)}
	rev, err = k.write(ctx, conds, []store.Write{store.Put(key, value, lease)})
	return rev, k.leased(err)
}

// giveBack deletes the record of a subnet that is no longer used, then forgets
// the subnet.
func (k *Keeper) giveBack(ctx context.Context, key string, rec store.Record, v verdict) error {
	if v == ours || v == stale {
		rev, err := rec.ModRev, error(nil)
		if v == ours {
			rev, err = k.announce(ctx, rec)
		}
		if err == nil {
			_, err = k.write(ctx, []store.Cond{store.Unchanged(key, rev)}, []store.Write{store.Delete(key)})
		}
		if err != nil {
			return fmt.Errorf("give back %s: %w", key, err)
		}
	}
	return k.drop(key)
}

// drop forgets a subnet.
func (k *Keeper) drop(key string) error {
	if err := k.disk.deleteSubnet(key); err != nil {
		return err
	}
	k.mu.Lock()
	delete(k.rows, key)
	k.mu.Unlock()
	return nil
}

// setRow replaces a subnet, unless it has been taken from us meanwhile by Forget.
func (k *Keeper) setRow(key string, r row) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if now, ok := k.rows[key]; ok && (now.Phase != phaseReleasing || r.Phase == phaseReleasing) {
		k.rows[key] = r
	}
}

// nameOf describes a host for people, by its ID where its name is not known.
func (k *Keeper) nameOf(ctx context.Context, id cluster.HostID) string {
	if id == "" {
		return "a damaged record"
	}
	page, err := k.read(ctx, store.HostKey(id))
	if err == nil && len(page.Records) > 0 {
		if h, err := store.DecodeHost(page.Records[0]); err == nil {
			return describe(h)
		}
	}
	return "host " + string(id)
}
