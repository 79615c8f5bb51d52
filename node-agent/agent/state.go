package agent

import (
	"context"
	"time"

	"github.com/ovlnet/ovl/internal/cluster"
	"github.com/ovlnet/ovl/internal/dataplane"
	"github.com/ovlnet/ovl/internal/plan"
	"github.com/ovlnet/ovl/internal/reconcile"
	"github.com/ovlnet/ovl/internal/store"
	"github.com/ovlnet/ovl/node-agent/attach"
	"github.com/ovlnet/ovl/node-agent/lease"
)

// state is what the last pass made known.
type state struct {
	passes   uint64
	when     time.Time
	report   reconcile.Report
	snapshot *cluster.Snapshot
	result   plan.Result
	applied  int64
	underlay plan.Underlay
	self     cluster.Host
}

// Self returns this host as last published.
func (a *Agent) Self() cluster.Host {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.last.self.ID == "" {
		return a.cfg.Self
	}
	return a.last.self
}

// Healthy reports why the last pass could not read the kernel, or nil.
func (a *Agent) Healthy(context.Context) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.last.report.Err
}

// Snapshot returns the newest facts of the cluster; never nil.
func (a *Agent) Snapshot() *cluster.Snapshot {
	s, _ := a.cfg.Cluster.Snapshot()
	return s
}

// Refresh reads the store now.
func (a *Agent) Refresh(ctx context.Context) error { return a.cfg.Cluster.Refresh(ctx) }

// Plan returns what the last pass wanted.
func (a *Agent) Plan() plan.Result {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.last.result
}

// Diff reads the whole kernel state again and returns what a pass would do now.
func (a *Agent) Diff(ctx context.Context) ([]dataplane.Op, []cluster.Problem, error) {
	var ops []dataplane.Op
	var problems []cluster.Problem
	var err error
	if derr := a.do(ctx, func() { ops, problems, err = a.diff(ctx) }); derr != nil {
		return nil, nil, derr
	}
	return ops, problems, err
}

func (a *Agent) diff(ctx context.Context) ([]dataplane.Op, []cluster.Problem, error) {
	atts := a.cfg.Attachments.List()
	a.rec.Lend(lentAliases(atts))
	facts, err := a.rec.Observe(ctx, a.fullScope())
	if err != nil {
		return nil, nil, err
	}
	snapshot, problems := a.cfg.Cluster.Snapshot()
	res := a.wants(snapshot, a.local(a.cfg.Subnets.Held(), atts, facts.Host), facts.Host, problems)
	ops := dataplane.Diff(res.State, a.rec.Have())
	if len(ops) > 0 || len(facts.Gone) > 0 {
		a.ring() // what was found is repaired, not only told
	}
	return ops, res.Problems, nil
}

// Status tells how the loop is.
func (a *Agent) Status() attach.Status {
	m := a.cfg.Cluster.Status()
	connected, since := both(m, a.cfg.Subnets.Status())
	a.mu.Lock()
	defer a.mu.Unlock()
	s := attach.Status{
		Passes: a.last.passes, LastPass: a.last.when, Wanted: a.last.report.Wanted,
		Outcomes: a.last.report.Outcomes, Problems: a.last.result.Problems, Err: a.last.report.Err,
		AppliedRevision: a.last.applied, UnderlayLink: a.last.underlay.Link, UnderlayMTU: a.last.underlay.MTU,
		StoreConnected: connected, StoreSince: since,
	}
	if a.last.snapshot != nil {
		s.ClusterRevision = a.last.snapshot.Revision
	}
	return s
}

// both says whether the store answers, and since when it does or not: to the
// mirror, which only listens and may take a minute to notice that a cable is out,
// and to the lease room, which asks every few seconds.
func both(m store.MirrorStatus, l lease.Status) (connected bool, since time.Time) {
	if m.Connected != l.Connected {
		if l.Connected {
			return false, m.Since
		}
		return false, l.Since
	}
	if m.Connected == l.Since.After(m.Since) { // up since the later, away since the earlier
		return m.Connected, l.Since
	}
	return m.Connected, m.Since
}
