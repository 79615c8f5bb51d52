package lease

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"time"

	"github.com/ovlnet/ovl/internal/cluster"
	"github.com/ovlnet/ovl/internal/store"
)

// maxBatch is how many endpoints are written in one transaction: etcd takes
// 128 comparisons or writes (--max-txn-ops), and one compares the network.
const maxBatch = 100

// wish is an endpoint with its record in the store, or why it has none.
type wish struct {
	cluster.Endpoint
	value  []byte
	err    error
	sealed []byte        // the value, signed for that lease
	lease  store.LeaseID // 0 = not signed yet
	stood  bool          // sealed was in the store
}

// wishesLocked returns the wishes for endpoints, by key. What was wanted before is
// not encoded again: of a thousand endpoints one changes.
func (k *Keeper) wishesLocked(endpoints []cluster.Endpoint) map[string]wish {
	wanted := make(map[string]wish, len(endpoints))
	for _, e := range endpoints {
		e.Host = k.cfg.Self.ID
		key := store.EndpointKey(e.Network, e.Host, e.ID)
		w, known := k.wanted[key]
		if !known || !sameEndpoint(w.Endpoint, e) {
			w = wish{Endpoint: e}
			w.value, w.err = store.EncodeEndpoint(e)
		}
		wanted[key] = w
	}
	return wanted
}

func sameEndpoint(a, b cluster.Endpoint) bool {
	return a.Network == b.Network && a.Host == b.Host && a.ID == b.ID && a.Name == b.Name && a.MAC == b.MAC &&
		slices.Equal(a.Addrs, b.Addrs) && slices.Equal(a.Aliases, b.Aliases) && maps.Equal(a.Labels, b.Labels)
}

// change is a write of one endpoint and the revision that it replaces.
type change struct {
	key   string
	value []byte // nil = delete
	rev   int64
	again bool // it was there before
}

// endpointNetworksLocked returns the networks on which endpoints of ours are, or
// are wanted.
func (k *Keeper) endpointNetworksLocked() map[string]bool {
	out := maps.Clone(k.networks)
	for _, e := range k.wanted {
		out[e.Network] = true
	}
	return out
}

// repairEndpoints brings the endpoints in the store to what is wanted.
func (k *Keeper) repairEndpoints(ctx context.Context) error {
	k.mu.Lock()
	known := k.wanted != nil
	networks := slices.Sorted(maps.Keys(k.endpointNetworksLocked()))
	maps.DeleteFunc(k.orphans, func(key string, _ int64) bool { _, ok := k.wanted[key]; return !ok })
	k.mu.Unlock()
	if !known {
		return nil
	}
	var errs []error
	for _, n := range networks {
		err := k.repairNetworkEndpoints(ctx, n)
		errs = append(errs, err)
		if errors.Is(err, store.ErrUnavailable) || errors.Is(err, errNoLease) {
			break
		}
	}
	return errors.Join(errs...)
}

func (k *Keeper) repairNetworkEndpoints(ctx context.Context, network string) error {
	puts, deletes, err := k.endpointChanges(network)
	errs := []error{err}
	for batch := range slices.Chunk(deletes, maxBatch) {
		errs = append(errs, k.writeEndpoints(ctx, network, 0, batch))
	}
	// By the creation of the network that each endpoint's subnet was taken in.
	for _, created := range slices.Sorted(maps.Keys(puts)) {
		errs = append(errs, k.putEndpoints(ctx, network, created, puts[created]))
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	return k.leaveNetwork(network)
}

// endpointChanges compares what is wanted on a network with what is known to be
// in the store. The puts come by the network's CreateRevision, 0 = whatever the
// network is now.
func (k *Keeper) endpointChanges(network string) (puts map[int64][]change, deletes []change, err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	puts = map[int64][]change{}
	var errs []error
	created := k.creationsLocked(network)
	for key, w := range k.wanted {
		if w.Network != network {
			continue
		}
		rec, exists := k.known.records[key]
		w = k.signedLocked(key, w)
		if exists && rec.Lease == k.owner.id && bytes.Equal(rec.Value, w.sealed) {
			w.stood = true
			k.wanted[key] = w
			continue
		}
		created := created.of(w.Endpoint)
		if at, ok := k.orphans[key]; ok && at == created {
			continue
		}
		if w.err != nil {
			errs = append(errs, w.err)
			continue
		}
		puts[created] = append(puts[created], change{key, w.sealed, rec.ModRev, w.stood})
	}
	prefix := []string{store.HostEndpointsPrefix(network, k.self.ID)}
	for key := range k.known.records {
		if _, ok := k.wanted[key]; !ok && covered(key, prefix) {
			deletes = append(deletes, change{key, nil, k.known.revision(key), false})
		}
	}
	for _, changes := range puts {
		slices.SortFunc(changes, byKey)
	}
	slices.SortFunc(deletes, byKey)
	return puts, deletes, errors.Join(errs...)
}

// signedLocked returns the wish with its record as it is to be under the lease that
// we have now.
func (k *Keeper) signedLocked(key string, w wish) wish {
	if w.err == nil && (w.lease != k.owner.id || w.lease == 0) {
		w.lease, w.stood = k.owner.id, false
		w.sealed, w.err = k.seal(key, w.lease, w.value)
		k.wanted[key] = w
	}
	return w
}

func byKey(a, b change) int { return cmp.Compare(a.key, b.key) }

// creations tells by its addresses of which network an endpoint is, if there
// were several of one name: by this host's subnets and static addresses of it.
type creations struct {
	subnets []row
	static  map[netip.Addr]int64 // CreateRevisions; there may be a thousand
}

func (k *Keeper) creationsLocked(network string) creations {
	c := creations{static: map[netip.Addr]int64{}}
	for _, r := range k.rows {
		switch {
		case r.Network != network:
		case r.Prefix.IsSingleIP():
			c.static[r.Prefix.Addr()] = r.Created
		default:
			c.subnets = append(c.subnets, r)
		}
	}
	return c
}

// of returns the CreateRevision of the network that the endpoint's addresses
// belong to; 0 if none of our subnets holds them.
func (c creations) of(e cluster.Endpoint) int64 {
	for _, a := range e.Addrs {
		if created, ok := c.static[a]; ok {
			return created
		}
	}
	for _, r := range c.subnets {
		if slices.ContainsFunc(e.Addrs, r.Prefix.Contains) {
			return r.Created
		}
	}
	return 0
}

// putEndpoints writes endpoints of the network created at that revision.
func (k *Keeper) putEndpoints(ctx context.Context, network string, created int64, changes []change) error {
	if err := k.joinNetwork(network); err != nil {
		return err
	}
	exact := created
	if exact == 0 {
		rec, exists, err := k.get(ctx, store.NetworkKey(network))
		if err != nil {
			return err
		}
		if !exists {
			k.orphan(created, changes)
			return nil
		}
		exact = rec.CreateRev
	}
	for batch := range slices.Chunk(changes, maxBatch) {
		err := k.writeEndpoints(ctx, network, exact, batch)
		if errors.Is(err, store.ErrConflict) {
			return k.explain(ctx, network, created, exact, changes, err)
		}
		if err != nil {
			return err
		}
		for _, c := range batch {
			if c.again {
				k.meddledWith(c.key)
			}
		}
	}
	return nil
}

// explain finds out whether a write failed because its network is gone: then
// its endpoints must not come back with a later network of the same name.
// Otherwise a record has changed, and the next pass compares again.
func (k *Keeper) explain(ctx context.Context, network string, created, exact int64, changes []change, cause error) error {
	rec, exists, err := k.get(ctx, store.NetworkKey(network))
	if err != nil {
		return err
	}
	if exists && rec.CreateRev == exact {
		return cause
	}
	k.orphan(created, changes)
	return nil
}

// orphan notes that the network of these endpoints is gone.
func (k *Keeper) orphan(created int64, changes []change) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, c := range changes {
		k.orphans[c.key] = created
	}
}

// writeEndpoints makes the changes in one transaction, if the network still is
// the one created at that revision (0 = does not matter).
func (k *Keeper) writeEndpoints(ctx context.Context, network string, created int64, changes []change) error {
	lease := k.ownLease()
	var conds []store.Cond
	var writes []store.Write
	if created != 0 {
		conds = append(conds, store.CreatedAt(store.NetworkKey(network), created))
	}
	for _, c := range changes {
		conds = append(conds, store.Unchanged(c.key, c.rev))
		if c.value == nil {
			writes = append(writes, store.Delete(c.key))
		} else {
			writes = append(writes, store.Put(c.key, c.value, lease))
		}
	}
	if _, err := k.write(ctx, conds, writes); err != nil {
		return fmt.Errorf("publish endpoints of network %s: %w", network, k.leased(err))
	}
	return nil
}

// joinNetwork notes on the disk that endpoints of ours are on a network, so that
// a later run looks for them there.
func (k *Keeper) joinNetwork(network string) error {
	k.mu.Lock()
	known := k.networks[network]
	k.mu.Unlock()
	if known {
		return nil
	}
	if err := k.disk.putNetwork(network); err != nil {
		return err
	}
	k.mu.Lock()
	k.networks[network] = true
	k.mu.Unlock()
	return nil
}

// linger is how long a network is looked at after the last endpoint has gone from it. A
// write that was under way when its process was killed, or that ran out of time, may
// still be done after all has been read: etcd itself gives up after seven seconds
// (ReqTimeout in etcd's server/config/config.go).
const linger = time.Minute

// leaveNetwork forgets a network on which none is wanted and none has been left for a
// while.
func (k *Keeper) leaveNetwork(network string) error {
	k.mu.Lock()
	known := k.networks[network]
	for _, e := range k.wanted {
		known = known && e.Network != network
	}
	k.mu.Unlock()
	if !known {
		delete(k.loop.leaving, network)
		return nil
	}
	now := k.cfg.Elapsed()
	if at, ok := k.loop.leaving[network]; !ok {
		k.loop.leaving[network] = now + linger
		k.loop.by(now + linger)
		return nil
	} else if now < at {
		k.loop.by(at)
		return nil
	}
	if err := k.disk.deleteNetwork(network); err != nil {
		return err
	}
	delete(k.loop.leaving, network)
	k.mu.Lock()
	delete(k.networks, network)
	k.mu.Unlock()
	return nil
}
