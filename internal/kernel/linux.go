package kernel

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/ovlnet/ovl/internal/dataplane"
	"github.com/ovlnet/ovl/internal/reconcile"
)

// Config is what a Linux needs.
type Config struct {
	Log *slog.Logger // nil = discard
	// Sysctls is the directory in which the kernel's parameters are; empty:
	// /proc/sys. In a container that is for reading alone.
	Sysctls string
}

// defaultSysctls is where the kernel's parameters are.
const defaultSysctls = "/proc/sys"

// Linux is the kernel of this host; the host's namespace is the one of the
// process when it was made. It implements [reconcile.Kernel]. Its methods may
// be called from several goroutines; they take turns.
type Linux struct {
	log      *slog.Logger
	mu       sync.Mutex
	host     *space
	visits   visits
	firewall *firewall
	nft      *nft
	noGuard  [2]bool // by NFTable: this kernel cannot have it
	// kinds holds the kinds of the host's links of ours by index, as last read.
	kinds atomic.Pointer[map[int32]dataplane.LinkKind]
	// near holds the permanent neighbours on bridges of ours, as last read.
	near atomic.Pointer[map[nearKey]bool]
	// factual holds the indexes of the links of which the facts of the host are,
	// as last read.
	factual atomic.Pointer[map[int32]bool]
}

var (
	_ reconcile.Kernel  = (*Linux)(nil)
	_ reconcile.Grouper = (*Linux)(nil)
)

// New opens the kernel. It fails, in one line that says what to install, where
// iptables is missing.
func New(cfg Config) (*Linux, error) {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	fw, err := findFirewall()
	if err != nil {
		return nil, err
	}
	f, err := openNS(dataplane.NS("/proc/thread-self/ns/net"))
	if err != nil {
		return nil, fmt.Errorf("open the host's network namespace: %w", err)
	}
	c, err := openConn()
	if err != nil {
		_ = f.Close()
		return nil, err
	}
	n, err := openNFT()
	if err != nil {
		_ = f.Close()
		c.close()
		return nil, err
	}
	fw.nft, fw.generation = n, n.generation
	l := &Linux{log: cfg.Log, firewall: fw, nft: n, host: &space{ns: dataplane.Host, conn: c, file: f, sysctls: cmp.Or(cfg.Sysctls, defaultSysctls), index: map[string]int32{}}}
	for _, in := range nftTables {
		if err := n.able(in); err != nil {
			l.noGuard[in] = true
			cfg.Log.Warn("nf_tables of this kernel lacks something", "table", in, "err", err)
		}
	}
	cfg.Log.Debug("kernel opened", "firewall", fw.String())
	return l, nil
}

// Close releases what New opened. What was written to the kernel stays.
func (l *Linux) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.visits.close()
	l.host.conn.close()
	l.nft.conn.close()
	return l.host.file.Close()
}

// Legacy reports whether the firewall in use is iptables-legacy, which tells
// nobody of changes: its chains must be looked at now and then.
func (l *Linux) Legacy() bool { return l.firewall.legacy }

// Apply implements [reconcile.Kernel].
func (l *Linux) Apply(ctx context.Context, op dataplane.Op) error {
	if err := ctx.Err(); err != nil {
		return &reconcile.Error{Class: reconcile.Again, Op: op, Err: err}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return failure(op, l.apply(ctx, op))
}

func (l *Linux) apply(ctx context.Context, op dataplane.Op) error {
	switch r := op.Row.(type) {
	case dataplane.Set:
		return l.nft.applySet(op.Verb, r)
	case dataplane.Element:
		return l.nft.applyElement(op.Verb, r)
	case dataplane.Flow:
		return l.applyFlow(op.Verb, r)
	case dataplane.Guard:
		return l.nft.applyGuard(op.Verb, r)
	case dataplane.Chain:
		return l.firewall.applyChain(ctx, op.Verb, r)
	case dataplane.Jump:
		return l.firewall.applyJump(ctx, op.Verb, r)
	}
	s, err := l.enter(op.Row.Key().Namespace())
	switch {
	case errors.Is(err, errNSGone) && op.Verb == dataplane.Delete:
		return nil // it took its rows along
	case err != nil:
		return err
	}
	switch r := op.Row.(type) {
	case dataplane.Link:
		return l.applyLink(s, op.Verb, r)
	case dataplane.Qdisc:
		return s.applyQdisc(op.Verb, r)
	case dataplane.Addr:
		return s.applyAddr(op.Verb, r)
	case dataplane.Sysctl:
		return l.applySysctl(s, op.Verb, r)
	case dataplane.Neigh:
		return s.applyNeigh(op.Verb, r)
	case dataplane.FDB:
		return s.applyFDB(op.Verb, r)
	case dataplane.Route:
		return s.applyRoute(op.Verb, r)
	}
	return refusal("a row of an unknown table")
}

// attempts is how often an interrupted dump is begun again. Each takes a few
// milliseconds, so that more than a few in a row mean constant change.
const attempts = 5

// Observe implements [reconcile.Kernel].
func (l *Linux) Observe(ctx context.Context, scope dataplane.Scope) (dataplane.State, dataplane.Facts, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	var (
		state dataplane.State
		facts dataplane.Facts
	)
	namespaces := make([]dataplane.NS, 0, len(scope))
	for ns := range scope {
		namespaces = append(namespaces, ns)
	}
	slices.Sort(namespaces)
	for _, ns := range namespaces {
		if err := ctx.Err(); err != nil {
			return dataplane.State{}, dataplane.Facts{}, err
		}
		rows, host, err := l.observeAgain(ctx, ns, scope[ns])
		switch {
		case errors.Is(err, errNSGone):
			facts.Gone = append(facts.Gone, ns)
			continue
		case err != nil:
			return dataplane.State{}, dataplane.Facts{}, fmt.Errorf("observe %s: %w", ns, err)
		}
		merge(&state, rows)
		if host != nil {
			facts.Host = host
		}
	}
	return state, facts, nil
}

// observeAgain observes one namespace until no dump is interrupted.
func (l *Linux) observeAgain(ctx context.Context, ns dataplane.NS, tables dataplane.Tables) (rows dataplane.State, host *dataplane.HostFacts, err error) {
	for range attempts {
		rows, host, err = l.observe(ctx, ns, tables)
		if !errors.Is(err, errInterrupted) {
			return rows, host, err
		}
	}
	return rows, host, err
}

func (l *Linux) observe(ctx context.Context, ns dataplane.NS, tables dataplane.Tables) (dataplane.State, *dataplane.HostFacts, error) {
	s, err := l.enter(ns)
	if err != nil {
		return dataplane.State{}, nil, err
	}
	o := observation{linux: l, space: s, tables: tables}
	if err := o.read(ctx); err != nil {
		return dataplane.State{}, nil, err
	}
	return o.state, o.facts, nil
}

// kindOf returns the kind of the host's link of that index, if it was ours when
// the links were last read. It may be called at any time.
func (l *Linux) kindOf(index int32) (dataplane.LinkKind, bool) {
	kinds := l.kinds.Load()
	if kinds == nil {
		return "", false
	}
	kind, ok := (*kinds)[index]
	return kind, ok
}

// isFact reports whether the facts of the host are of the link of that index,
// among others. It may be called at any time; before the first reading every link
// may be such.
func (l *Linux) isFact(index int32) bool {
	factual := l.factual.Load()
	return factual == nil || (*factual)[index]
}

// merge puts the rows of one namespace, which share no key with those of
// another, into the state.
func merge(into *dataplane.State, rows dataplane.State) {
	put(&into.Sets, rows.Sets)
	put(&into.Elements, rows.Elements)
	put(&into.Guards, rows.Guards)
	put(&into.Flows, rows.Flows)
	put(&into.Links, rows.Links)
	put(&into.Qdiscs, rows.Qdiscs)
	put(&into.Addrs, rows.Addrs)
	put(&into.Sysctls, rows.Sysctls)
	put(&into.Neighs, rows.Neighs)
	put(&into.FDB, rows.FDB)
	put(&into.Chains, rows.Chains)
	put(&into.Jumps, rows.Jumps)
	put(&into.Routes, rows.Routes)
}

func put[K comparable, V any](into *map[K]V, rows map[K]V) {
	if *into == nil {
		*into = rows
		return
	}
	maps.Copy(*into, rows)
}
