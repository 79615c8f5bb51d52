package embedstore

import (
	"errors"
	"fmt"
	"time"

	"github.com/ovlnet/ovl/internal/store"
)

// share is what one host has in the store.
type share struct {
	records [kinds]int
	bytes   int // of keys and values
	leases  int
}

// kind is a kind of records of which a host may have many.
type kind int

const (
	endpoints kind = iota
	subnets
	clones
	kinds
)

// mostOf is how many records of each kind a host may have, and what they are called.
var mostOf = [kinds]struct {
	most int
	what string
	do   string
}{
	endpoints: {store.MaxHostEndpoints, "endpoints", "run containers on other hosts"},
	subnets:   {store.MaxHostLeases, "subnets and static addresses", "give networks larger pieces per host, or run containers on other hosts"},
	clones:    {16, "notes of cloned agents", "one host ID runs on several machines: give each its own"},
}

const (
	// maxBytes is what a host may have in the store: all endpoints that it may have,
	// with names and a few labels.
	maxBytes = store.MaxHostEndpoints * 2048
	// A host has one lease for what it owns and one for each process that ran in the
	// last seconds.
	maxLeases = 32
	// maxTTL bounds for how long a lease outlives its host.
	maxTTL = 31 * 24 * time.Hour
	// A host may write as much as it may have at once, and that again in a minute:
	// history is kept by the revision, and with no such bound one host could fill the
	// disk by writing one record again and again.
	burstKiB   = maxBytes >> 10
	refillEach = time.Minute / burstKiB // one KiB
)

// errShare is every refusal of what is too much.
var errShare = errors.New("too much for one host")

// kindOf returns of which kind the record at a key is.
func kindOf(key string) (kind, bool) {
	if _, _, _, err := store.ParseEndpointKey(key); err == nil {
		return endpoints, true
	}
	if _, _, err := store.ParseSubnetKey(key); err == nil {
		return subnets, true
	}
	if _, _, err := store.ParseCloneKey(key); err == nil {
		return clones, true
	}
	return 0, false
}

// add adds a record that is to be written in the place of one with that length (-1 if
// there is none), and reports whether all still fits.
func (s *share) add(key string, size, before int) error {
	if s.bytes += len(key) + size; before >= 0 {
		s.bytes -= len(key) + before
	}
	if k, ok := kindOf(key); ok && before < 0 {
		if s.records[k]++; s.records[k] > mostOf[k].most {
			return fmt.Errorf("write %.160q: this host has %d %s, the most that one host may have: %s: %w",
				key, s.records[k]-1, mostOf[k].what, mostOf[k].do, errShare)
		}
	}
	if s.bytes > maxBytes && size > before {
		return fmt.Errorf("write %.160q: this host would have %d bytes in the store, and may have %d: give its containers fewer aliases and labels: %w",
			key, s.bytes, maxBytes, errShare)
	}
	return nil
}
