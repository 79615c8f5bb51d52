package attach

import (
	"context"
	"math"
	"slices"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/ovlnet/ovl/internal/cluster"
	"github.com/ovlnet/ovl/internal/dataplane"
	"github.com/ovlnet/ovl/internal/ipam"
	"github.com/ovlnet/ovl/internal/plan"
	"github.com/ovlnet/ovl/internal/reconcile"
	"github.com/ovlnet/ovl/internal/wire"
	"github.com/ovlnet/ovl/node-agent/lease"
	ovlv1 "github.com/ovlnet/ovl/proto/ovl/v1"
)

// Process is what the agent's process says of itself in its status.
type Process struct {
	// Host returns this host's record, as last published.
	Host            func() cluster.Host
	Version, Commit string
	Started         time.Time
	StoreEndpoints  []string
}

// AgentService tells people what this host wants, has and does:
// ovl.v1.AgentService.
type AgentService struct {
	ovlv1.UnimplementedAgentServiceServer
	attachments *Attachments
	process     Process
}

// NewAgentService returns the service of the agent that a belongs to.
func NewAgentService(a *Attachments, p Process) *AgentService {
	return &AgentService{attachments: a, process: p}
}

// GetStatus implements [ovlv1.AgentServiceServer].
func (s *AgentService) GetStatus(context.Context, *ovlv1.GetAgentStatusRequest) (*ovlv1.AgentStatus, error) {
	a := s.attachments
	st, owner, held, atts := a.cfg.Loop.Status(), a.cfg.Subnets.Status(), a.cfg.Subnets.Held(), a.List()
	problems := slices.Concat(a.cfg.Journal.Problems(), owner.Problems, st.Problems)
	if st.Err != nil {
		problems = append(problems, cluster.Problem{
			Severity: cluster.SeverityError, Subject: "kernel", What: oneLine(st.Err.Error()), Hint: "the agent tries again; nothing is changed until it can read the kernel's state",
		})
	}
	host := s.process.Host()
	if h, ok := a.cfg.Loop.Snapshot().Host(a.cfg.Self); ok {
		host.Draining = h.Draining
	}
	endpoints := 0
	for _, att := range atts {
		endpoints += len(att.Interfaces)
	}
	return &ovlv1.AgentStatus{
		Host: wire.Host(host, wire.HostDetail{
			State: stateOf(host, problems, st), Subnets: len(held), Endpoints: endpoints,
			Session: &cluster.Session{Host: host.ID, Started: s.process.Started, AppliedRevision: st.AppliedRevision, Problems: problems},
		}),
		Version: s.process.Version, Commit: s.process.Commit, Started: timestamp(s.process.Started),
		EtcdConnected: st.StoreConnected, EtcdSince: timestamp(st.StoreSince), EtcdEndpoints: s.process.StoreEndpoints,
		ClusterRevision: st.ClusterRevision, AppliedRevision: st.AppliedRevision,
		Ownership: owner.Ownership, OwnershipUntil: timestamp(owner.Until),
		Subnets: s.subnets(held), Attachments: clamp(len(atts)),
		Rows: clamp(st.Wanted), Passes: clamp(st.Passes), LastPass: timestamp(st.LastPass),
		Failing: rowStatuses(st.Outcomes), Problems: wire.Problems(problems),
		UnderlayLink: st.UnderlayLink, UnderlayMtu: clamp(st.UnderlayMTU),
	}, nil
}

// stateOf is this host's state in its own eyes, in the words of host ls.
func stateOf(h cluster.Host, problems []cluster.Problem, st Status) string {
	switch {
	case h.Draining:
		return "draining"
	case len(problems) > 0 || len(st.Outcomes) > 0 || !st.StoreConnected:
		return "unhealthy"
	}
	return "ready"
}

func (s *AgentService) subnets(held []lease.Held) []*ovlv1.AgentSubnet {
	a := s.attachments
	snapshot := a.cfg.Loop.Snapshot()
	a.mu.Lock()
	defer a.mu.Unlock()
	var out []*ovlv1.AgentSubnet
	for _, h := range held {
		size := ipam.Size(h.Prefix)
		if h.Prefix.IsSingleIP() {
			size = 1
		}
		bridge := ""
		n, known := snapshot.Network(h.Network)
		if segment, used := a.index.subnets[netSubnet{h.Network, h.Prefix}].first(); known && used && bridged(n) {
			bridge = plan.BridgeName(n.VNI, segment)
		}
		out = append(out, &ovlv1.AgentSubnet{
			Network: h.Network, Prefix: h.Prefix.String(), State: string(h.State),
			Used: clamp(a.index.used(h.Network, h.Prefix)), Size: size, Bridge: bridge,
		})
	}
	return out
}

func rowStatuses(outcomes []reconcile.Outcome) []*ovlv1.RowStatus {
	var out []*ovlv1.RowStatus
	for _, o := range outcomes {
		r := &ovlv1.RowStatus{Key: o.Row.Key().String(), Outcome: string(o.Condition), Tries: clamp(o.Tries), Since: timestamp(o.Since)}
		if o.Err != nil {
			r.Error = oneLine(o.Err.Error())
		}
		out = append(out, r)
	}
	return out
}

// GetPlan implements [ovlv1.AgentServiceServer].
func (s *AgentService) GetPlan(context.Context, *ovlv1.GetPlanRequest) (*ovlv1.GetPlanResponse, error) {
	p := s.attachments.cfg.Loop.Plan()
	out := &ovlv1.GetPlanResponse{Problems: wire.Problems(p.Problems)}
	for _, row := range p.State.Rows() {
		out.Rows = append(out.Rows, rowMessage(row))
	}
	return out, nil
}

// GetDiff implements [ovlv1.AgentServiceServer].
func (s *AgentService) GetDiff(ctx context.Context, m *ovlv1.GetDiffRequest) (*ovlv1.GetDiffResponse, error) {
	ctx, cancel := s.attachments.bound(ctx)
	defer cancel()
	of, err := s.differences(m.GetAttachment())
	if err != nil {
		return nil, err
	}
	ops, problems, err := s.attachments.cfg.Loop.Diff(ctx)
	if err != nil {
		return nil, because("diff", err, codes.Unavailable)
	}
	out := &ovlv1.GetDiffResponse{Problems: wire.Problems(problems)}
	for _, op := range ops {
		if !of(op) {
			continue
		}
		out.Ops = append(out.Ops, &ovlv1.Op{Verb: op.Verb.String(), Row: rowMessage(op.Row), Why: op.Why})
	}
	return out, nil
}

// differences returns which operations are asked for: all, or those that an attachment
// is owed because what was in place for it no longer is.
func (s *AgentService) differences(attachment string) (func(dataplane.Op) bool, error) {
	if attachment == "" {
		return func(dataplane.Op) bool { return true }, nil
	}
	a := s.attachments
	att, err := a.one("diff", attachment)
	if err != nil {
		return nil, err
	}
	if att == nil {
		return nil, refuse(codes.NotFound, "diff %s: there is no such container on this host: see `ovlctl ps`", quote(attachment))
	}
	upholds, wanted := plan.Upholds(*att, a.cfg.Loop.Snapshot().Network), a.cfg.Loop.Plan().State
	return func(op dataplane.Op) bool {
		if !upholds(op.Row) {
			return false
		}
		row, known := wanted.Get(op.Row.Key())
		if op.Verb == dataplane.Delete {
			return !known
		}
		return known && row.Same(op.Row)
	}, nil
}

func rowMessage(r dataplane.Row) *ovlv1.Row {
	k := r.Key()
	return &ovlv1.Row{Table: k.Table().String(), Namespace: k.Namespace().String(), Key: k.String(), Text: r.String()}
}

// Whois implements [ovlv1.AgentServiceServer].
func (s *AgentService) Whois(_ context.Context, m *ovlv1.WhoisRequest) (*ovlv1.WhoisResponse, error) {
	if q := m.GetQuery(); q == "" || len(q) > maxID {
		return nil, violations{{"query", "want the name of a veth, an address, a MAC, or the name or ID of a container"}}.err("whois")
	}
	a := s.attachments
	var held []cluster.Lease
	for _, h := range a.cfg.Subnets.Held() {
		if h.State != lease.Lost {
			held = append(held, h.Lease)
		}
	}
	k := Known{Self: s.process.Host(), Snapshot: a.cfg.Loop.Snapshot(), Held: held, Attachments: a.List()}
	matches, hint := k.Whois(m.GetQuery())
	if len(matches) == 0 {
		return nil, refuse(codes.NotFound, "whois %s: %s", quote(m.GetQuery()), hint)
	}
	return &ovlv1.WhoisResponse{Matches: matches}, nil
}

func timestamp(t time.Time) *timestamppb.Timestamp {
	if t.IsZero() {
		return nil
	}
	return timestamppb.New(t)
}

// clamp fits a count into the message's field.
func clamp[N int | uint64](n N) uint32 {
	return uint32(min(max(n, 0), math.MaxUint32))
}
