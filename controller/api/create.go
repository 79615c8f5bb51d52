package api

import (
	"context"
	"strings"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/ovlnet/ovl/controller/admit"
	"github.com/ovlnet/ovl/controller/audit"
	"github.com/ovlnet/ovl/internal/cluster"
	"github.com/ovlnet/ovl/internal/store"
	"github.com/ovlnet/ovl/internal/wire"
	ovlv1 "github.com/ovlnet/ovl/proto/ovl/v1"
)

// CreateNetwork implements NetworkService.
func (s *networks) CreateNetwork(ctx context.Context, req *ovlv1.CreateNetworkRequest) (*ovlv1.Network, error) {
	want, vs := admit.Create(req)
	hostPrefix := 0
	if len(req.GetSubnets()) == 0 && want.Driver != cluster.DriverMacvlan {
		var bad []admit.Violation
		hostPrefix, bad = admit.HostPrefix(s.defaults, req.GetHostPrefixes())
		vs = append(vs, bad...)
	}
	doing := "create network " + want.Name
	host, bringing, err := s.bringer(ctx, doing)
	if err != nil {
		return nil, err
	}
	if bringing {
		want, vs = admit.Brought(want, host), append(vs, admit.Bringing(req)...)
	}
	if err := invalid("create network", vs); err != nil {
		return nil, err
	}
	select {
	case s.creating <- struct{}{}:
		defer func() { <-s.creating }()
	case <-ctx.Done():
		return nil, interrupted(ctx, doing)
	}
	n, err := retry(ctx, doing, func() (cluster.Network, error) {
		return s.tryCreate(ctx, doing, want, hostPrefix, req.GetHostPrefixes())
	})
	if err != nil {
		return nil, err
	}
	return wire.Network(n), nil
}

// tryCreate admits the network against the facts of one read and writes it, if
// no network was created since. The error wraps store.ErrConflict if one was.
func (s *networks) tryCreate(ctx context.Context, doing string, want cluster.Network, hostPrefix int, asked []uint32) (cluster.Network, error) {
	f, err := s.read(ctx, store.NetworksPrefix, store.VNIsPrefix, store.HostsPrefix, allocationKey)
	if err != nil {
		return cluster.Network{}, err
	}
	if have, ok := f.network(want.Name); ok {
		audit.Changed(ctx, wire.Network(have), wire.Network(have))
		return have, identical(doing, admit.Differences(have, want, asked))
	}
	if err := f.complete(doing); err != nil {
		return cluster.Network{}, err
	}
	if err := f.roomFor(doing, want); err != nil {
		return cluster.Network{}, err
	}
	n, vs := admit.Choose(want, hostPrefix, s.defaults, f.admission())
	if vs = append(vs, admit.Collisions(n, f.admission())...); len(vs) > 0 {
		return cluster.Network{}, collides(doing, vs)
	}
	n.Created = time.Now().UTC()
	return s.write(ctx, n, f.allocated)
}

func (s *networks) write(ctx context.Context, n cluster.Network, allocated int64) (cluster.Network, error) {
	network, err := store.EncodeNetwork(n)
	if err != nil {
		return cluster.Network{}, err
	}
	vni, err := store.EncodeVNI(n.Name)
	if err != nil {
		return cluster.Network{}, err
	}
	rev, err := s.commit(ctx,
		[]store.Cond{
			store.Absent(store.NetworkKey(n.Name)),
			store.Absent(store.VNIKey(n.VNI)),
			store.Unchanged(allocationKey, allocated),
		},
		[]store.Write{
			store.Put(store.NetworkKey(n.Name), network, 0),
			store.Put(store.VNIKey(n.VNI), vni, 0),
			store.Put(allocationKey, []byte(n.Name), 0),
		})
	n.CreateRevision, n.Revision = rev, rev
	if err == nil {
		audit.Changed(ctx, nil, wire.Network(n))
	}
	return n, err
}

// identical returns ALREADY_EXISTS if there are differences: creating what
// exists just so succeeds.
func identical(doing string, differences []string) error {
	if len(differences) == 0 {
		return nil
	}
	return status.Errorf(codes.AlreadyExists, "%s: it exists already and its %s: choose another name, or delete it first", doing, strings.Join(differences, "; its "))
}

// complete refuses to choose among networks that cannot all be read: the one
// that cannot may hold the very subnet or VNI.
func (f *facts) complete(doing string) error {
	for _, b := range f.bad {
		if strings.HasPrefix(b.key, store.NetworksPrefix) || strings.HasPrefix(b.key, store.VNIsPrefix) {
			return status.Errorf(codes.FailedPrecondition, "%s: %v: what it holds is unknown, so nothing can be checked against it: repair or delete that record, or upgrade this controller", doing, b.err)
		}
	}
	return nil
}
