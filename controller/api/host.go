package api

import (
	"context"
	"slices"
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/ovlnet/ovl/controller/admit"
	"github.com/ovlnet/ovl/controller/audit"
	"github.com/ovlnet/ovl/internal/cluster"
	"github.com/ovlnet/ovl/internal/store"
	"github.com/ovlnet/ovl/internal/wire"
	ovlv1 "github.com/ovlnet/ovl/proto/ovl/v1"
)

// hosts implements HostService.
type hosts struct {
	ovlv1.UnimplementedHostServiceServer
	*Server
}

// The states of a host.
const (
	stateReady     = "ready"
	stateUnhealthy = "unhealthy" // its agent reports an error
	stateDown      = "down"      // its agent has no session; its traffic may well flow
	stateDraining  = "draining"
)

// hostRecords are what a host is joined from.
func hostRecords() []string {
	return []string{
		store.HostsPrefix, store.SessionsPrefix, store.ClonesPrefix, store.DrainsPrefix,
		store.SubnetsPrefix(""), store.EndpointsPrefix(""),
	}
}

// ListHosts implements HostService.
func (s *hosts) ListHosts(ctx context.Context, req *ovlv1.ListHostsRequest) (*ovlv1.ListHostsResponse, error) {
	doing := "list hosts"
	c, vs := newCursor("hosts", req)
	if err := invalid(doing, vs); err != nil {
		return nil, err
	}
	f, err := s.read(ctx, hostRecords()...)
	if err != nil {
		return nil, failed(ctx, doing, err)
	}
	counts := f.count()
	page, next := take(c, f.hosts, hostOrder)
	resp := &ovlv1.ListHostsResponse{NextPageToken: next, Revision: f.revision}
	for _, h := range page {
		resp.Hosts = append(resp.Hosts, f.hostMessage(h, counts))
	}
	return resp, nil
}

// GetHost implements HostService.
func (s *hosts) GetHost(ctx context.Context, req *ovlv1.GetHostRequest) (*ovlv1.Host, error) {
	doing := "get host"
	if err := invalid(doing, admit.Name("name", req.GetName())); err != nil {
		return nil, err
	}
	f, err := s.read(ctx, hostRecords()...)
	if err != nil {
		return nil, failed(ctx, doing, err)
	}
	h, err := f.find(doing, req.GetName())
	if err != nil {
		return nil, err
	}
	return f.hostMessage(h, f.count()), nil
}

// find returns the host of that name or ID; NOT_FOUND if there is none,
// FAILED_PRECONDITION if there are several of the name.
func (f *facts) find(doing, query string) (cluster.Host, error) {
	var named []cluster.Host
	var ids []string
	for _, h := range f.hosts {
		if string(h.ID) == query {
			return h, nil
		}
		if h.Name == query {
			named, ids = append(named, h), append(ids, string(h.ID))
		}
	}
	switch len(named) {
	case 0:
		return cluster.Host{}, status.Errorf(codes.NotFound, "host %s does not exist: ovlctl host ls shows those that do", query)
	case 1:
		return named[0], nil
	}
	return cluster.Host{}, status.Errorf(codes.FailedPrecondition, "%s: %d hosts are named %s: give an ID, one of %s", doing, len(named), query, strings.Join(ids, ", "))
}

// held is what a host has in the store beyond its own record.
type held struct{ subnets, endpoints int }

func (f *facts) count() map[cluster.HostID]held {
	counts := map[cluster.HostID]held{}
	for _, l := range f.leases {
		c := counts[l.Host]
		c.subnets++
		counts[l.Host] = c
	}
	for _, e := range f.endpoints {
		c := counts[e.Host]
		c.endpoints++
		counts[e.Host] = c
	}
	return counts
}

func (f *facts) hostMessage(h cluster.Host, counts map[cluster.HostID]held) *ovlv1.Host {
	d := wire.HostDetail{State: f.state(h), Subnets: counts[h.ID].subnets, Endpoints: counts[h.ID].endpoints}
	if session, up := f.sessions[h.ID]; up {
		session.Problems = f.problems(h)
		d.Session = &session
	}
	return wire.Host(h, d)
}

// state sums a host up. Down comes first: what a host without an agent last
// said of itself is old. A warning alone leaves a host ready.
func (f *facts) state(h cluster.Host) string {
	if _, up := f.sessions[h.ID]; !up {
		return stateDown
	}
	if h.Draining {
		return stateDraining
	}
	for _, p := range f.problems(h) {
		if p.Severity == cluster.SeverityError {
			return stateUnhealthy
		}
	}
	return stateReady
}

// problems returns what the host's agent reports, and what any other agent with
// the same ID does.
func (f *facts) problems(h cluster.Host) []cluster.Problem {
	ps := slices.Clone(f.sessions[h.ID].Problems)
	for _, c := range f.clones[h.ID] {
		if len(c.Problems) == 0 {
			ps = append(ps, cluster.Problem{
				Severity: cluster.SeverityError, Subject: "host " + h.Name,
				What: "another agent runs with the ID of this host: its disk was cloned",
				Hint: "stop the agent of the copy, delete its state directory and start it again",
			})
		}
		ps = append(ps, c.Problems...)
	}
	return ps
}

// DrainHost implements HostService.
func (s *hosts) DrainHost(ctx context.Context, req *ovlv1.DrainHostRequest) (*ovlv1.Host, error) {
	if err := invalid("drain host", admit.Name("name", req.GetName())); err != nil {
		return nil, err
	}
	doing := "drain host " + req.GetName()
	return retry(ctx, doing, func() (*ovlv1.Host, error) { return s.tryDrain(ctx, doing, req) })
}

func (s *hosts) tryDrain(ctx context.Context, doing string, req *ovlv1.DrainHostRequest) (*ovlv1.Host, error) {
	f, err := s.read(ctx, hostRecords()...)
	if err != nil {
		return nil, err
	}
	h, err := f.find(doing, req.GetName())
	if err != nil {
		return nil, err
	}
	if want := !req.GetUndo(); h.Draining != want {
		write := store.Delete(store.DrainKey(h.ID))
		if want {
			write = store.Put(store.DrainKey(h.ID), []byte("{}"), 0)
		}
		if _, err := s.commit(ctx, []store.Cond{store.Unchanged(store.HostKey(h.ID), h.Revision)}, []store.Write{write}); err != nil {
			return nil, err
		}
		before := recordedHost(h)
		h.Draining = want
		audit.Changed(ctx, before, recordedHost(h))
	}
	return f.hostMessage(h, f.count()), nil
}

// recordedHost is what the audit log says of a host: what it is, not how it does.
func recordedHost(h cluster.Host) *ovlv1.Host { return wire.Host(h, wire.HostDetail{}) }
