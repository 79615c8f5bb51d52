package api

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/ovlnet/ovl/internal/cluster"
	"github.com/ovlnet/ovl/internal/store"
	"github.com/ovlnet/ovl/internal/wire"
	ovlv1 "github.com/ovlnet/ovl/proto/ovl/v1"
)

// controller implements ControllerService.
type controller struct {
	ovlv1.UnimplementedControllerServiceServer
	*Server
}

// GetStatus implements ControllerService. A store out of reach is part of the
// answer, not an error: it is when people ask.
func (s *controller) GetStatus(ctx context.Context, _ *ovlv1.GetStatusRequest) (*ovlv1.ControllerStatus, error) {
	st := &ovlv1.ControllerStatus{
		Version: s.about.Version, Commit: s.about.Commit, Started: timestamppb.New(s.about.Started),
		EtcdEndpoints: s.about.EtcdEndpoints, EtcdEmbedded: s.about.EtcdEmbedded,
	}
	f, err := s.read(ctx, slices.Concat(hostRecords(), []string{store.NetworksPrefix, store.VNIsPrefix, allocationKey})...)
	if ctx.Err() != nil {
		return nil, interrupted(ctx, "get status")
	}
	own := s.ownProblems()
	if err != nil {
		st.Problems = wire.Problems(append(own, cluster.Problem{
			Severity: cluster.SeverityError, Subject: "controller",
			What: "cannot reach etcd",
			Hint: "check that etcd runs; containers keep their traffic meanwhile",
		}))
		return st, nil //nolint:nilerr // see above
	}
	st.EtcdHealthy, st.Revision = true, f.revision
	st.Hosts, st.Networks = count(f.hosts), count(f.networks)
	st.Subnets, st.Endpoints = count(f.leases), count(f.endpoints)
	for _, h := range f.hosts {
		if f.state(h) == stateReady {
			st.HostsReady++
		}
	}
	st.Problems = wire.Problems(slices.Concat(own, s.etcdProblems(ctx), f.allProblems()))
	return st, nil
}

// ownProblems returns what is wrong with this controller.
func (s *Server) ownProblems() []cluster.Problem {
	var all []cluster.Problem
	if r := s.rotation(); r != nil {
		all = r.Problems()
	}
	if s.trail == nil {
		return all
	}
	if p, broken := s.trail.Problem(); broken {
		all = append(all, p)
	}
	return all
}

func count[T any](all []T) uint32 { return uint32(len(all)) }

// allProblems returns what is wrong in the whole cluster: of the store's
// records, then of the hosts, by name.
func (f *facts) allProblems() []cluster.Problem {
	ps := f.recordProblems()
	named := map[string]int{}
	for _, h := range f.hosts {
		if named[h.Name]++; named[h.Name] == 2 {
			ps = append(ps, cluster.Problem{
				Severity: cluster.SeverityError, Subject: "host " + h.Name,
				What: "several hosts have this name", Hint: "start all agents but one with another --name",
			})
		}
		ps = append(ps, f.hostProblems(h)...)
	}
	return ps
}

func (f *facts) hostProblems(h cluster.Host) []cluster.Problem {
	if f.state(h) == stateDown {
		return []cluster.Problem{{
			Severity: cluster.SeverityError, Subject: "host " + h.Name,
			What: "its agent is down or cannot reach etcd", Hint: "look at the agent there; its containers keep their traffic meanwhile",
		}}
	}
	var ps []cluster.Problem
	for _, p := range f.problems(h) {
		if !strings.HasPrefix(p.Subject, "host ") {
			p.Subject = "host " + h.Name + ", " + p.Subject
		}
		ps = append(ps, p)
	}
	return ps
}

func (f *facts) recordProblems() []cluster.Problem {
	var ps []cluster.Problem
	for _, b := range f.bad {
		if len(ps) == cluster.MaxProblems {
			return append(ps, cluster.Problem{
				Severity: cluster.SeverityError, Subject: "store",
				What: fmt.Sprintf("%d more records cannot be read", len(f.bad)-len(ps)),
			})
		}
		if b.host != "" {
			ps = append(ps, store.DoubtProblem(b.key, b.host, b.err))
			continue
		}
		ps = append(ps, cluster.Problem{
			Severity: cluster.SeverityError, Subject: "store",
			What: fmt.Sprintf("a record cannot be read: %v", b.err), Hint: "it was written by another version or by hand: upgrade, or delete it",
		})
	}
	return ps
}
