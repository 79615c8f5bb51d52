package resolver

import (
	"context"
	"log/slog"
	"maps"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/miekg/dns"

	"github.com/ovlnet/ovl/internal/cluster"
	"github.com/ovlnet/ovl/internal/dataplane"
)

// Facts are what names are answered from. None of it may be changed later.
type Facts struct {
	Self     cluster.HostID
	Snapshot *cluster.Snapshot
	// Attachments are this host's own, as its journal says.
	Attachments []cluster.Attachment
	// Wanted is what the last pass of the loop wanted: a network whose bridge has
	// addresses in it is listened on at those.
	Wanted dataplane.State
	// NameAddr is an address at which every network is answered, besides its gateways,
	// and so are Bridges, links of this host that are not ours: those learn what is
	// none of our names. The zero Addr: nobody asks there.
	NameAddr netip.Addr
	Bridges  []string
}

// Config is what a Resolver is made of.
type Config struct {
	// Facts returns the newest facts.
	Facts func() Facts
	// ResolvConf is the file that names the host's resolvers; empty:
	// /etc/resolv.conf.
	ResolvConf string
	// Answered, if set, is told the outcome of each question: own, forwarded,
	// refused or busy.
	Answered func(outcome string)
	Log      *slog.Logger
}

// Resolver answers the containers of one host. New makes one, Sync brings it up
// to date, Run closes it in the end.
type Resolver struct {
	cfg     Config
	names   atomic.Pointer[Names]
	turns   *turns
	forward *forwarder

	mu        sync.Mutex
	closed    bool
	seen      Facts         // that the names are of
	spots     map[spot]bool // that follow from them
	listeners map[spot]*listener
	rooms     map[string]chan struct{} // by network: questions being forwarded
	failing   map[spot]string          // why a spot is not listened on
	own       atomic.Pointer[map[netip.Addr]bool]
}

// New returns a resolver that listens nowhere yet.
func New(cfg Config) *Resolver {
	if cfg.ResolvConf == "" {
		cfg.ResolvConf = "/etc/resolv.conf"
	}
	if cfg.Answered == nil {
		cfg.Answered = func(string) {}
	}
	r := &Resolver{cfg: cfg, turns: newTurns(), listeners: map[spot]*listener{}, rooms: map[string]chan struct{}{}, failing: map[spot]string{}}
	r.names.Store(&Names{})
	r.own.Store(&map[netip.Addr]bool{})
	r.forward = &forwarder{
		upstreams: newUpstreams(cfg.ResolvConf, func(a netip.Addr) bool { return (*r.own.Load())[a] }),
		cache:     newCache(), exchange: send,
	}
	return r
}

// again is how often it is looked whether all that should be listened on is, in
// case nothing else wakes: somebody else's server may have left port 53.
const again = 5 * time.Second

// Run keeps the resolver listening until ctx is done, then closes it.
func (r *Resolver) Run(ctx context.Context) error {
	tick := time.NewTicker(again)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			r.close() //nolint:contextcheck // opening sockets waits for nothing
			return nil
		case <-tick.C:
			r.Sync() //nolint:contextcheck // opening sockets waits for nothing
		}
	}
}

// Sync takes up the newest facts. When it returns, questions are answered from
// them, and every gateway is listened on that can be. It is to be called after
// every pass of the loop, and costs microseconds when nothing has changed.
func (r *Resolver) Sync() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return
	}
	facts := r.cfg.Facts()
	spots := spotsOf(facts)
	if facts.Snapshot != r.seen.Snapshot || !maps.Equal(spots, r.spots) || !sameList(facts.Attachments, r.seen.Attachments) {
		r.names.Store(r.names.Load().next(facts.Self, networksOf(facts.Snapshot, spots), facts.Snapshot, facts.Attachments))
		r.seen, r.spots = facts, spots
	}
	r.listen(spots)
}

// sameList reports whether two lists of attachments are one: whoever keeps them
// makes a new one when something has changed, and to compare a thousand would
// cost more than to take them up again.
func sameList(a, b []cluster.Attachment) bool {
	return len(a) == len(b) && (len(a) == 0 || &a[0] == &b[0])
}

func (r *Resolver) close() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.closed = true
	r.listen(nil)
}

// handler answers the questions that come in on one network.
type handler struct {
	*Resolver
	network string
	room    chan struct{} // of those being forwarded
}

// ServeDNS implements [dns.Handler].
func (h handler) ServeDNS(w dns.ResponseWriter, req *dns.Msg) {
	from, stream := asker(w)
	reply, outcome := h.reply(req, from)
	h.cfg.Answered(outcome)
	// A client that has gone needs no answer.
	_ = w.WriteMsg(finish(req, reply, stream))
}

// The outcomes of a question.
const (
	OutcomeOwn       = "own"       // answered from the cluster's facts
	OutcomeForwarded = "forwarded" // answered by the host's resolvers
	OutcomeRefused   = "refused"   // from an internal network about the outside, or not about the Internet
	OutcomeBusy      = "busy"      // too many are being forwarded for this network
)

// reply answers a question from that address on the handler's network.
func (h handler) reply(req *dns.Msg, from netip.Addr) (m *dns.Msg, outcome string) {
	view := h.names.Load().View(h.network, from)
	q := req.Question[0]
	if m := view.Answer(req, h.turns.next(q)); m != nil {
		return m, OutcomeOwn
	}
	if !view.Forwards() || q.Qclass != dns.ClassINET || notForwarded[q.Qtype] {
		return refuse(req, dns.RcodeRefused), OutcomeRefused
	}
	select {
	case h.room <- struct{}{}:
		defer func() { <-h.room }()
		return h.forward.answer(req), OutcomeForwarded
	default:
		return refuse(req, dns.RcodeServerFailure), OutcomeBusy
	}
}

// notForwarded are the types of transfers and of what belongs to one hop.
var notForwarded = map[uint16]bool{
	dns.TypeAXFR: true, dns.TypeIXFR: true, dns.TypeOPT: true, dns.TypeTSIG: true, dns.TypeTKEY: true,
	dns.TypeMAILA: true, dns.TypeMAILB: true, dns.TypeNone: true,
}
