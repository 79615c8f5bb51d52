// Package store is the contract for the facts that hosts share: a small
// ordered key-value store with revisions, ranged reads at one revision,
// transactions that compare, leases and watches; the layout of ovl's keys in
// it; and the decoding of what comes out, which is hostile input.
//
// It must never speak to a server itself: store/etcd and store/mem implement
// [KV], and store/storetest holds the suite that both must pass. The invariant
// it keeps is that no record reaches another room undecoded or unbounded.
package store

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"
)

// LeaseID names a lease of the store; 0 is none.
type LeaseID int64

// Record is one key with its value.
type Record struct {
	Key       string
	Value     []byte
	CreateRev int64 // of the write that created the key
	ModRev    int64 // of the last write
	Lease     LeaseID
}

// Page is the result of a ranged read.
type Page struct {
	Revision int64    // of the store at the time of the read
	Records  []Record // sorted by key
}

// Cond is a condition of a transaction; exactly one of its constructors makes
// one.
type Cond struct {
	Key    string
	Kind   CondKind
	Rev    int64
	Prefix bool
}

// CondKind says what a condition compares.
type CondKind uint8

// The kinds of conditions.
const (
	CondCreateRev CondKind = iota // revision of creation; 0 = the key is absent
	CondModRev                    // revision of the last write
)

// Absent holds if there is no such key.
func Absent(key string) Cond { return Cond{Key: key, Kind: CondCreateRev} }

// Empty holds if no key begins with prefix.
func Empty(prefix string) Cond { return Cond{Key: prefix, Kind: CondCreateRev, Prefix: true} }

// CreatedAt holds if the key was created at that revision and not deleted since.
func CreatedAt(key string, rev int64) Cond { return Cond{Key: key, Kind: CondCreateRev, Rev: rev} }

// Unchanged holds if the key was last written at that revision; 0 = absent.
func Unchanged(key string, rev int64) Cond { return Cond{Key: key, Kind: CondModRev, Rev: rev} }

// Write is one write of a transaction.
type Write struct {
	Key    string
	Value  []byte
	Lease  LeaseID
	Delete bool
	Prefix bool // with Delete: every key that begins with Key
}

// Put writes a value under a lease (0 = for ever).
func Put(key string, value []byte, lease LeaseID) Write {
	return Write{Key: key, Value: value, Lease: lease}
}

// Delete removes a key; removing what is absent succeeds.
func Delete(key string) Write { return Write{Key: key, Delete: true} }

// DeletePrefix removes every key that begins with prefix.
func DeletePrefix(prefix string) Write { return Write{Key: prefix, Delete: true, Prefix: true} }

// Event is one change that a watch saw.
type Event struct {
	Record  Record // of a deletion only Key and ModRev are set
	Deleted bool
}

// Batch is what one watch response carries. Events of one revision are never
// split over two batches.
type Batch struct {
	Revision int64 // of the newest event; on a progress batch without events, of the store
	Events   []Event
	// Err ends the watch: [ErrCompacted], or why the store cannot be reached.
	Err error
}

// The errors of the contract. Implementations wrap them.
var (
	// ErrConflict: a condition of the transaction did not hold; nothing was written.
	ErrConflict = errors.New("a record changed meanwhile")
	// ErrCompacted: the revision asked for is no longer kept; list again.
	ErrCompacted = errors.New("revision compacted away")
	// ErrLeaseGone: the lease has expired or was revoked.
	ErrLeaseGone = errors.New("lease expired")
	// ErrUnavailable: the store cannot be reached now.
	ErrUnavailable = errors.New("store unreachable")
	// ErrRefused: the store does not let this caller do that.
	ErrRefused = errors.New("store refuses")
)

// KV is the store. All methods are safe for concurrent use and honour ctx.
type KV interface {
	// Range returns every record whose key begins with one of the prefixes, all
	// at one revision. A key given whole is a prefix of itself.
	Range(ctx context.Context, prefixes ...string) (Page, error)
	// Txn makes all writes if all conditions hold, or none, and returns the
	// revision of the write. When a condition fails the error is ErrConflict;
	// when a write's lease is gone, ErrLeaseGone.
	Txn(ctx context.Context, conds []Cond, writes []Write) (int64, error)
	// Watch delivers every change after revision from to keys that begin with
	// prefix, in order, until ctx is done (then the channel is closed) or the
	// watch ends with a Batch that holds an error (then too). The first batch
	// may come late; a store out of reach is tried again by the implementation
	// as long as the watch can be resumed without loss.
	Watch(ctx context.Context, prefix string, from int64) <-chan Batch
	// Grant makes a lease of at least ttl (whole seconds, rounded up).
	Grant(ctx context.Context, ttl time.Duration) (LeaseID, error)
	// KeepAlive renews a lease once and returns the time it now has left. The
	// error is ErrLeaseGone when it no longer exists.
	KeepAlive(ctx context.Context, id LeaseID) (time.Duration, error)
	// Revoke ends a lease and deletes its keys; revoking a lease that is gone
	// succeeds.
	Revoke(ctx context.Context, id LeaseID) error
	// Close gives back what the implementation holds.
	Close() error
}

// Outermost returns the prefixes sorted and without those that begin with
// another one: so many ranges hold each record once, in the order of keys.
func Outermost(prefixes []string) []string {
	var kept []string
	for _, p := range slices.Sorted(slices.Values(prefixes)) {
		if len(kept) == 0 || !strings.HasPrefix(p, kept[len(kept)-1]) {
			kept = append(kept, p)
		}
	}
	return kept
}
