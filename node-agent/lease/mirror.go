package lease

import (
	"strings"

	"github.com/ovlnet/ovl/internal/store"
)

// mirror is what the store holds under this host's prefixes, as far as is
// known: from ranged reads, from watches and from our own writes. News older
// than what is known is dropped, so that those three may arrive in any order.
type mirror struct {
	records map[string]store.Record
	deleted map[string]int64 // by key: revision of a deletion
	floor   map[string]int64 // by prefix: revision of its last ranged read
}

func newMirror() *mirror {
	return &mirror{records: map[string]store.Record{}, deleted: map[string]int64{}, floor: map[string]int64{}}
}

// revision returns the revision of the last write of key for a condition; 0 if
// there is no record.
func (m *mirror) revision(key string) int64 { return m.records[key].ModRev }

// replace takes a ranged read of prefixes.
func (m *mirror) replace(prefixes []string, page store.Page) {
	for _, p := range prefixes {
		m.floor[p] = page.Revision
	}
	for key, r := range m.records {
		if r.ModRev <= page.Revision && covered(key, prefixes) {
			delete(m.records, key)
		}
	}
	for key, rev := range m.deleted {
		if rev <= page.Revision && covered(key, prefixes) {
			delete(m.deleted, key)
		}
	}
	for _, r := range page.Records {
		m.apply(store.Event{Record: r})
	}
}

// event takes an event of the watch of prefix; it reports whether it was news.
func (m *mirror) event(prefix string, ev store.Event) bool {
	return ev.Record.ModRev > m.floor[prefix] && m.apply(ev)
}

// apply takes a write or a deletion; it reports whether it was news.
func (m *mirror) apply(ev store.Event) bool {
	key, rev := ev.Record.Key, ev.Record.ModRev
	if rev <= m.records[key].ModRev || rev <= m.deleted[key] {
		return false
	}
	if ev.Deleted {
		delete(m.records, key)
		m.deleted[key] = rev
	} else {
		delete(m.deleted, key)
		m.records[key] = ev.Record
	}
	return true
}

// wrote takes what a transaction of ours did at revision rev.
func (m *mirror) wrote(writes []store.Write, rev int64) {
	for _, w := range writes {
		created := rev
		if old, ok := m.records[w.Key]; ok {
			created = old.CreateRev
		}
		m.apply(store.Event{Deleted: w.Delete, Record: store.Record{
			Key: w.Key, Value: w.Value, Lease: w.Lease, ModRev: rev, CreateRev: created,
		}})
	}
}

// forget drops a prefix that is no longer read.
func (m *mirror) forget(prefix string) {
	delete(m.floor, prefix)
	for key := range m.records {
		if strings.HasPrefix(key, prefix) {
			delete(m.records, key)
		}
	}
	for key := range m.deleted {
		if strings.HasPrefix(key, prefix) {
			delete(m.deleted, key)
		}
	}
}

func covered(key string, prefixes []string) bool {
	for _, p := range prefixes {
		if strings.HasPrefix(key, p) {
			return true
		}
	}
	return false
}
