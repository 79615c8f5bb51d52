package mem

import (
	"slices"
	"strings"
	"sync"

	"github.com/ovlnet/ovl/internal/store"
)

// Store is a store and at the same time one client of it; [Store.Client] makes
// more. Its zero value is not usable: see [New].
type Store struct {
	*Client

	mu        sync.Mutex
	rev       int64
	compacted int64    // history before it is gone; 0 = nothing is
	keys      []string // sorted
	records   map[string]store.Record
	history   []change // ordered by revision
	leases    map[store.LeaseID]*lease
	lastLease store.LeaseID
	changed   chan struct{} // closed and replaced at every write and compaction
	gate      gate          // of all clients
}

// change is one event of the history; several may have one revision.
type change struct {
	rev int64
	ev  store.Event
}

// New returns an empty store, at revision 1 as a new etcd is.
func New() *Store {
	s := &Store{
		rev:     1,
		records: map[string]store.Record{},
		leases:  map[store.LeaseID]*lease{},
		changed: make(chan struct{}),
		gate:    newGate(),
	}
	s.Client = s.NewClient()
	return s
}

// SetAvailable says whether any client reaches the store. While none does,
// calls fail with [store.ErrUnavailable] and watches stall; both go on after.
// Leases age all the same, as they do in a cluster behind a broken link.
func (s *Store) SetAvailable(available bool) { s.gate.set(available) }

// Compact forgets the history before rev, which then is the oldest revision
// that a watch can begin at. It does nothing if rev is already compacted.
func (s *Store) Compact(rev int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	rev = min(rev, s.rev)
	if rev <= s.compacted {
		return
	}
	s.compacted = rev
	i, _ := slices.BinarySearchFunc(s.history, rev, func(c change, rev int64) int { return int(c.rev - rev) })
	s.history = slices.Clone(s.history[i:])
	s.wake()
}

// Revision returns the revision of the last write.
func (s *Store) Revision() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.rev
}

// read returns the records under the prefixes, sorted, each once.
func (s *Store) read(prefixes []string) store.Page {
	s.mu.Lock()
	defer s.mu.Unlock()
	page := store.Page{Revision: s.rev}
	for _, prefix := range store.Outermost(prefixes) {
		for _, key := range s.under(prefix) {
			page.Records = append(page.Records, copyRecord(s.records[key]))
		}
	}
	return page
}

// under returns the keys that begin with prefix.
func (s *Store) under(prefix string) []string {
	lo, _ := slices.BinarySearch(s.keys, prefix)
	hi := lo
	for hi < len(s.keys) && strings.HasPrefix(s.keys[hi], prefix) {
		hi++
	}
	return s.keys[lo:hi:hi]
}

// txn is [store.KV.Txn] under the lock.
func (s *Store) txn(conds []store.Cond, writes []store.Write) (int64, error) {
	if err := checkTxn(conds, writes); err != nil {
		return 0, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range conds {
		if !s.holds(c) {
			return 0, store.ErrConflict
		}
	}
	for _, w := range writes {
		if !w.Delete && w.Lease != 0 && s.leases[w.Lease] == nil {
			return 0, store.ErrLeaseGone
		}
	}
	s.write(writes)
	return s.rev, nil
}

func (s *Store) holds(c store.Cond) bool {
	if c.Prefix {
		for _, key := range s.under(c.Key) {
			if !matches(c, s.records[key]) {
				return false
			}
		}
		return true
	}
	return matches(c, s.records[c.Key])
}

// matches compares a record, or the zero one where there is none, as etcd does:
// what is absent has the revisions 0.
func matches(c store.Cond, r store.Record) bool {
	if c.Kind == store.CondModRev {
		return r.ModRev == c.Rev
	}
	return r.CreateRev == c.Rev
}

// write makes the writes as one revision. One that changes nothing is none.
func (s *Store) write(writes []store.Write) {
	rev := s.rev + 1
	before := len(s.history)
	for _, w := range writes {
		switch {
		case !w.Delete:
			s.put(rev, w)
		case w.Prefix:
			for _, key := range slices.Clone(s.under(w.Key)) {
				s.remove(rev, key)
			}
		default:
			s.remove(rev, w.Key)
		}
	}
	if len(s.history) > before {
		s.rev = rev
		s.wake()
	}
}

func (s *Store) put(rev int64, w store.Write) {
	old, exists := s.records[w.Key]
	rec := store.Record{Key: w.Key, Value: slices.Clone(w.Value), CreateRev: rev, ModRev: rev, Lease: w.Lease}
	if exists {
		rec.CreateRev = old.CreateRev
		s.unbind(old)
	} else {
		i, _ := slices.BinarySearch(s.keys, w.Key)
		s.keys = slices.Insert(s.keys, i, w.Key)
	}
	if w.Lease != 0 {
		s.leases[w.Lease].keys[w.Key] = struct{}{}
	}
	s.records[w.Key] = rec
	s.history = append(s.history, change{rev, store.Event{Record: rec}})
}

func (s *Store) remove(rev int64, key string) {
	old, exists := s.records[key]
	if !exists {
		return
	}
	s.unbind(old)
	delete(s.records, key)
	i, _ := slices.BinarySearch(s.keys, key)
	s.keys = slices.Delete(s.keys, i, i+1)
	s.history = append(s.history, change{rev, store.Event{Record: store.Record{Key: key, ModRev: rev}, Deleted: true}})
}

// unbind takes a record off its lease.
func (s *Store) unbind(r store.Record) {
	if l := s.leases[r.Lease]; l != nil {
		delete(l.keys, r.Key)
	}
}

func (s *Store) wake() {
	close(s.changed)
	s.changed = make(chan struct{})
}

func copyRecord(r store.Record) store.Record {
	r.Value = slices.Clone(r.Value)
	return r
}
