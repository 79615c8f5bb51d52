package lease

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/ovlnet/ovl/internal/cluster"
	"github.com/ovlnet/ovl/internal/store"
)

// HeldError is the cause when another host has what was asked for.
type HeldError struct {
	Prefix    netip.Prefix   // the lease in the way
	Host      cluster.HostID // empty: the record is damaged, and does not tell
	Name      string         // of the host, for people
	Up        bool           // its agent is up
	Container string         // that has the static address, if an endpoint tells
}

func (e *HeldError) Error() string {
	switch {
	case e.Host == "":
		return fmt.Sprintf("a damaged record keeps %s: see `ovlctl subnet ls`", e.Prefix)
	case !e.Prefix.IsSingleIP():
		return fmt.Sprintf("host %s holds the subnet %s: start the container there, or ask for another address or for none%s", e.Name, e.Prefix, e.whenDown())
	case e.Container != "":
		return fmt.Sprintf("host %s has %s, for container %s: remove that container first, with `ovlctl rm` there, or ask for another address%s", e.Name, e.Prefix.Addr(), e.Container, e.whenDown())
	}
	return fmt.Sprintf("host %s has %s: it is free when no container there needs it, or ask for another address%s", e.Name, e.Prefix.Addr(), e.whenDown())
}

func (e *HeldError) whenDown() string {
	if e.Up {
		return ""
	}
	return fmt.Sprintf("; that host is down or cut off, and keeps it until its ownership ends: if it is gone for good, `ovlctl host rm --force %s`", e.Name)
}

// TakeThis takes exactly that prefix of the network for this host: a subnet of
// the length that hosts take, or one address of a static range. It is on the disk
// and in the store, and Held shows it, when TakeThis returns; so it is if this
// host has it already. The errors are those of [Keeper.Take] but exhaustion, and
// [*HeldError].
func (k *Keeper) TakeThis(ctx context.Context, n cluster.Network, prefix netip.Prefix) (cluster.Lease, error) {
	l, err := k.takeExactly(ctx, n, prefix)
	k.notify()
	k.poke() // to watch it, or to find out what became of it
	if err != nil {
		return cluster.Lease{}, fmt.Errorf("take %s of network %s: %w", prefix, n.Name, err)
	}
	return l, nil
}

func (k *Keeper) takeExactly(ctx context.Context, n cluster.Network, prefix netip.Prefix) (cluster.Lease, error) {
	if err := k.begin(ctx); err != nil {
		return cluster.Lease{}, err
	}
	defer k.end()
	// Each conflict means that another host has got it, or that the network has
	// changed: so this ends.
	for {
		if err := k.ready(); err != nil {
			return cluster.Lease{}, err
		}
		l, err := k.listFor(ctx, n, prefix)
		if err != nil {
			return cluster.Lease{}, err
		}
		if l.network.CreateRevision == 0 || l.network.CreateRevision != n.CreateRevision {
			return cluster.Lease{}, fmt.Errorf("%w: it was deleted", ErrNetworkGone)
		}
		if !l.fits(prefix) {
			return cluster.Lease{}, fmt.Errorf("%w: it is not divided so that a host could have %s", ErrNetworkGone, prefix)
		}
		if other, taken := l.holder(prefix, k.cfg.Self.ID); taken {
			return cluster.Lease{}, k.heldBy(ctx, other)
		}
		if lease, ok, err := k.already(n.Name, prefix); ok || err != nil {
			return lease, err
		}
		lease, err := k.takeThis(ctx, l, prefix, l.revision(prefix))
		if !errors.Is(err, store.ErrConflict) {
			return lease, err
		}
	}
}

// already returns the lease of a prefix that this host holds.
func (k *Keeper) already(network string, prefix netip.Prefix) (l cluster.Lease, ok bool, err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	r, ok := k.rows[store.SubnetKey(network, prefix)]
	switch {
	case !ok || r.Phase != phaseHeld:
		return l, false, nil
	case !r.confirmed:
		return l, false, fmt.Errorf("%w: it is this host's, and being confirmed: try again", ErrFenced)
	}
	return cluster.Lease{Network: network, Prefix: prefix, Host: k.self.ID, Revision: r.revision}, true, nil
}

// listFor reads the network and those of its leases that can stand in the way of
// prefix. Of a static address these are two keys, however many leases there are:
// its own, and that of the subnet around it, which no host takes.
func (k *Keeper) listFor(ctx context.Context, n cluster.Network, prefix netip.Prefix) (listing, error) {
	pool, ok := n.Pool(prefix)
	if !ok || !n.IsStatic(prefix) {
		return k.list(ctx, n.Name)
	}
	around := netip.PrefixFrom(prefix.Addr(), pool.HostPrefix).Masked()
	page, err := k.read(ctx, store.NetworkKey(n.Name), store.SubnetKey(n.Name, prefix), store.SubnetKey(n.Name, around))
	if err != nil {
		return listing{}, fmt.Errorf("read who has %s of network %s: %w", prefix, n.Name, err)
	}
	return k.newListing(ctx, n.Name, page)
}

// heldBy describes the lease in the way for people. What cannot be found out
// about it is left out.
func (k *Keeper) heldBy(ctx context.Context, l cluster.Lease) error {
	e := &HeldError{Prefix: l.Prefix, Host: l.Host, Name: string(l.Host)}
	if l.Host == "" {
		return e
	}
	page, err := k.read(ctx, store.HostKey(l.Host), store.SessionKey(l.Host), store.HostEndpointsPrefix(l.Network, l.Host))
	if err != nil {
		e.Up = true // for all that is known
		return e
	}
	for _, rec := range page.Records {
		if rec.Key == store.SessionKey(l.Host) {
			e.Up = true
		} else if h, err := store.DecodeHost(rec); err == nil {
			e.Name = h.Name
		} else if ep, err := store.DecodeEndpoint(rec); err == nil && l.Prefix.IsSingleIP() && slices.Contains(ep.Addrs, l.Prefix.Addr()) {
			e.Container = ep.Name
		}
	}
	return e
}
