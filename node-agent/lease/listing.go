package lease

import (
	"context"
	"fmt"
	"net/netip"

	"github.com/ovlnet/ovl/internal/cluster"
	"github.com/ovlnet/ovl/internal/store"
)

// listing is a network and all of its leases, at one revision.
type listing struct {
	network cluster.Network // the zero one if there is none
	leases  []cluster.Lease
	taken   []netip.Prefix // of all keys, those with a damaged value too
}

// list reads a network and its leases.
func (k *Keeper) list(ctx context.Context, name string) (listing, error) {
	page, err := k.read(ctx, store.NetworkKey(name), store.SubnetsPrefix(name))
	if err != nil {
		return listing{}, fmt.Errorf("read subnets of network %s: %w", name, err)
	}
	var l listing
	for _, rec := range page.Records {
		if rec.Key == store.NetworkKey(name) {
			if l.network, err = store.DecodeNetwork(rec); err != nil {
				return listing{}, err
			}
		}
		if _, prefix, err := store.ParseSubnetKey(rec.Key); err == nil {
			l.taken = append(l.taken, prefix)
		}
		if lease, err := store.DecodeLease(rec); err == nil {
			l.leases = append(l.leases, lease)
		}
	}
	return l, nil
}

// against returns why the host cannot have the prefix in the network, or "".
func (l listing) against(prefix netip.Prefix, self cluster.HostID) string {
	pool, ok := l.network.Pool(prefix)
	if !ok || pool.HostPrefix != prefix.Bits() {
		return "the network's pool is cut otherwise now"
	}
	for _, other := range l.leases {
		if other.Host != self && other.Prefix.Overlaps(prefix) {
			return fmt.Sprintf("host %s has %s now", other.Host, other.Prefix)
		}
	}
	return ""
}
