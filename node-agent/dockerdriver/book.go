package dockerdriver

import (
	"cmp"
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"time"

	"go.etcd.io/bbolt"

	"github.com/ovlnet/ovl/internal/cluster"
)

var bookBucket = []byte("docker-networks")

// The bounds of a page.
const (
	maxDockerID = 128     // bytes; the engine's are 64 hexadecimal digits
	maxPage     = 1 << 14 // bytes, as stored
	maxPools    = 2       // one of each family
)

// Page is one network of the engine.
type Page struct {
	ID string // the engine's
	// Network is the cluster's name of it; empty as long as nobody knows: the engine
	// does not pass the name on, and it is learnt from its events.
	Network string
	// Marked: the engine was told the name when the network was made, so that it need
	// not be learnt.
	Marked bool
	Pools  []netip.Prefix // at most one of each family
	// EgressDocker: the way out is the engine's own (docker_gwbridge), not ours.
	EgressDocker bool
	Created      time.Time // when the engine asked for it; zero: by an agent that did not note it
}

// Book says which network of the engine is which of the cluster. It is on disk before
// anybody sees it, and safe for concurrent use.
type Book struct {
	db *bbolt.DB

	mu    sync.Mutex
	pages map[string]Page
}

// OpenBook reads the book in db. A page that cannot be read is left out, and told of by
// the engine's next mention of that network.
func OpenBook(db *bbolt.DB) (*Book, error) {
	b := &Book{db: db, pages: map[string]Page{}}
	err := db.Update(func(tx *bbolt.Tx) error {
		bucket, err := tx.CreateBucketIfNotExists(bookBucket)
		if err != nil {
			return err
		}
		return bucket.ForEach(func(key, raw []byte) error {
			if p, err := decodePage(string(key), raw); err == nil {
				b.pages[p.ID] = p
			}
			return nil
		})
	})
	if err != nil {
		return nil, fmt.Errorf("open the book of docker networks: %w", err)
	}
	return b, nil
}

// Get returns the page of the engine's network of that ID.
func (b *Book) Get(id string) (Page, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	p, ok := b.pages[id]
	return p.clone(), ok
}

// List returns all pages, sorted by ID.
func (b *Book) List() []Page {
	b.mu.Lock()
	defer b.mu.Unlock()
	out := make([]Page, 0, len(b.pages))
	for _, p := range b.pages {
		out = append(out, p.clone())
	}
	slices.SortFunc(out, func(a, b Page) int { return cmp.Compare(a.ID, b.ID) })
	return out
}

// Put writes a page.
func (b *Book) Put(p Page) error {
	if err := p.check(); err != nil {
		return fmt.Errorf("write the book of docker networks: %w", err)
	}
	raw, err := json.Marshal(record(p))
	if err != nil {
		return fmt.Errorf("write the book of docker networks: %w", err)
	}
	return b.write(p.ID, func(bucket *bbolt.Bucket) error { return bucket.Put([]byte(p.ID), raw) }, func() { b.pages[p.ID] = p.clone() })
}

// Name writes down what the network of that ID is called, and reports whether there is
// such a page.
func (b *Book) Name(id, network string) (bool, error) {
	p, ok := b.Get(id)
	if !ok || p.Network == network {
		return ok, nil
	}
	p.Network = network
	return true, b.Put(p)
}

// Delete takes a page out. Deleting what is not there succeeds.
func (b *Book) Delete(id string) error {
	return b.write(id, func(bucket *bbolt.Bucket) error { return bucket.Delete([]byte(id)) }, func() { delete(b.pages, id) })
}

// Forget takes out the pages of networks that the engine no longer has, given all that it
// does have, as it was asked after the time since: those that it has made later are none of
// them. An engine that finds no agent removes a network all the same, and never says so
// again; its subnet would be taken for ever.
func (b *Book) Forget(known map[string]bool, since time.Time) (gone []Page, err error) {
	for _, p := range b.List() {
		if known[p.ID] || !p.Created.Before(since) {
			continue
		}
		if err := b.Delete(p.ID); err != nil {
			return gone, err
		}
		gone = append(gone, p)
	}
	return gone, nil
}

func (b *Book) write(id string, change func(*bbolt.Bucket) error, show func()) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if err := b.db.Update(func(tx *bbolt.Tx) error { return change(tx.Bucket(bookBucket)) }); err != nil {
		return fmt.Errorf("write the book of docker networks: network %s: %w", short(id), err)
	}
	show()
	return nil
}

// record is a page as it is stored.
type record struct {
	ID           string         `json:"id"`
	Network      string         `json:"network,omitempty"`
	Marked       bool           `json:"marked,omitempty"`
	Pools        []netip.Prefix `json:"pools"`
	EgressDocker bool           `json:"egressDocker,omitempty"`
	Created      time.Time      `json:"created,omitzero"`
}

func decodePage(key string, raw []byte) (Page, error) {
	var r record
	if len(raw) > maxPage {
		return Page{}, fmt.Errorf("decode docker network %q: %d bytes, want at most %d", short(key), len(raw), maxPage)
	}
	if err := json.Unmarshal(raw, &r); err != nil {
		return Page{}, fmt.Errorf("decode docker network %q: %w", short(key), err)
	}
	p := Page(r)
	if p.ID != key {
		return Page{}, fmt.Errorf("decode docker network %q: the record is of %q", short(key), short(p.ID))
	}
	return p, p.check()
}

func (p Page) check() error {
	if err := checkID("network", p.ID); err != nil {
		return err
	}
	if p.Network != "" {
		if err := cluster.CheckName(p.Network); err != nil {
			return fmt.Errorf("network %s: %w", short(p.ID), err)
		}
	}
	if len(p.Pools) > maxPools {
		return fmt.Errorf("network %s: %d subnets, want at most one of each family", short(p.ID), len(p.Pools))
	}
	for i, pool := range p.Pools {
		if !pool.IsValid() || pool != pool.Masked() || pool.Addr().Is4In6() || i > 0 && pool.Addr().Is4() == p.Pools[0].Addr().Is4() {
			return fmt.Errorf("network %s: subnet %s is none, or the second of its family", short(p.ID), pool)
		}
	}
	return nil
}

func (p Page) clone() Page {
	p.Pools = slices.Clone(p.Pools)
	return p
}

// checkID tells why something cannot be an ID of the engine's. It goes into paths of
// buckets, aliases of links and logs.
func checkID(what, id string) error {
	if len(id) < 1 || len(id) > maxDockerID {
		return fmt.Errorf("the %s's ID has %d bytes: want 1 to %d", what, len(id), maxDockerID)
	}
	for _, c := range []byte(id) {
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && (c < 'A' || c > 'Z') && c != '-' && c != '_' && c != '.' {
			return fmt.Errorf("the %s's ID %q: want letters, digits, '_', '.' and '-'", what, short(id))
		}
	}
	return nil
}

// short is an ID as people see it, twelve digits of it.
func short(id string) string { return id[:min(len(id), 12)] }
