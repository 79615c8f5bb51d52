package store

import (
	"context"
	"time"
)

// applyList replaces the copies of the subscriptions by what a complete list
// holds, and reports whether anything changed. A list older than a copy is not
// applied, since the copy includes it, unless it is known to be the store's
// present state: then the store itself went back, to a backup. The error is ctx's:
// then nothing was applied.
func (m *Mirror) applyList(ctx context.Context, subs []*subscription, page Page, present bool) (changed bool, err error) {
	decoded, err := m.decode(ctx, subs, page)
	if err != nil {
		return false, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	wasLive := m.liveLocked()
	for _, s := range subs {
		if m.subs[s.prefix] != s || !present && page.Revision < s.revision {
			continue
		}
		if s.replace(page, decoded) {
			m.touch()
			changed = true
		}
	}
	live := m.liveLocked()
	if live {
		m.seed = nil
	}
	return m.heard(nil) || live != wasLive || changed, nil
}

// applyBatch applies the events of a watch and returns what they are about. What
// a list has brought already is passed over.
func (m *Mirror) applyBatch(s *subscription, b Batch) (what news) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.subs[s.prefix] != s {
		return 0
	}
	if len(b.Events) > bulk {
		s.sorted = nil
	}
	for _, ev := range b.Events {
		if ev.Record.ModRev > s.revision && covers(s.prefix, ev.Record.Key) {
			s.apply(ev)
			what |= newsOf(ev.Record.Key)
		}
	}
	if what != 0 {
		m.touch()
	}
	s.revision = max(s.revision, b.Revision)
	if m.heard(nil) {
		what |= newFacts
	}
	return what
}

// heard notes that the store answered, or why it did not, and reports whether
// that is news. The lock is held.
func (m *Mirror) heard(err error) (changed bool) {
	connected := err == nil
	changed = connected != m.status.Connected
	if changed || m.status.Since.IsZero() {
		m.status.Since = time.Now()
	}
	m.status.Connected, m.status.Err = connected, err
	return changed
}
