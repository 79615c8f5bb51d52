package store

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"github.com/ovlnet/ovl/internal/cluster"
)

// Listing is what one read of all records of a kind gave.
type Listing[T any] struct {
	Items    []T
	Revision int64             // of the store at the time of the read
	Problems []cluster.Problem // one for each record left out
}

// Get returns the record of exactly that key; ok is false if there is none.
func Get(ctx context.Context, kv KV, key string) (r Record, ok bool, err error) {
	page, err := kv.Range(ctx, key)
	if err != nil {
		return Record{}, false, err
	}
	// Longer keys may begin with this one; being longer, they sort behind it.
	if len(page.Records) == 0 || page.Records[0].Key != key {
		return Record{}, false, nil
	}
	return page.Records[0], true, nil
}

// ReadSnapshot reads all networks, hosts, drains and leases at one revision.
// The snapshot's own revision is that of the store.
func ReadSnapshot(ctx context.Context, kv KV) (*cluster.Snapshot, []cluster.Problem, error) {
	page, err := kv.Range(ctx, NetworksPrefix, HostsPrefix, DrainsPrefix, SubnetsPrefix(""))
	if err != nil {
		return nil, nil, fmt.Errorf("read cluster: %w", err)
	}
	s, problems := Snapshot(page.Records)
	s.Revision = page.Revision
	return s, problems, nil
}

// ReadNetworks reads all networks, by name.
func ReadNetworks(ctx context.Context, kv KV) (Listing[cluster.Network], error) {
	return read(ctx, kv, "networks", NetworksPrefix, DecodeNetwork)
}

// ReadHosts reads all hosts, by ID, draining or not.
func ReadHosts(ctx context.Context, kv KV) (Listing[cluster.Host], error) {
	page, err := kv.Range(ctx, HostsPrefix, DrainsPrefix)
	if err != nil {
		return Listing[cluster.Host]{}, fmt.Errorf("read hosts: %w", err)
	}
	s, problems := Snapshot(page.Records)
	return Listing[cluster.Host]{Items: s.Hosts, Revision: page.Revision, Problems: problems}, nil
}

// ReadSessions reads the sessions of all hosts, by host.
func ReadSessions(ctx context.Context, kv KV) (Listing[cluster.Session], error) {
	return read(ctx, kv, "sessions", SessionsPrefix, DecodeSession)
}

// ReadClones reads the sessions of all agents that found their host's session
// taken, by host.
func ReadClones(ctx context.Context, kv KV) (Listing[cluster.Session], error) {
	return read(ctx, kv, "clones", ClonesPrefix, DecodeClone)
}

// ReadLeases reads the leases of a network, or of all networks if it is empty,
// by network and prefix.
func ReadLeases(ctx context.Context, kv KV, network string) (Listing[cluster.Lease], error) {
	l, err := read(ctx, kv, "leases", SubnetsPrefix(network), DecodeLease)
	slices.SortFunc(l.Items, func(a, b cluster.Lease) int {
		return cmp.Or(cmp.Compare(a.Network, b.Network), cluster.ComparePrefix(a.Prefix, b.Prefix))
	})
	return l, err
}

// ReadEndpoints reads the endpoints of a network, or of all networks if it is
// empty, by network, host and ID.
func ReadEndpoints(ctx context.Context, kv KV, network string) (Listing[cluster.Endpoint], error) {
	return read(ctx, kv, "endpoints", EndpointsPrefix(network), DecodeEndpoint)
}

func read[T any](ctx context.Context, kv KV, what, prefix string, decode func(Record) (T, error)) (Listing[T], error) {
	page, err := kv.Range(ctx, prefix)
	if err != nil {
		return Listing[T]{}, fmt.Errorf("read %s: %w", what, err)
	}
	l := Listing[T]{Revision: page.Revision}
	for _, r := range page.Records {
		v, err := decode(r)
		if err != nil {
			l.Problems = append(l.Problems, badRecord(r.Key, err))
			continue
		}
		l.Items = append(l.Items, v)
	}
	return l, nil
}
