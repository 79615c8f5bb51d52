package agent

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/ovlnet/ovl/internal/cluster"
	"github.com/ovlnet/ovl/internal/dataplane"
	"github.com/ovlnet/ovl/internal/plan"
	"github.com/ovlnet/ovl/internal/reconcile"
	"github.com/ovlnet/ovl/internal/store"
	"github.com/ovlnet/ovl/node-agent/lease"
)

// Cluster is where the agent learns the cluster's facts: a store.Mirror.
type Cluster interface {
	SetPrefixes(prefixes ...string)
	Snapshot() (*cluster.Snapshot, []cluster.Problem)
	Records() []store.Record
	Load(records []store.Record)
	Status() store.MirrorStatus
	Refresh(ctx context.Context) error
}

// Subnets is what the loop needs of the lease room.
type Subnets interface {
	Held() []lease.Held
	Status() lease.Status
	SetHost(h cluster.Host)
	SetReport(applied int64, problems []cluster.Problem)
	Forget(network string, createRevision int64)
}

// Attachments is what the loop needs of the attach room.
type Attachments interface {
	List() []cluster.Attachment
	// Vanished is told which namespaces no longer exist.
	Vanished(gone []dataplane.NS)
	// Lent is told what is seen of what a container engine has in hand, and reports
	// whether the attachments have changed by that.
	Lent(seen dataplane.State) (changed bool)
}

// Monitor wakes the loop when the kernel changes.
type Monitor interface {
	Run(ctx context.Context, wake func(dataplane.Scope)) error
	// Watch names the namespaces, besides the host's, whose events matter.
	Watch(namespaces []dataplane.NS)
	// WatchLinks names the links of the host, not ours, whose coming and changing
	// matters though nothing is on them.
	WatchLinks(names []string)
}

// Config is what an Agent is made of.
type Config struct {
	Self        cluster.Host // without underlay and routes: those are observed
	Underlay    UnderlayChoice
	Kernel      reconcile.Kernel
	Monitor     Monitor
	Cluster     Cluster
	Subnets     Subnets
	Attachments Attachments
	Disk        *Disk
	// Relook is how often everything is read again though nothing happened;
	// jittered. Zero means 30 s.
	Relook time.Duration
	// PollFirewall is how often the firewall is read where its changes are not
	// announced (iptables-legacy). Zero means never.
	PollFirewall time.Duration
	// Problems, if set, returns what other rooms of the agent find wrong.
	Problems func() []cluster.Problem
	// PassDone, if set, is told how long each pass took, before whoever waits
	// for the pass is told its report.
	PassDone func(took time.Duration)
	// NameAddr, if set, returns [plan.Local.NameAddr]. Who changes it wakes the loop.
	NameAddr func() netip.Addr
	Log      *slog.Logger
}

const (
	// gatherFor is how long the loop waits for what comes together. Nobody who
	// waits for a pass is kept: those who come while one runs share the next.
	gatherFor = 2 * time.Millisecond
	// payAfter is how soon the loop reads again what it wrote and believed; then it
	// does so in parts of paySpaces namespaces, payEvery, so that nobody who comes
	// meanwhile has to wait for the reading of a hundred.
	payAfter  = 500 * time.Millisecond
	payEvery  = 20 * time.Millisecond
	paySpaces = 32
	// While somebody has come within busyFor, the parts are smaller and further
	// apart: a thousand namespaces take six seconds then, and whoever comes waits
	// for a few milliseconds of it at most.
	busyFor       = 100 * time.Millisecond
	payEveryBusy  = 50 * time.Millisecond
	paySpacesBusy = 8
	// blindPause is how soon a pass that could read nothing is tried again, and
	// blindPasses how many of them whoever waits is told.
	blindPause  = 50 * time.Millisecond
	blindPasses = 4
)

// Agent is the loop of one host. New makes one, Run runs it.
type Agent struct {
	cfg      Config
	rec      *reconcile.Reconciler
	senses   chan struct{}    // holds at most one token
	wake     chan struct{}    // holds at most one token
	settles  chan struct{}    // holds at most one token
	requests chan func()      // work for the loop's goroutine
	self     cluster.Host     // as last published; the loop's
	underlay plan.Underlay    // as last known; the loop's
	diary    diary            // what is wrong; the loop's
	failing  map[string]bool  // what could not be done last time; the loop's
	prefixes []string         // of the cluster, as last set; the loop's
	watched  []dataplane.NS   // as last set; the loop's
	parents  []string         // links of the host, as last set; the loop's
	kept     map[string]int64 // networks in the snapshot on disk, with the revision that made them; the loop's
	planned  planned          // the last plan; the loop's
	live     bool             // the cluster has been seen whole by this process; the loop's

	saving sync.Mutex // of the snapshot

	noUnderlay error // why the underlay cannot be found now, or nil; the loop's

	mu      sync.Mutex
	pending dataplane.Scope
	sensed  dataplane.Scope // announced by the kernel, not heeded yet
	waiters []waiter
	last    state
}

// New returns an Agent that has done nothing yet. underlay is the interface that
// [UnderlayChoice.Resolve] chose at the start.
func New(cfg Config, underlay plan.Underlay) *Agent {
	if cfg.PassDone == nil {
		cfg.PassDone = func(time.Duration) {}
	}
	if cfg.Problems == nil {
		cfg.Problems = func() []cluster.Problem { return nil }
	}
	if cfg.Relook == 0 {
		cfg.Relook = 30 * time.Second
	}
	cfg.Self.Underlay = underlay.Addrs
	return &Agent{
		cfg: cfg, rec: reconcile.New(cfg.Kernel), underlay: underlay, self: cfg.Self,
		wake: make(chan struct{}, 1), settles: make(chan struct{}, 1), requests: make(chan func()), diary: diary{}, failing: map[string]bool{}, kept: map[string]int64{}, pending: dataplane.Scope{}, sensed: dataplane.Scope{}, senses: make(chan struct{}, 1),
	}
}

// Run loops until ctx is done. The kernel keeps what it has: the data path does
// not need the agent.
func (a *Agent) Run(ctx context.Context) error {
	records, err := a.cfg.Disk.LoadSnapshot()
	if err != nil {
		a.cfg.Log.Warn("the snapshot on disk cannot be read; waiting for the store", "err", err)
	}
	a.cfg.Cluster.Load(records)
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return a.loop(ctx) })
	g.Go(func() error { return a.save(ctx) })
	g.Go(func() error {
		if err := a.cfg.Monitor.Run(ctx, a.sense); err != nil && ctx.Err() == nil {
			return fmt.Errorf("watch kernel: %w", err)
		}
		return nil
	})
	return g.Wait()
}

// Wake tells the loop to run a pass and, beforehand, to read scope again. An
// empty scope means that only the wants may have changed.
func (a *Agent) Wake(scope dataplane.Scope) {
	a.mu.Lock()
	a.pending.Merge(scope)
	a.mu.Unlock()
	a.ring()
}

// sense is Wake for what the kernel announced.
func (a *Agent) sense(scope dataplane.Scope) {
	a.mu.Lock()
	a.sensed.Merge(scope)
	a.mu.Unlock()
	select {
	case a.senses <- struct{}{}:
	default:
	}
}

// heed wakes the loop for what the kernel announced, save where that is about to
// be read again anyway: the kernel announces our own FDB entries without saying
// that they are ours, and each would cost the reading that was just put off.
func (a *Agent) heed() {
	a.mu.Lock()
	scope := a.sensed
	a.sensed = dataplane.Scope{}
	a.mu.Unlock()
	for ns, owed := range a.rec.Owed() {
		if scope[ns] &^= owed; scope[ns] == 0 {
			delete(scope, ns)
		}
	}
	if len(scope) > 0 {
		a.Wake(scope)
	}
}

func (a *Agent) ring() {
	select {
	case a.wake <- struct{}{}:
	default:
	}
}

// waiter is somebody who waits for the report of a pass.
type waiter struct {
	done  chan<- reconcile.Report
	blind int // passes that could read nothing
}

// Settle wakes the loop for scope and waits for the report of a pass that began
// after the call.
func (a *Agent) Settle(ctx context.Context, scope dataplane.Scope) (reconcile.Report, error) {
	done := make(chan reconcile.Report, 1)
	a.mu.Lock()
	a.pending.Merge(scope)
	a.waiters = append(a.waiters, waiter{done: done})
	a.mu.Unlock()
	select {
	case a.settles <- struct{}{}:
	default:
	}
	select {
	case rep := <-done:
		return rep, nil
	case <-ctx.Done():
		return reconcile.Report{}, context.Cause(ctx)
	}
}

// loop runs passes until ctx is done.
func (a *Agent) loop(ctx context.Context) error {
	a.Wake(dataplane.FullScope())
	var gather, pay, retry alarm
	debt := dataplane.Scope{} // what is being read of what was owed
	var came time.Time        // when somebody last waited for a pass
	busy := func() bool { return time.Since(came) < busyFor }
	full := time.NewTimer(jitter(a.cfg.Relook))
	defer full.Stop()
	var poll <-chan time.Time
	if a.cfg.PollFirewall > 0 {
		t := time.NewTicker(a.cfg.PollFirewall)
		defer t.Stop()
		poll = t.C
	}
	for {
		select {
		case <-ctx.Done():
			return nil
		case f := <-a.requests:
			f()
			continue
		case <-poll:
			a.Wake(dataplane.Scope{dataplane.Host: dataplane.Of(dataplane.TableChain, dataplane.TableJump)})
			continue
		case <-a.wake:
			// What comes together is served together: a host and its subnet are
			// two records, a hundred containers are a hundred requests.
			gather.set(gatherFor)
			continue
		case <-a.senses:
			a.heed()
			continue
		case <-pay.c:
			pay.c = nil
			if len(debt) == 0 {
				debt = a.rec.Owed()
			}
			spaces := paySpaces
			if busy() {
				spaces = paySpacesBusy
			}
			a.Wake(part(debt, spaces))
			continue
		case <-a.settles:
			gather.c = nil
			a.serve(ctx, false)
			came = time.Now()
		case <-gather.c:
			gather.c = nil
			a.serve(ctx, false)
		case <-retry.c:
			a.serve(ctx, false)
		case <-full.C:
			a.serve(ctx, true)
			full.Reset(jitter(a.cfg.Relook))
		}
		if len(debt) > 0 && busy() {
			pay.set(payEveryBusy)
		} else if len(debt) > 0 {
			pay.set(payEvery)
		} else if len(a.rec.Owed()) > 0 {
			pay.set(payAfter)
		}
		if retry.c = nil; !a.rec.NextTry().IsZero() {
			retry.set(max(time.Until(a.rec.NextTry()), time.Millisecond))
		}
	}
}

// alarm is a timer that, once set, is not put off by setting it again.
type alarm struct{ c <-chan time.Time }

func (t *alarm) set(d time.Duration) {
	if t.c == nil {
		t.c = time.After(d)
	}
}

// serve runs one pass for all that is pending and answers those who wait.
func (a *Agent) serve(ctx context.Context, full bool) {
	a.mu.Lock()
	scope, waiters := a.pending, a.waiters
	a.pending, a.waiters = dataplane.Scope{}, nil
	a.mu.Unlock()
	if full {
		scope = a.fullScope()
	}
	began := time.Now()
	rep := a.pass(ctx, scope)
	a.cfg.PassDone(time.Since(began))
	if rep.Err != nil && ctx.Err() == nil {
		// Nothing was learned: what should have been read still must be.
		waiters = a.keepWaiting(waiters)
		time.AfterFunc(jitter(blindPause), func() { a.Wake(scope) })
	}
	for _, w := range waiters {
		w.done <- rep
	}
}

// keepWaiting lets those wait on who have not met several passes that could read
// nothing, and returns the others: a table that changed while it was read, again
// and again, is nobody's failure yet.
func (a *Agent) keepWaiting(waiters []waiter) (others []waiter) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, w := range waiters {
		if w.blind++; w.blind < blindPasses {
			a.waiters = append(a.waiters, w)
		} else {
			others = append(others, w)
		}
	}
	return others
}

// part takes out of what is to be read what is read at once: the host's tables,
// and of those of containers so many.
func part(debt dataplane.Scope, spaces int) dataplane.Scope {
	out := dataplane.Scope{}
	for ns, tables := range debt {
		if ns == dataplane.Host || len(out) < spaces {
			out[ns] = tables
			delete(debt, ns)
		}
	}
	return out
}

func (a *Agent) fullScope() dataplane.Scope {
	scope := dataplane.FullScope()
	for _, att := range a.cfg.Attachments.List() {
		scope.Add(dataplane.NSOf(att), dataplane.NSTables)
	}
	return scope
}

// do runs f on the loop's goroutine, between passes.
func (a *Agent) do(ctx context.Context, f func()) error {
	done := make(chan struct{})
	select {
	case a.requests <- func() { defer close(done); f() }:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// jitter returns d plus or minus a tenth, so that hosts which started together
// do not stay together.
func jitter(d time.Duration) time.Duration {
	return d - d/10 + rand.N(d/5+1) //nolint:gosec // spreads, hides nothing
}

// clusterPrefixes returns the keys of the store that this host plans and answers
// names from: not the whole cluster, only the networks that it is on.
func clusterPrefixes(held []lease.Held, atts []cluster.Attachment) []string {
	prefixes := []string{store.NetworksPrefix, store.HostsPrefix, store.DrainsPrefix}
	on := map[string]bool{}
	for _, h := range held {
		on[h.Network] = true
	}
	for _, att := range atts {
		for _, itf := range att.Interfaces {
			on[itf.Network] = true
		}
	}
	for name := range on {
		prefixes = append(prefixes, store.SubnetsPrefix(name), store.EndpointsPrefix(name))
	}
	slices.Sort(prefixes[3:])
	return prefixes
}
