package store

import (
	"context"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/ovlnet/ovl/internal/cluster"
)

// MirrorConfig is what a Mirror needs.
type MirrorConfig struct {
	KV  KV
	Log *slog.Logger
	// Relist is how often everything is read again although the watches run,
	// ±10 %: watches have lost events before. 0 = 5 minutes.
	Relist time.Duration
	// Changed, if set, is called after the copy or its liveness changed, once
	// per batch of changes, by [Mirror.Run] or [Mirror.Refresh] and with no lock
	// held. It must not block.
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

	mu       sync.Mutex
	subs     map[string]*subscription // by prefix; none covers another
	seed     []Record                 // from disk, until the first complete list
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
	return &Mirror{
		cfg:     cfg,
		wake:    make(chan struct{}, 1),
		listing: make(chan struct{}, 1),
		subs:    map[string]*subscription{},
	}
}

// SetPrefixes says what to keep: of an argument that ends in a slash, every
// record whose key begins with it; of any other, the record of that key. What is
// new is listed and watched by Run; what is no longer named is forgotten at
// once. Changed is not called for that: the caller knows.
func (m *Mirror) SetPrefixes(prefixes ...string) {
	want := map[string]bool{}
	for _, p := range prefixes {
		if !slices.ContainsFunc(prefixes, func(o string) bool { return o != p && covers(o, p) }) {
			want[p] = true
		}
	}
	m.mu.Lock()
	before := m.recordsLocked()
	changed := false
	for p := range m.subs {
		if !want[p] {
			delete(m.subs, p)
			changed = true
		}
	}
	for p := range want {
		if m.subs[p] == nil {
			m.subs[p] = newSubscription(p, before, m.seed)
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
// its first live list, which replaces them.
func (m *Mirror) Load(records []Record) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.seed = slices.Clone(records)
	for _, s := range m.subs {
		if s.listed {
			continue
		}
		for _, r := range records {
			s.begin(r)
		}
	}
	m.touch()
}

// Records returns the raw records of the copy, sorted by key, for a copy on
// disk. The values are shared: do not change them.
func (m *Mirror) Records() []Record {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.recordsLocked()
}

func (m *Mirror) recordsLocked() []Record {
	var records []Record
	for _, s := range m.subs {
		for _, h := range s.held {
			records = append(records, h.Record)
		}
	}
	slices.SortFunc(records, func(a, b Record) int { return strings.Compare(a.Key, b.Key) })
	return records
}

// Snapshot returns the facts in the copy and what is wrong with its records. It
// is built once per change. Callers must not change what it returns.
func (m *Mirror) Snapshot() (*cluster.Snapshot, []cluster.Problem) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.snapshot == nil {
		var b snapshotBuilder
		for _, s := range m.subs {
			b.add(s.inOrder())
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
	return len(m.subs) > 0
}

// Refresh lists every prefix now and returns when the copy includes the result.
// It needs no Run.
func (m *Mirror) Refresh(ctx context.Context) error {
	select {
	case m.listing <- struct{}{}:
		defer func() { <-m.listing }()
	case <-ctx.Done():
		return ctx.Err()
	}
	subs := m.current()
	page, err := m.cfg.KV.Range(ctx, prefixesOf(subs)...)
	if err != nil {
		return err
	}
	if m.applyList(subs, page, false) {
		m.cfg.Changed()
	}
	return nil
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
