package mem

import (
	"maps"
	"slices"
	"time"

	"github.com/ovlnet/ovl/internal/store"
)

// lease is one lease. The timer ends it.
type lease struct {
	ttl   time.Duration
	timer *time.Timer
	keys  map[string]struct{}
}

func (s *Store) grant(ttl time.Duration) store.LeaseID {
	ttl = max((ttl + time.Second - 1).Truncate(time.Second), time.Second)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lastLease++
	id := s.lastLease
	s.leases[id] = &lease{
		ttl:   ttl,
		timer: time.AfterFunc(ttl, func() { s.end(id) }),
		keys:  map[string]struct{}{},
	}
	return id
}

func (s *Store) renew(id store.LeaseID) (time.Duration, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	l := s.leases[id]
	// A timer that has fired and waits for the lock has ended its lease.
	if l == nil || !l.timer.Stop() {
		return 0, store.ErrLeaseGone
	}
	l.timer.Reset(l.ttl)
	return l.ttl, nil
}

// end deletes a lease and, in one revision, its keys.
func (s *Store) end(id store.LeaseID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	l := s.leases[id]
	if l == nil {
		return
	}
	l.timer.Stop()
	var writes []store.Write
	for _, key := range slices.Sorted(maps.Keys(l.keys)) {
		writes = append(writes, store.Delete(key))
	}
	s.write(writes)
	delete(s.leases, id)
}

// stopLeases stops the clocks of all leases.
func (s *Store) stopLeases() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, l := range s.leases {
		l.timer.Stop()
	}
}
