package lease

import (
	"context"
	"fmt"
	"maps"
	"net/netip"
	"slices"

	"github.com/ovlnet/ovl/internal/cluster"
	"github.com/ovlnet/ovl/internal/store"
)

// listing is a network and its leases, at one revision.
type listing struct {
	network cluster.Network // the zero one if there is none
	leases  []cluster.Lease
	taken   []netip.Prefix // of all keys, those with a damaged value too
	// exact are the leases by prefix; a damaged one has no host.
	exact map[netip.Prefix]cluster.Lease
	// void are the prefixes at which a record is that is no host's own: not taken,
	// but better left alone. In exact they have a revision alone.
	void []netip.Prefix
	read int64 // the revision of the store at which all this was so
	// engaged are addresses of others in the network, whose subnets are not to
	// be chosen.
	engaged []netip.Prefix
}

// engaged returns the addresses of a segment that machines have of which the
// cluster knows: the gateway and the hosts. No piece is chosen with one of them
// in it, since the route to the piece would be the host's way to that machine too.
func (k *Keeper) engaged(ctx context.Context, n cluster.Network, pool cluster.Pool) ([]netip.Prefix, error) {
	if n.Driver != cluster.DriverMacvlan {
		return nil, nil
	}
	page, err := k.read(ctx, store.HostsPrefix)
	if err != nil {
		return nil, fmt.Errorf("read which hosts are on the segment of network %s: %w", n.Name, err)
	}
	records, err := k.honest(ctx, page.Records)
	if err != nil {
		return nil, err
	}
	out := []netip.Prefix{netip.PrefixFrom(pool.Gateway, pool.Gateway.BitLen())}
	for _, rec := range records {
		h, err := store.DecodeHost(rec)
		if err != nil {
			continue // not worth an attachment
		}
		for _, a := range h.Underlay {
			if pool.Prefix.Contains(a) {
				out = append(out, netip.PrefixFrom(a, a.BitLen()))
			}
		}
	}
	return out, nil
}

// list reads a network and its leases.
func (k *Keeper) list(ctx context.Context, name string) (listing, error) {
	page, err := k.read(ctx, store.NetworkKey(name), store.SubnetsPrefix(name))
	if err != nil {
		return listing{}, fmt.Errorf("read subnets of network %s: %w", name, err)
	}
	return k.newListing(ctx, name, page)
}

func (k *Keeper) newListing(ctx context.Context, name string, page store.Page) (listing, error) {
	l := listing{exact: make(map[netip.Prefix]cluster.Lease, len(page.Records)), read: page.Revision}
	doubts, err := k.doubts(ctx, page.Records)
	if err != nil {
		return listing{}, err
	}
	for _, rec := range page.Records {
		if rec.Key == store.NetworkKey(name) {
			var err error
			if l.network, err = store.DecodeNetwork(rec); err != nil {
				return listing{}, err
			}
		}
		network, prefix, err := store.ParseSubnetKey(rec.Key)
		if err != nil || network != name {
			continue
		}
		lease, err := store.DecodeLease(rec)
		if doubts[rec.Key] != nil || err != nil && k.cfg.Seal != nil {
			l.void = append(l.void, prefix)
			l.exact[prefix] = cluster.Lease{Revision: rec.ModRev}
			continue
		}
		l.taken = append(l.taken, prefix)
		if err == nil {
			l.leases = append(l.leases, lease)
		} else {
			lease = cluster.Lease{Network: name, Prefix: prefix, Revision: rec.ModRev}
		}
		l.exact[prefix] = lease
	}
	return l, nil
}

// fits reports whether prefix is one that a host can have in the network: a
// subnet of the right length clear of the static range, or an address within.
func (l listing) fits(prefix netip.Prefix) bool {
	if l.network.IsStatic(prefix) {
		return true
	}
	pool, ok := l.network.Pool(prefix)
	static := l.network.StaticRange(pool)
	return ok && pool.HostPrefix == prefix.Bits() && pool.Leased().Prefix.Contains(prefix.Addr()) && !prefix.Contains(pool.Gateway) && !(static.IsValid() && static.Overlaps(prefix))
}

// holder returns the lease of another host that prefix overlaps; one without a
// host is damaged.
func (l listing) holder(prefix netip.Prefix, self cluster.HostID) (cluster.Lease, bool) {
	if l.network.IsStatic(prefix) { // there may be thousands: without going through all
		pool, _ := l.network.Pool(prefix)
		for _, p := range []netip.Prefix{prefix, netip.PrefixFrom(prefix.Addr(), pool.HostPrefix).Masked()} {
			if other, ok := l.exact[p]; ok && other.Host != self && other.Network != "" {
				return other, true
			}
		}
		return cluster.Lease{}, false
	}
	for _, p := range l.taken {
		if other := l.exact[p]; other.Host != self && p.Overlaps(prefix) {
			return other, true
		}
	}
	return cluster.Lease{}, false
}

// without returns the listing without what another host has at exactly that prefix,
// if so: that was judged by itself.
func (l listing) without(prefix netip.Prefix, so bool) listing {
	if so {
		l.taken = slices.DeleteFunc(slices.Clone(l.taken), func(p netip.Prefix) bool { return p == prefix })
		l.exact = maps.Clone(l.exact)
		delete(l.exact, prefix)
	}
	return l
}

// revision returns the revision of the record at a prefix; 0 if there is none.
func (l listing) revision(prefix netip.Prefix) int64 { return l.exact[prefix].Revision }

// against returns why the host cannot have the prefix in the network, or "".
func (l listing) against(prefix netip.Prefix, self cluster.HostID) string {
	if !l.fits(prefix) {
		return "the network's pool is cut otherwise now"
	}
	if other, taken := l.holder(prefix, self); taken && other.Host != "" {
		return fmt.Sprintf("host %s has %s now", other.Host, other.Prefix)
	}
	return ""
}
