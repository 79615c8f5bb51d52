package store

import (
	"bytes"
	"maps"
	"slices"
	"strings"
)

// subscription is a mirror's copy of one prefix.
type subscription struct {
	prefix   string
	held     map[string]*fact
	sorted   []*fact // those held, in the order of a snapshot; nil = sort it
	revision int64   // up to which held is complete
	listed   bool    // since Run started
	// kept are facts whose records others than their hosts may have deleted.
	kept map[string]*keptFact
	// court judges what hosts have signed.
	court *court
}

// bulk is how many events are worth sorting anew for; fewer are put into their
// places.
const bulk = 64

// newSubscription returns a copy that begins with what is already known.
func newSubscription(prefix string, c *court, known ...[]*fact) *subscription {
	s := &subscription{prefix: prefix, held: map[string]*fact{}, kept: map[string]*keptFact{}, court: c}
	for _, facts := range known {
		for _, f := range facts {
			s.begin(f)
		}
	}
	return s
}

// begin keeps a record of unknown age unless a younger one is there.
func (s *subscription) begin(f *fact) {
	if old, ok := s.held[f.Key]; covers(s.prefix, f.Key) && (!ok || old.ModRev < f.ModRev) {
		s.remove(f.Key)
		s.insert(f)
	}
}

// replace makes the copy what the page holds of it. Of what differs, decoded may
// hold what it says.
func (s *subscription) replace(page Page, decoded map[string]*fact) (changed bool) {
	back := page.Revision < s.revision // the store was restored: what it does not say is not so
	s.revision, s.listed = page.Revision, true
	before := s.held
	s.held = make(map[string]*fact, len(before))
	for _, r := range page.Records {
		if !covers(s.prefix, r.Key) {
			continue
		}
		old := before[r.Key]
		if old != nil && sameRecord(old.Record, r) {
			s.held[r.Key] = old
			continue
		}
		f := decoded[r.Key]
		if f == nil || !sameRecord(f.Record, r) {
			f = decodeFact(r)
		}
		if !back {
			s.succeed(f, old)
		}
		s.held[r.Key] = f
		changed = true
	}
	for key, old := range before {
		if s.held[key] == nil {
			changed = true
			if !back {
				s.keep(old)
			}
		}
	}
	if back {
		clear(s.kept)
	}
	if changed {
		s.sorted = nil
		s.turn()
	}
	return changed
}

// apply applies one event of a watch.
func (s *subscription) apply(ev Event) {
	old := s.held[ev.Record.Key]
	s.remove(ev.Record.Key)
	if ev.Deleted {
		s.keep(old)
		return
	}
	f := decodeFact(ev.Record)
	s.succeed(f, old)
	s.insert(f)
}

func (s *subscription) insert(f *fact) {
	s.held[f.Key] = f
	s.turn()
	if s.sorted != nil {
		i, _ := slices.BinarySearchFunc(s.sorted, f, compareFacts)
		s.sorted = slices.Insert(s.sorted, i, f)
	}
}

func (s *subscription) remove(key string) {
	old, ok := s.held[key]
	if !ok {
		return
	}
	delete(s.held, key)
	s.turn()
	if s.sorted != nil {
		i, _ := slices.BinarySearchFunc(s.sorted, old, compareFacts)
		s.sorted = slices.Delete(s.sorted, i, i+1)
	}
}

// inOrder returns what the records say in the order of a snapshot, so that
// building one copies and compares, but moves nothing.
func (s *subscription) inOrder() []*fact {
	if s.sorted == nil {
		s.sorted = make([]*fact, 0, len(s.held))
		s.sorted = slices.AppendSeq(s.sorted, maps.Values(s.held))
		slices.SortFunc(s.sorted, compareFacts)
	}
	return s.sorted
}

// covers reports whether key is one that prefix asks for.
func covers(prefix, key string) bool {
	return key == prefix || strings.HasSuffix(prefix, "/") && strings.HasPrefix(key, prefix)
}

// sameRecord reports whether two records are one, content included: a store
// restored from a backup may give one revision to two contents.
func sameRecord(a, b Record) bool {
	return a.ModRev == b.ModRev && a.CreateRev == b.CreateRev && a.Lease == b.Lease && bytes.Equal(a.Value, b.Value)
}
