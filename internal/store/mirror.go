package store

import (
	"context"
	"crypto/x509"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/ovlnet/ovl/internal/cluster"
	"github.com/ovlnet/ovl/internal/identity"
)

// MirrorConfig is what a Mirror needs.
type MirrorConfig struct {
	KV  KV
	Log *slog.Logger
	// Relist is how often everything is read again although the watches run,
	// ±10 %: watches have lost events before. 0 = 5 minutes.
	Relist time.Duration
	// Roots, if set, are the CAs that the cluster trusts now: then the records of
	// hosts, subnets and endpoints count only if their hosts have signed them, and
	// the mirror follows the list of the hosts' certificates too.
	Roots func() []*x509.Certificate
	// Changed, if set, is called after the copy or its liveness changed, once
	// per batch of changes, by [Mirror.Run], [Mirror.Refresh] or a timer, and with
	// no lock held. It must not block.
	Changed func()
	// EndpointsChanged, if set, is called instead when all that changed is
	// endpoints: there are as many as containers, and nothing is planned from them.
	EndpointsChanged func()
}

// news is what a batch of changes is about.
type news uint8

const (
	newEndpoints news = 1 << iota
	newFacts          // anything else
)

// newsOf returns what a change of the record of that key is about.
func newsOf(key string) news {
	if strings.HasPrefix(key, endpointsRoot) {
		return newEndpoints
	}
	return newFacts
}

// tell passes news on.
func (m *Mirror) tell(n news) {
	switch n {
	case 0:
	case newEndpoints:
		m.cfg.EndpointsChanged()
	default:
		m.cfg.Changed()
	}
}

// Mirror keeps a decoded copy of all records under a set of prefixes that may
// change. What it shows is at any time what the store held, prefix by prefix, at
// a revision no older than [MirrorStatus] names: a list that failed or was cut short
// removes nothing, and a deletion is believed only from a complete live list or
// from a watch that began at one. All methods are safe for concurrent use.
type Mirror struct {
	cfg  MirrorConfig
	wake chan struct{} // the set of prefixes changed; one token
	// listing is held, by its one token, from before a list is asked for until
	// it is applied, so that of two lists the later one is applied later.
	listing chan struct{}

	witness identity.Witness // for those who ask about records of theirs

	mu       sync.Mutex
	subs     map[string]*subscription // by prefix; none covers another
	seed     []*fact                  // from disk, until the first complete list
	told     bool                     // what to keep
	court    *court
	status   MirrorStatus
	snapshot *cluster.Snapshot // nil = build it
	problems []cluster.Problem
}

// MirrorStatus says what a mirror's copy is worth.
type MirrorStatus struct {
	// Live: every prefix has been listed since Run started. Until then the copy
	// may be old, and what is missing in it may exist.
	Live bool
	// Connected: the last thing heard was no failure. A store that went away
	// while nothing changes is noticed at the next call of whoever calls next.
	Connected bool
	Since     time.Time // when Connected last changed
	Revision  int64     // the newest that was heard of
	Complete  int64     // up to which every prefix is complete; lags for those where nothing happens
	Err       error     // why not connected
}

// NewMirror returns a mirror of nothing; see [Mirror.SetPrefixes].
func NewMirror(cfg MirrorConfig) *Mirror {
	if cfg.Relist <= 0 {
		cfg.Relist = 5 * time.Minute
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Changed == nil {
		cfg.Changed = func() {}
	}
	if cfg.EndpointsChanged == nil {
		cfg.EndpointsChanged = cfg.Changed
	}
	m := &Mirror{
		cfg:     cfg,
		wake:    make(chan struct{}, 1),
		listing: make(chan struct{}, 1),
		subs:    map[string]*subscription{},
	}
	m.court = &court{roots: cfg.Roots, proved: map[cluster.HostID]identity.Print{}, handed: map[cluster.HostID]handover{}, age: 1, held: m.heldLocked, later: m.lapse}
	if cfg.Roots != nil {
		m.subs[CertificatesPrefix] = newSubscription(CertificatesPrefix, m.court)
	}
	return m
}

// heldLocked returns what the copy holds at a key.
func (m *Mirror) heldLocked(key string) *fact {
	for i := len(key); i >= 0; i = strings.LastIndexByte(key[:i], '/') {
		if s := m.subs[key[:min(i+1, len(key))]]; s != nil {
			return s.held[key]
		}
	}
	return nil
}

// lapse has the snapshot built again: something in it counts no longer.
func (m *Mirror) lapse() {
	m.mu.Lock()
	m.court.age++
	m.touch()
	m.mu.Unlock()
	m.cfg.Changed()
}

// SetPrefixes says what to keep: of an argument that ends in a slash, every
// record whose key begins with it; of any other, the record of that key. What is
// new is listed and watched by Run; what is no longer named is forgotten at
// once. Changed is not called for that: the caller knows.
func (m *Mirror) SetPrefixes(prefixes ...string) {
	if m.cfg.Roots != nil {
		prefixes = append(slices.Clone(prefixes), CertificatesPrefix)
	}
	want := map[string]bool{}
	for _, p := range prefixes {
		if !slices.ContainsFunc(prefixes, func(o string) bool { return o != p && covers(o, p) }) {
			want[p] = true
		}
	}
	m.mu.Lock()
	before := m.lastingLocked()
	changed := !m.told
	m.told = true
	for p := range m.subs {
		if !want[p] {
			delete(m.subs, p)
			changed = true
		}
	}
	for p := range want {
		if m.subs[p] == nil {
			m.subs[p] = newSubscription(p, m.court, before, m.seed)
			changed = true
		}
	}
	if changed {
		m.touch()
	}
	m.mu.Unlock()
	if changed {
		select {
		case m.wake <- struct{}{}:
		default:
		}
	}
}

// Load seeds the copy with records from disk. They stand for each prefix until
// its first live list, which replaces them. Their signatures were verified before
// they were written there, with the certificates among them.
func (m *Mirror) Load(records []Record) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.seed = make([]*fact, 0, len(records))
	for _, r := range records {
		m.seed = append(m.seed, decodeFact(r))
	}
	m.court.look()
	m.court.accept(m.seed)
	for _, s := range m.subs {
		if s.listed {
			continue
		}
		for _, f := range m.seed {
			s.begin(f)
		}
	}
	m.touch()
}

// Records returns the raw records of the copy, sorted by key, for a copy on
// disk; of those that hosts sign, the last ones that were believed. The values are
// shared: do not change them.
func (m *Mirror) Records() []Record {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.court.look()
	facts := m.lastingLocked()
	var records []Record
	for _, f := range facts {
		records = append(records, f.Record)
	}
	slices.SortFunc(records, func(a, b Record) int { return strings.Compare(a.Key, b.Key) })
	return records
}

func (m *Mirror) lastingLocked() []*fact {
	var facts []*fact
	for _, s := range m.subs {
		facts = append(facts, m.court.lasting(s)...)
	}
	return facts
}

// Snapshot returns the facts in the copy and what is wrong with its records. It
// is built once per change. Callers must not change what it returns.
func (m *Mirror) Snapshot() (*cluster.Snapshot, []cluster.Problem) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.court.look() {
		m.touch()
	}
	if m.snapshot == nil {
		var b snapshotBuilder
		for _, s := range m.subs {
			b.add(m.court.believed(s))
		}
		m.snapshot, m.problems = b.build()
	}
	return m.snapshot, m.problems
}

// Status returns what the copy is worth now.
func (m *Mirror) Status() MirrorStatus {
	m.mu.Lock()
	defer m.mu.Unlock()
	st := m.status
	st.Live = m.liveLocked()
	first := true
	for _, s := range m.subs {
		st.Revision = max(st.Revision, s.revision)
		if first || s.revision < st.Complete {
			st.Complete, first = s.revision, false
		}
	}
	return st
}

// liveLocked reports whether every prefix has been listed. A mirror of nothing
// is not live: nobody has told it what there is.
func (m *Mirror) liveLocked() bool {
	for _, s := range m.subs {
		if !s.listed {
			return false
		}
	}
	return len(m.subs) > 0 && m.told
}

// Refresh lists every prefix now and returns when the copy includes the result.
// It needs no Run.
func (m *Mirror) Refresh(ctx context.Context) error { return m.refresh(ctx, "") }

// refresh lists the subscription of that prefix, or all if it is empty.
func (m *Mirror) refresh(ctx context.Context, prefix string) error {
	select {
	case m.listing <- struct{}{}:
		defer func() { <-m.listing }()
	case <-ctx.Done():
		return ctx.Err()
	}
	subs := m.current()
	if prefix != "" {
		subs = slices.DeleteFunc(subs, func(s *subscription) bool { return s.prefix != prefix })
	}
	page, err := m.cfg.KV.Range(ctx, prefixesOf(subs)...)
	if err != nil {
		return err
	}
	changed, err := m.applyList(ctx, subs, page, false)
	if changed {
		m.cfg.Changed()
	}
	return err
}

// current returns the subscriptions, sorted by prefix.
func (m *Mirror) current() []*subscription {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.SortedFunc(maps.Values(m.subs), func(a, b *subscription) int { return strings.Compare(a.prefix, b.prefix) })
}

func prefixesOf(subs []*subscription) []string {
	prefixes := make([]string, 0, len(subs))
	for _, s := range subs {
		prefixes = append(prefixes, s.prefix)
	}
	return prefixes
}

// touch drops what was built from the copy.
func (m *Mirror) touch() { m.snapshot, m.problems = nil, nil }
