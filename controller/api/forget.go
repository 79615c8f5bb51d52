package api

import (
	"context"
	"maps"
	"slices"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/ovlnet/ovl/controller/admit"
	"github.com/ovlnet/ovl/controller/audit"
	"github.com/ovlnet/ovl/internal/cluster"
	"github.com/ovlnet/ovl/internal/identity"
	"github.com/ovlnet/ovl/internal/store"
	"github.com/ovlnet/ovl/internal/wire"
	ovlv1 "github.com/ovlnet/ovl/proto/ovl/v1"
)

// maxWrites bounds the writes of one transaction: etcd refuses more than 128
// operations (--max-txn-ops) unless told otherwise.
const maxWrites = 100

// DeleteHost implements HostService.
func (s *hosts) DeleteHost(ctx context.Context, req *ovlv1.DeleteHostRequest) (*ovlv1.DeleteHostResponse, error) {
	if err := invalid("delete host", admit.Name("name", req.GetName())); err != nil {
		return nil, err
	}
	doing := "delete host " + req.GetName()
	return retry(ctx, doing, func() (*ovlv1.DeleteHostResponse, error) {
		return &ovlv1.DeleteHostResponse{}, s.tryForget(ctx, doing, req)
	})
}

// tryForget removes what the host holds, and last the host itself: a call that
// was cut short in between leaves a host that can be deleted again.
func (s *hosts) tryForget(ctx context.Context, doing string, req *ovlv1.DeleteHostRequest) error {
	// What it left behind is its own whether or not it still is a member.
	f, err := s.readAll(ctx, hostRecords()...)
	if err != nil {
		return err
	}
	h, err := f.find(doing, req.GetName())
	if status.Code(err) == codes.NotFound {
		return s.forgetJoined(ctx, req.GetName(), err)
	}
	if err != nil {
		return err
	}
	session, up := f.sessions[h.ID]
	if up && !req.GetForce() {
		return status.Errorf(codes.FailedPrecondition, "%s: its agent is up: stop it first, or force it (--force), which also shuts out a stolen host", doing)
	}
	// Absent (revision 0) if there is none: an agent that comes up stops this.
	still := []store.Cond{store.Unchanged(store.HostKey(h.ID), h.Revision), store.Unchanged(store.SessionKey(h.ID), session.Revision)}
	if req.GetForce() {
		still = still[:1] // a session is written all the time
	}
	// First of all its certificates: what it holds must not come back meanwhile.
	if _, err := s.expel(ctx, identity.Who{Role: identity.Host, Name: string(h.ID)}); err != nil {
		return err
	}
	// Recorded also when the rest fails: this much is known to be going.
	counts := f.count()[h.ID]
	audit.Changed(ctx, wire.Host(h, wire.HostDetail{Subnets: counts.subnets, Endpoints: counts.endpoints}), nil)
	conds, writes := f.holdings(h.ID)
	for chunk := range slices.Chunk(writes, maxWrites) {
		n := min(len(conds), len(chunk))
		if _, err := s.commit(ctx, slices.Concat(still, conds[:n]), chunk); err != nil {
			return err
		}
		conds = conds[n:]
	}
	_, err = s.commit(ctx, still, []store.Write{
		store.Delete(store.HostKey(h.ID)),
		store.Delete(store.SessionKey(h.ID)),
		store.Delete(store.DrainKey(h.ID)),
		store.DeletePrefix(store.HostClonesPrefix(h.ID)),
	})
	return err
}

// forgetJoined removes a host that joined, and never came up.
func (s *hosts) forgetJoined(ctx context.Context, name string, notFound error) error {
	id, err := s.joinedAs(ctx, name)
	if err != nil {
		return err
	}
	if found, err := s.expel(ctx, identity.Who{Role: identity.Host, Name: string(id)}); err != nil || found {
		return err
	}
	return notFound
}

// holdings returns the writes that give back the host's subnets and forget its
// endpoints. The first len(conds) writes, the subnets, have a condition each.
func (f *facts) holdings(id cluster.HostID) (conds []store.Cond, writes []store.Write) {
	for _, l := range f.leases {
		if l.Host == id {
			key := store.SubnetKey(l.Network, l.Prefix)
			conds = append(conds, store.Unchanged(key, l.Revision))
			writes = append(writes, store.Delete(key))
		}
	}
	on := map[string]bool{}
	for _, e := range f.endpoints {
		if e.Host == id {
			on[e.Network] = true
		}
	}
	for _, network := range slices.Sorted(maps.Keys(on)) {
		writes = append(writes, store.DeletePrefix(store.HostEndpointsPrefix(network, id)))
	}
	return conds, writes
}
