package store

import (
	"context"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/ovlnet/ovl/internal/cluster"
)

// Doubts returns, by key, why records of the signed kinds are not their hosts' own:
// for those who have read the store themselves. Records that cannot be decoded are
// not among them. An error means that it is not known, since the list of
// certificates cannot be read.
func (m *Mirror) Doubts(ctx context.Context, records []Record) (map[string]error, error) {
	if m.court.roots == nil {
		return nil, nil
	}
	claims := make([]claim, 0, len(records))
	for _, r := range records {
		if id := Claimant(r); id != "" {
			claims = append(claims, claim{r, id})
		}
	}
	doubts, late := m.doubts(claims)
	if !late {
		return doubts, nil
	}
	// A host that joined a moment ago may be among them.
	if err := m.refresh(ctx, CertificatesPrefix); err != nil {
		return nil, fmt.Errorf("read who the members are: %w", err)
	}
	doubts, _ = m.doubts(claims)
	return doubts, nil
}

// claim is a record of the signed kinds, and the host of which it says that it is.
type claim struct {
	Record
	host cluster.HostID
}

// Claimant returns the host of which a record of the signed kinds says that it is;
// none of other records, and of those that cannot be read.
func Claimant(r Record) cluster.HostID {
	var id cluster.HostID
	var err error
	switch {
	case strings.HasPrefix(r.Key, HostsPrefix):
		id, err = ParseHostKey(r.Key)
	case strings.HasPrefix(r.Key, subnetsRoot):
		var l cluster.Lease
		l, err = DecodeLease(r)
		id = l.Host
	case strings.HasPrefix(r.Key, endpointsRoot):
		_, id, _, err = ParseEndpointKey(r.Key)
	}
	if err != nil {
		return ""
	}
	return id
}

// doubts judges by the certificates that are known; late is whether the store has
// newer ones, for all that is known here.
func (m *Mirror) doubts(claims []claim) (doubts map[string]error, late bool) {
	signers := make([][]*signer, len(claims)) // each will do
	doubts = map[string]error{}
	m.mu.Lock()
	m.court.look()
	known := m.subs[CertificatesPrefix]
	for i, r := range claims {
		if f := m.heldLocked(r.Key); f != nil && sameRecord(f.Record, r.Record) && m.court.stands(f) {
			continue // as nearly all of those that the mirror follows
		}
		s, err := m.court.signer(r.host)
		if err != nil {
			doubts[r.Key] = err
			continue
		}
		signers[i] = append(signers[i], s)
		if last := m.court.last(r.host, r.Record); last != nil {
			signers[i] = append(signers[i], last)
		}
	}
	revision, listed := known.revision, known.listed
	m.mu.Unlock()
	for i, r := range claims {
		for _, s := range signers[i] {
			err := m.witness.Check(s.public, s.key, r.place(), r.Value)
			if err == nil {
				delete(doubts, r.Key)
				break
			}
			doubts[r.Key] = err
		}
		late = late || doubts[r.Key] != nil && (!listed || r.ModRev > revision)
	}
	return doubts, late
}

// decode returns what the records of a list say that the copy does not hold yet,
// with their signatures verified: by as many as there are processors, and before
// the lock is taken, since in a large cluster that takes a while.
func (m *Mirror) decode(ctx context.Context, subs []*subscription, page Page) (map[string]*fact, error) {
	fresh := m.fresh(subs, page)
	if len(fresh) < bulk {
		return nil, nil // they can be judged as they come
	}
	facts := make([]*fact, len(fresh))
	inParallel(context.WithoutCancel(ctx), len(fresh), func(i int) { facts[i] = decodeFact(fresh[i]) })
	signers := m.signers(ctx, facts)
	inParallel(ctx, len(facts), func(i int) {
		id, _ := facts[i].claimant()
		if s := signers[id]; s != nil {
			facts[i].compare(s)
		}
	})
	decoded := make(map[string]*fact, len(facts))
	for _, f := range facts {
		decoded[f.Key] = f
	}
	return decoded, ctx.Err()
}

// fresh returns the records of a page that the copy does not hold.
func (m *Mirror) fresh(subs []*subscription, page Page) []Record {
	if m.court.roots == nil {
		return nil
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.court.look()
	return slices.DeleteFunc(slices.Clone(page.Records), func(r Record) bool {
		return slices.ContainsFunc(subs, func(s *subscription) bool {
			f := s.held[r.Key]
			return f != nil && sameRecord(f.Record, r)
		})
	})
}

// signers returns the keys of the hosts that the facts are of: those that are known
// and those that are among the facts, which are proved here.
func (m *Mirror) signers(ctx context.Context, facts []*fact) map[cluster.HostID]*signer {
	m.mu.Lock()
	trusted := m.court.trusted
	m.mu.Unlock()
	proofs := make([]bool, len(facts))
	inParallel(ctx, len(facts), func(i int) {
		proofs[i] = facts[i].kind == factCertificate && proves(facts[i].Record, trusted)
	})
	m.mu.Lock()
	defer m.mu.Unlock()
	signers := map[cluster.HostID]*signer{}
	for i, f := range facts {
		if id, err := ParseCertificateKey(f.Key); err == nil && proofs[i] {
			m.court.proved[id] = f.signer.key
			signers[id] = f.signer
		}
	}
	for _, f := range facts {
		id, signed := f.claimant()
		if signed && signers[id] == nil {
			signers[id], _ = m.court.signer(id) // who has none is judged later
		}
	}
	return signers
}

// inParallel calls do for 0 to n-1 on all processors, until ctx is done.
func inParallel(ctx context.Context, n int, do func(int)) {
	var next atomic.Int64
	var all sync.WaitGroup
	for range min(n, runtime.GOMAXPROCS(0)) {
		all.Go(func() {
			for i := next.Add(1) - 1; i < int64(n) && ctx.Err() == nil; i = next.Add(1) - 1 {
				do(int(i))
			}
		})
	}
	all.Wait()
}
