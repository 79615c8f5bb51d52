package agent

import (
	"context"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"time"

	"github.com/ovlnet/ovl/internal/cluster"
	"github.com/ovlnet/ovl/internal/dataplane"
	"github.com/ovlnet/ovl/internal/plan"
	"github.com/ovlnet/ovl/internal/reconcile"
	"github.com/ovlnet/ovl/node-agent/lease"
)

// pass is one turn of the loop: observe, plan, diff, apply, tell.
func (a *Agent) pass(ctx context.Context, scope dataplane.Scope) reconcile.Report {
	held, atts := a.cfg.Subnets.Held(), a.cfg.Attachments.List()
	if a.follow(ctx, held, atts) {
		scope = maps.Clone(scope)
		scope.Add(dataplane.Host, dataplane.NSTables)
	}

	known := a.known(scope, atts)
	a.rec.Waive(without(scope, known))
	a.rec.Lend(lentAliases(atts))
	facts, err := a.rec.Observe(ctx, known)
	if err == nil {
		err = a.lookAfterLent(ctx, atts)
	}
	if err != nil {
		rep := reconcile.Report{Started: time.Now(), Err: err}
		a.publish(ctx, nil, plan.Result{}, rep)
		return rep
	}
	if len(facts.Gone) > 0 {
		a.cfg.Attachments.Vanished(facts.Gone)
		atts = a.cfg.Attachments.List()
	}
	if a.cfg.Attachments.Lent(a.rec.Lent()) {
		atts = a.cfg.Attachments.List()
		a.watch(atts)
	}
	a.rec.Lend(lentAliases(atts)) // what is planned from and what is lent come of one list
	a.lookAround(facts.Host)

	snapshot, problems := a.cfg.Cluster.Snapshot()
	a.keepNetworks(snapshot, held)
	a.forgetGone(snapshot, held, atts)
	res := a.wants(snapshot, a.local(held, atts, facts.Host), facts.Host, problems)
	rep := a.rec.Apply(ctx, res.State, time.Now)
	if len(rep.Gone) > 0 {
		a.cfg.Attachments.Vanished(rep.Gone)
		a.ring()
	}
	a.publish(ctx, snapshot, res, rep)
	return rep
}

// wants plans, and adds what is wrong besides; problems are the snapshot's own.
func (a *Agent) wants(snapshot *cluster.Snapshot, local plan.Local, host *dataplane.HostFacts, problems []cluster.Problem) plan.Result {
	res := a.planned.of(snapshot, local, host)
	res.Problems = slices.Concat(problems, a.underlayProblem(), a.cfg.Problems(), res.Problems)
	if !a.proven() {
		res.State = keepUnproven(res.State, a.rec.Have())
	}
	return res
}

// known cuts a scope down to the namespaces that matter: the host's, those of
// attachments, and those in which rows of ours were seen.
func (a *Agent) known(scope dataplane.Scope, atts []cluster.Attachment) dataplane.Scope {
	out := dataplane.Scope{}
	if ts, ok := scope[dataplane.Host]; ok {
		out[dataplane.Host] = ts
	}
	if len(scope) == len(out) {
		return out
	}
	for _, att := range atts {
		if ts, ok := scope[dataplane.NSOf(att)]; ok {
			out[dataplane.NSOf(att)] = ts
		}
	}
	for k := range a.rec.Have().Links {
		if ts, ok := scope[k.NS]; ok {
			out[k.NS] = ts
		}
	}
	return out
}

// without returns the namespaces of scope that are not in known.
func without(scope, known dataplane.Scope) dataplane.Scope {
	out := dataplane.Scope{}
	for ns, ts := range scope {
		if _, ok := known[ns]; !ok {
			out[ns] = ts
		}
	}
	return out
}

// refreshLimit bounds how long a pass waits for the peers of a new network.
const refreshLimit = 500 * time.Millisecond

// follow keeps the store's and the kernel's watches on what this host needs. It
// reports whether there are links of the host that have not been watched so far,
// and may have come unnoticed.
func (a *Agent) follow(ctx context.Context, held []lease.Held, atts []cluster.Attachment) (unseen bool) {
	if prefixes := clusterPrefixes(held, atts); !slices.Equal(prefixes, a.prefixes) {
		a.cfg.Cluster.SetPrefixes(prefixes...)
		if a.prefixes != nil && a.cfg.Cluster.Status().Connected {
			// The first container of a network here is about to be told that its
			// packets flow: they shall, to every host that is there by now.
			limited, cancel := context.WithTimeout(ctx, refreshLimit)
			_ = a.cfg.Cluster.Refresh(limited) // if it fails the mirror goes on trying
			cancel()
		}
		a.prefixes = prefixes
	}
	a.watch(atts)
	snapshot, _ := a.cfg.Cluster.Snapshot()
	if parents := parentsOf(snapshot, held); !slices.Equal(parents, a.parents) {
		a.parents = parents
		a.cfg.Monitor.WatchLinks(parents)
		return true
	}
	return false
}

// watch has the kernel's events in the namespaces of those attachments told.
func (a *Agent) watch(atts []cluster.Attachment) {
	var namespaces []dataplane.NS
	for _, att := range atts {
		switch {
		case att.NetNS != "":
			namespaces = append(namespaces, dataplane.NSOf(att))
		case att.Sandbox != "":
			namespaces = append(namespaces, dataplane.NS(att.Sandbox))
		}
	}
	slices.Sort(namespaces)
	if namespaces = slices.Compact(namespaces); !slices.Equal(namespaces, a.watched) {
		a.watched = namespaces
		a.cfg.Monitor.Watch(namespaces)
	}
}

// parentsOf returns the links on which networks of this host are, or would be.
func parentsOf(s *cluster.Snapshot, held []lease.Held) []string {
	var out []string
	for _, h := range held {
		if n, ok := s.Network(h.Network); ok {
			out = append(out, plan.Parents(n)...)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// lookAround takes up what the host itself has changed: its underlay address
// and its own routes.
func (a *Agent) lookAround(host *dataplane.HostFacts) {
	if host == nil {
		return
	}
	underlay, err := a.cfg.Underlay.Resolve(*host)
	if err == nil {
		a.underlay = underlay
	}
	// Otherwise the last known underlay stays in force: the link may be back in a
	// moment, and until then there is nothing better to plan with.
	a.noUnderlay = err
	routes, onLink := published(host.Routes), published(a.underlay.OnLink)
	if slices.Equal(a.self.Underlay, a.underlay.Addrs) && slices.Equal(a.self.Routes, routes) && slices.Equal(a.self.OnLink, onLink) {
		return
	}
	a.self.Underlay, a.self.Routes, a.self.OnLink = slices.Clone(a.underlay.Addrs), slices.Clone(routes), slices.Clone(onLink)
	a.cfg.Subnets.SetHost(a.self)
}

// published returns as many prefixes as a host's record has room for.
func published(prefixes []netip.Prefix) []netip.Prefix {
	return prefixes[:min(len(prefixes), cluster.MaxHostRoutes)]
}

// underlayProblem tells that the tunnel's interface cannot be found.
func (a *Agent) underlayProblem() []cluster.Problem {
	if a.noUnderlay == nil {
		return nil
	}
	return []cluster.Problem{{
		Severity: cluster.SeverityError, Subject: "underlay",
		What: fmt.Sprintf("%v; going on with %s on %s", a.noUnderlay, a.underlay.Addrs[0], a.underlay.Link),
		Hint: "other hosts may not reach this one: bring the interface back, or start the agent with another",
	}}
}

func (a *Agent) local(held []lease.Held, atts []cluster.Attachment, host *dataplane.HostFacts) plan.Local {
	l := plan.Local{ID: a.cfg.Self.ID, Underlay: a.underlay, Port: a.cfg.Self.VXLANPort, Attachments: atts}
	for _, h := range held {
		if h.State != lease.Lost {
			l.Held = append(l.Held, h.Lease)
		}
	}
	if a.cfg.NameAddr != nil {
		l.NameAddr = a.cfg.NameAddr()
	}
	if host != nil {
		l.DockerUser, l.NoGuard, l.Links = host.DockerUser, host.NoGuard, host.Links
	}
	return l
}

// proven reports whether what the cluster does not say may be deleted: only once
// this process has seen the cluster whole.
func (a *Agent) proven() bool {
	a.live = a.live || a.cfg.Cluster.Status().Live
	return a.live
}

// publish makes the outcome of a pass known.
func (a *Agent) publish(ctx context.Context, snapshot *cluster.Snapshot, res plan.Result, rep reconcile.Report) {
	a.mu.Lock()
	s := &a.last
	s.passes++
	s.when, s.report = time.Now(), rep
	if rep.Err == nil {
		s.snapshot, s.result = snapshot, res
		if len(rep.Outcomes) == 0 {
			s.applied = snapshot.Revision
		}
	}
	s.underlay, s.self = a.underlay, a.self
	applied := s.applied
	a.mu.Unlock()

	if rep.Err == nil || ctx.Err() == nil {
		a.logOnce("observe kernel", rep.Err)
	}
	if rep.Err != nil || !a.proven() {
		return // what is missing in half a picture is no problem yet
	}
	a.logChanges(res.Problems, rep.Outcomes)
	a.cfg.Subnets.SetReport(applied, reported(res.Problems, rep))
}

// reported returns the problems that other hosts' people should see, bounded.
func reported(problems []cluster.Problem, rep reconcile.Report) []cluster.Problem {
	out := slices.Clone(problems)
	for _, o := range rep.Outcomes {
		out = append(out, cluster.Problem{
			Severity: cluster.SeverityError, Subject: o.Row.Key().String(),
			What: string(o.Condition) + ": " + o.Err.Error(), Hint: "see `ovlctl agent status` on the host",
		})
	}
	if len(out) > cluster.MaxProblems {
		out = out[:cluster.MaxProblems]
	}
	return out
}
