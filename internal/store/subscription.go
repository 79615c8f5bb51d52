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
	held     map[string]held
	sorted   []*fact // what held says, in the order of a snapshot; nil = sort it
	revision int64   // up to which held is complete
	listed   bool    // since Run started
}

// held is a record and what it says, decoded once.
type held struct {
	Record
	fact *fact
}

// bulk is how many events are worth sorting anew for; fewer are put into their
// places.
const bulk = 64

// newSubscription returns a copy that begins with what is already known.
func newSubscription(prefix string, known ...[]Record) *subscription {
	s := &subscription{prefix: prefix, held: map[string]held{}}
	for _, records := range known {
		for _, r := range records {
			s.begin(r)
		}
	}
	return s
}

// begin keeps a record of unknown age unless a younger one is there.
func (s *subscription) begin(r Record) {
	if old, ok := s.held[r.Key]; covers(s.prefix, r.Key) && (!ok || old.ModRev < r.ModRev) {
		s.put(r)
	}
}

// replace makes the copy what the page holds of it, decoding only what differs.
func (s *subscription) replace(page Page) (changed bool) {
	s.revision, s.listed = page.Revision, true
	found := make(map[string]held, len(s.held))
	for _, r := range page.Records {
		if !covers(s.prefix, r.Key) {
			continue
		}
		h, ok := s.held[r.Key]
		if !ok || !sameRecord(h.Record, r) {
			h = held{r, decodeFact(r)}
			changed = true
		}
		found[r.Key] = h
	}
	// Nothing new and as many as before is nothing gone either.
	changed = changed || len(found) != len(s.held)
	s.held = found
	if changed {
		s.sorted = nil
	}
	return changed
}

// apply applies one event of a watch.
func (s *subscription) apply(ev Event) {
	if ev.Deleted {
		s.remove(ev.Record.Key)
		return
	}
	s.put(ev.Record)
}

func (s *subscription) put(r Record) {
	s.remove(r.Key)
	f := decodeFact(r)
	s.held[r.Key] = held{r, f}
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
	if s.sorted != nil {
		i, _ := slices.BinarySearchFunc(s.sorted, old.fact, compareFacts)
		s.sorted = slices.Delete(s.sorted, i, i+1)
	}
}

// inOrder returns what the records say in the order of a snapshot, so that
// building one copies and compares, but moves nothing.
func (s *subscription) inOrder() []*fact {
	if s.sorted == nil {
		s.sorted = make([]*fact, 0, len(s.held))
		for h := range maps.Values(s.held) {
			s.sorted = append(s.sorted, h.fact)
		}
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
