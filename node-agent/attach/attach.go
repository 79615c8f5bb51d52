package attach

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/ovlnet/ovl/internal/cluster"
	"github.com/ovlnet/ovl/internal/dataplane"
	"github.com/ovlnet/ovl/internal/plan"
)

// Config is what Attachments is made of.
type Config struct {
	Self    cluster.HostID
	Journal *Journal
	Loop    Loop
	Subnets Subnets
	// NetNS tells why the namespace at a path cannot be attached, and what pins
	// it: see [NetNSCheck].
	NetNS func(path string) (pin string, err error)
	// HostPort tells why a port of the host cannot be published: see [HostPort].
	// nil = never.
	HostPort func(cluster.Port) error
	// TunnelPort is the UDP port of the tunnel, which is not to be published.
	TunnelPort uint16
	// Home is the network that this host is on whether a container is or not; empty:
	// none. See [Attachments.KeepHome].
	Home string
	// Limit bounds a request whose caller set no deadline. Zero means 30 s.
	Limit time.Duration
	Log   *slog.Logger
}

// cleanUp bounds what is finished after the caller has gone: taking a failed
// attachment back, waiting for the rows of a removed one to go.
const cleanUp = 10 * time.Second

// Attachments attaches this host's containers and remembers them. It is safe
// for concurrent use.
type Attachments struct {
	cfg      Config
	ids      keyed // one change of an attachment at a time
	networks keyed // one subnet of a network taken, or given back, at a time
	statics  keyed // a static address: taken or given back, not both

	mu    sync.Mutex
	index *index
	// reserved are the addresses that are kept for endpoints to come.
	reserved    map[netAddr]reservation
	lastReserve uint64

	leaving []leaving     // in the order in which they were dismissed
	left    chan struct{} // wakes SeeOff; holds at most one token

	publishing  sync.Mutex // the last list published is the newest
	unpublished atomic.Bool

	tidy   chan struct{} // wakes GiveBack; holds at most one token
	passed chan struct{} // wakes KeepHome; holds at most one token
}

// New returns the attachments of the journal and publishes their endpoints.
func New(cfg Config) *Attachments {
	if cfg.Limit == 0 {
		cfg.Limit = 30 * time.Second
	}
	a := &Attachments{cfg: cfg, index: newIndex(cfg.Journal.List()), reserved: map[netAddr]reservation{}, tidy: make(chan struct{}, 1), passed: make(chan struct{}, 1), left: make(chan struct{}, 1)}
	a.publish()
	return a
}

// List returns all attachments, sorted by ID: what the loop plans from. Do not
// change what it returns.
func (a *Attachments) List() []cluster.Attachment { return a.cfg.Journal.List() }

// Attach attaches a container and returns when a pass of the loop has reported
// that its rows are in place. If they cannot be, nothing remains of it. Asking
// for the same again is answered with what there is, once it is in place; asking
// for something else under the same ID is ALREADY_EXISTS.
func (a *Attachments) Attach(ctx context.Context, r Request) (cluster.Attachment, error) {
	ctx, cancel := a.bound(ctx)
	defer cancel()
	var none cluster.Attachment
	unlock, err := a.ids.lock(ctx, r.ID)
	if err != nil {
		return none, because(r.verb()+": wait for another change of it", err, codes.Unavailable)
	}
	defer unlock()

	if r.stage == cluster.Placed {
		if r.Pin, err = a.cfg.NetNS(r.NetNS); err != nil {
			return none, refuse(codes.FailedPrecondition, "%s: %v", r.verb(), err)
		}
	}
	if old, ok := a.cfg.Journal.Get(r.ID); ok {
		return a.again(ctx, old, r)
	}
	networks, err := a.admit(ctx, r)
	if err != nil {
		return none, err
	}
	if err := a.admitPorts(r); err != nil {
		return none, err
	}
	att, err := a.claim(ctx, r, networks)
	if err != nil {
		a.Reconsider() // it may have taken a static address, and then found no other
		return none, err
	}
	if err := a.cfg.Journal.Put(att); err != nil {
		a.release(att.ID)
		a.Reconsider()
		return none, because(r.verb(), err, codes.Internal)
	}
	err = a.settle(ctx, r.verb(), att)
	if err == nil {
		p := a.cfg.Loop.Plan()
		if err = published(r.verb(), att, p); err == nil {
			err = carries(r, att, p.State)
		}
	}
	if err != nil {
		a.rollBack(ctx, att)
		return none, err
	}
	a.publish()
	a.cfg.Log.Info("container attached", "container", att.Name, "id", att.ID, "netns", att.NetNS, "addresses", addresses(att))
	return att, nil
}

// bound gives a request without a deadline one.
func (a *Attachments) bound(ctx context.Context) (context.Context, context.CancelFunc) {
	if _, ok := ctx.Deadline(); ok {
		return context.WithCancel(ctx)
	}
	return context.WithTimeout(ctx, a.cfg.Limit)
}

// again answers a request for what there is already. It waits for a pass, since
// the first request may have ended with the agent and not with an answer.
func (a *Attachments) again(ctx context.Context, old cluster.Attachment, r Request) (cluster.Attachment, error) {
	if !r.asks(old) {
		return old, refuse(codes.AlreadyExists, "%s: the ID %s is in use by container %s, which is not the same: detach that first, or choose another ID", r.verb(), r.ID, old.Name)
	}
	return old, a.settle(ctx, r.verb(), old)
}

// admit checks what a request depends on beyond itself, and returns the
// networks that it names.
func (a *Attachments) admit(ctx context.Context, r Request) (map[string]cluster.Network, error) {
	if r.stage == cluster.Placed {
		if err := a.present(r.NetNS, r.Pin); err != nil {
			return nil, refuse(codes.FailedPrecondition, "%s: %v", r.verb(), err)
		}
	}
	if name, draining := a.draining(); draining {
		return nil, refuse(codes.FailedPrecondition, "%s: host %s is draining: use another host, or `ovlctl host drain --undo %[2]s`", r.verb(), name)
	}
	if err := a.cfg.Subnets.MayAttach(); err != nil {
		return nil, because(r.verb(), err, codes.FailedPrecondition)
	}
	return a.find(ctx, r)
}

// find returns the networks of a request. If one is not known, the store is
// asked: it may have been created a moment ago.
func (a *Attachments) find(ctx context.Context, r Request) (map[string]cluster.Network, error) {
	var stale error
	for refreshed := false; ; refreshed = true {
		networks, missing := pick(a.cfg.Loop.Snapshot(), r)
		switch {
		case missing == "":
			return networks, drivers(r, networks)
		case !refreshed:
			stale = a.cfg.Loop.Refresh(ctx)
		case stale != nil:
			return nil, because(r.verb()+": network "+missing+" is not known here, and the store cannot be asked", stale, codes.Unavailable)
		default:
			return nil, refuse(codes.NotFound, "%s: there is no network %s: see `ovlctl network ls`", r.verb(), missing)
		}
	}
}

func pick(s *cluster.Snapshot, r Request) (found map[string]cluster.Network, missing string) {
	found = map[string]cluster.Network{}
	for _, w := range r.Interfaces {
		n, ok := s.Network(w.Network)
		if !ok {
			return nil, w.Network
		}
		found[n.Name] = n
	}
	return found, ""
}

// claim chooses and claims the addresses for a request, taking further subnets
// where those that this host holds are full.
func (a *Attachments) claim(ctx context.Context, r Request, networks map[string]cluster.Network) (cluster.Attachment, error) {
	// Until all is claimed: what has been taken for it already looks left over.
	unlock, err := a.holdStatics(ctx, wantedStatics(r, networks))
	if err != nil {
		return cluster.Attachment{}, because(r.verb(), err, codes.Unavailable)
	}
	defer unlock()
	for {
		att, short, err := a.tryClaim(r, networks)
		if (err != nil || short != nil) && a.awaitLeaving(ctx, networks) {
			continue
		}
		if err != nil || short == nil {
			return att, err
		}
		if att, short, err = a.takeAndClaim(ctx, r, networks, *short); err != nil || short == nil {
			return att, err
		}
		// Another pool is short as well, or others were quicker: each turn of
		// this loop somebody got an address, or a subnet was taken.
	}
}

func (a *Attachments) tryClaim(r Request, networks map[string]cluster.Network) (cluster.Attachment, *shortage, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	// Under the lock, so that a subnet given back meanwhile is not in it.
	held := a.cfg.Subnets.Held()
	kept := a.setAside(r)
	att, short, err := choose(r, supply{networks, held, a.cfg.Loop.Snapshot().Hosts, a.index}, time.Now().UTC())
	if err == nil && short == nil {
		a.index.add(att)
	}
	a.putBack(kept, err == nil && short == nil)
	return att, short, err
}

// takeAndClaim takes what is short, unless somebody else just did: a hundred
// first containers of a network take one subnet, not a hundred.
func (a *Attachments) takeAndClaim(ctx context.Context, r Request, networks map[string]cluster.Network, short shortage) (cluster.Attachment, *shortage, error) {
	var none cluster.Attachment
	if !short.exact.IsSingleIP() { // those are held by who claims
		unlock, err := a.networks.lock(ctx, short.network.Name)
		if err != nil {
			return none, nil, because(r.verb()+": wait for "+short.String(), err, codes.Unavailable)
		}
		defer unlock()
	}

	att, still, err := a.tryClaim(r, networks)
	if err != nil || still == nil || !still.same(short) {
		return att, still, err
	}
	taken, err := a.take(ctx, *still)
	if err != nil {
		return none, nil, because(r.verb()+": take "+short.String(), err, codes.Unavailable)
	}
	a.cfg.Log.Info("subnet taken", "network", taken.Network, "subnet", taken.Prefix)
	att, again, err := a.tryClaim(r, networks)
	if err == nil && again != nil && again.same(short) && a.unused(taken) {
		// Others may have been quicker; but a subnet that is of no use to anybody
		// must not be taken for ever.
		return none, nil, refuse(codes.ResourceExhausted, "%s: subnet %s of network %s has no address left: use a larger subnet per host", r.verb(), taken.Prefix, taken.Network)
	}
	return att, again, err
}

func (a *Attachments) take(ctx context.Context, s shortage) (cluster.Lease, error) {
	if s.exact.IsValid() {
		return a.cfg.Subnets.TakeThis(ctx, s.network, s.exact)
	}
	return a.cfg.Subnets.Take(ctx, s.network, s.pool)
}

func (a *Attachments) unused(l cluster.Lease) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return !a.index.busy(l.Network, l.Prefix)
}

func (a *Attachments) release(id string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.index.remove(id)
}

// settle waits for a pass and returns why rows of the attachment are not in
// place after it.
func (a *Attachments) settle(ctx context.Context, verb string, att cluster.Attachment) error {
	rep, err := a.cfg.Loop.Settle(ctx, scopeOf(att))
	if err != nil {
		return because(verb+": wait for its interfaces", err, codes.Unavailable)
	}
	if err := rep.Failure(plan.Concerns(att)); err != nil {
		return refuse(codeOf(err), "%s: %v", verb, err)
	}
	return planned(verb, att, a.cfg.Loop.Plan())
}

// planned returns an error if the plan has no place for an interface: then no
// row of it could fail, and none is there.
func planned(verb string, att cluster.Attachment, p plan.Result) error {
	if att.Stage.Lent() {
		return nil // nothing of it is wanted just now
	}
	for _, i := range att.Interfaces {
		if _, ok := p.State.Links[dataplane.LinkKey{NS: dataplane.NSOf(att), Name: i.Name}]; ok {
			continue
		}
		for _, pr := range p.Problems {
			if pr.Subject == "underlay" || pr.Subject == "network "+i.Network || pr.Subject == "container "+att.Name+" on network "+i.Network {
				return refuse(codes.FailedPrecondition, "%s: %s: %s: %s", verb, pr.Subject, pr.What, pr.Hint)
			}
		}
		return refuse(codes.FailedPrecondition, "%s: network %s has no place in the plan of this host: see `ovlctl agent status`", verb, i.Network)
	}
	return nil
}

// scopeOf names what is to be read for an attachment: its namespace, of which
// nothing is known yet. The host's links are known, as far as they are ours, and
// they are a thousand among a thousand containers.
func scopeOf(att cluster.Attachment) dataplane.Scope {
	if att.NetNS == "" && att.Stage != cluster.Placed {
		return nil // on the host, of which is known what is ours
	}
	return dataplane.Scope{dataplane.NSOf(att): dataplane.NSTables}
}

// rollBack undoes what a failed request began, also if its caller has gone.
func (a *Attachments) rollBack(ctx context.Context, att cluster.Attachment) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanUp)
	defer cancel()
	if err := a.remove(ctx, att); err != nil {
		a.cfg.Log.Error("a failed attachment could not be taken back: it remains", "container", att.Name, "id", att.ID, "err", err)
	}
}

func addresses(att cluster.Attachment) []string {
	var out []string
	for _, i := range att.Interfaces {
		for _, p := range i.Addrs {
			out = append(out, i.Network+"="+p.Addr().String())
		}
	}
	return out
}
