package lease

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"go.etcd.io/bbolt"

	"github.com/ovlnet/ovl/internal/cluster"
	"github.com/ovlnet/ovl/internal/store"
)

// State says how sure a host can be of a subnet.
type State string

// The states of a subnet.
const (
	// StateHeld: confirmed in the store, under a live ownership lease.
	StateHeld State = "held"
	// Pending: ours by our disk, but not confirmed yet in this run or since the
	// ownership lease was lost. Whether it takes attachments, MayAttach says.
	Pending State = "pending"
	// Lost: another host has it, or its network is gone.
	Lost State = "lost"
)

// Held is a subnet of this host.
type Held struct {
	cluster.Lease
	State          State
	NetworkCreated int64 // CreateRevision of the network that it was taken in
}

// The causes of refusals.
var (
	// ErrFenced: the host could not renew for the whole ownership time, and its
	// subnets are not confirmed again yet.
	ErrFenced = errors.New("subnets not confirmed by the store")
	// ErrIdentity: another agent runs under this host's ID, or another host has
	// this one's underlay address.
	ErrIdentity = errors.New("identity in conflict")
	// ErrNetworkGone: the network, or that pool of it, no longer exists.
	ErrNetworkGone = errors.New("network gone")
)

// Config is what a Keeper is made of. All but Log and Changed must be set.
type Config struct {
	KV   store.KV
	DB   *bbolt.DB    // the bucket "lease" in it is the Keeper's
	Self cluster.Host // ID, Name, Underlay, VXLANPort, Version …
	// BootID is the kernel's identity of this boot; Instance is the process's.
	BootID, Instance string
	// SessionTTL is how long after its death a host counts as up (15 s if zero),
	// OwnershipTTL how long it keeps its subnets without the store (24 h if zero).
	SessionTTL, OwnershipTTL time.Duration
	// Elapsed is a clock that never goes back and counts suspend: see [Boottime].
	Elapsed func() time.Duration
	// Seal, if set, signs what this host writes at a key under a lease; the same
	// always gets the same signature. Doubts then says which records of others are
	// not their hosts' own: see store.Mirror.
	Seal   func(key string, lease store.LeaseID, value []byte) ([]byte, error)
	Doubts func(ctx context.Context, records []store.Record) (map[string]error, error)
	Log    *slog.Logger
	// Changed is called when what Held or Status return has changed. It is only
	// a wake, and must not block.
	Changed func()
}

// Keeper keeps this host's records in the store. Open makes one, Run runs it;
// all methods are safe for concurrent use.
type Keeper struct {
	cfg  Config
	disk disk
	log  *slog.Logger
	// turn is held by whoever writes to the store: Run's pass, Take or Release.
	turn chan struct{}
	wake chan struct{}
	loop loopState // of the holder of turn
	// settled is closed when nothing of before this boot stands in the way: see [Keeper.Settled].
	settled chan struct{}

	mu    sync.Mutex // guards all below, never held over I/O to the store
	self  cluster.Host
	rows  map[string]row // this host's subnets, by key in the store
	known *mirror        // what the store holds under our prefixes
	owner ownership
	place place
	// wanted endpoints by key; nil until the first SetEndpoints: what an earlier
	// process published stays until we know better.
	wanted   map[string]wish
	networks map[string]bool  // on which endpoints of ours may be in the store
	orphans  map[string]int64 // by key: endpoints whose network, as of that CreateRevision, is gone
	invalid  []cluster.Problem
	hostWas  []byte // the record of this host as it last was in the store by our doing; of the holder of turn
	meddled  meddling
	signer   []byte // what tells one key from another; of the holder of turn
	applied  int64
	reported []cluster.Problem
	link     connection
	shown    view // as of the last call of Changed
}

// row is a subnet of this host.
type row struct {
	diskSubnet
	revision  int64
	confirmed bool          // in the store, under the lease that we renew now
	under     store.LeaseID // the lease under which it last was in the store in this run
	since     time.Duration // confirmed for the first time in this run, by Config.Elapsed
	known     bool          // since is set
	lost      string        // why it is not ours any more
	blocked   bool          // lost, though its key may be free
	gone      bool          // the network no longer exists
}

// confirm notes that the store has the record, as of that revision, under that lease.
func (r *row) confirm(revision int64, lease store.LeaseID, now time.Duration) {
	if !r.known || r.lost != "" {
		r.since, r.known = now, true
	}
	r.confirmed, r.revision, r.under, r.lost, r.blocked = true, revision, lease, "", false
}

// defended reports whether nobody else can honestly have the subnet: it has been held
// for a while under the lease that still lives, and was never given back. That its
// record was damaged a moment ago, or is being written again, changes nothing.
func (r row) defended(lease store.LeaseID, now time.Duration) bool {
	return r.under != 0 && r.under == lease && r.lost == "" && now >= r.since+probation
}

func (r row) settled() bool { return r.confirmed || r.lost != "" || r.gone }

// Open reads from the disk what this host held. It does not use the network.
func Open(cfg Config) (*Keeper, error) {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Changed == nil {
		cfg.Changed = func() {}
	}
	if cfg.SessionTTL == 0 {
		cfg.SessionTTL = 15 * time.Second
	}
	if cfg.OwnershipTTL == 0 {
		cfg.OwnershipTTL = 24 * time.Hour
	}
	if _, err := cluster.ParseHostID(string(cfg.Self.ID)); err != nil {
		return nil, err
	}
	if err := store.CheckID(cfg.Instance); err != nil {
		return nil, fmt.Errorf("check instance: %w", err)
	}
	d := disk{db: cfg.DB}
	c, err := d.load()
	if err != nil {
		return nil, err
	}
	k := &Keeper{
		cfg: cfg, disk: d, log: cfg.Log,
		turn: make(chan struct{}, 1), wake: make(chan struct{}, 1),
		self: cfg.Self, rows: map[string]row{}, known: newMirror(), owner: recall(cfg, c.ownership),
		networks: c.networks, orphans: map[string]int64{}, loop: loopState{leaving: map[string]time.Duration{}}, link: connection{since: time.Now()},
	}
	for key, s := range c.subnets {
		k.rows[key] = row{diskSubnet: s}
	}
	k.shown = k.viewLocked()
	k.settled = make(chan struct{})
	if c.ownership.Lease == 0 || c.ownership.BootID == cfg.BootID {
		close(k.settled)
	}
	return k, nil
}

// Settled is closed once this process speaks for its host, and may attach. At once if it
// follows another of the same boot, or is the host's first. After a crash of the host the
// session of before lives on for its time; who starts containers waits for this, since what
// they ask for is refused until then. With the store away, or a clone alive, it may never
// be closed.
func (k *Keeper) Settled() <-chan struct{} { return k.settled }

// noteSettled closes settled if it is time. It is called by Run alone.
func (k *Keeper) noteSettled() {
	select {
	case <-k.settled:
	default:
		if k.incumbent() && k.MayAttach() == nil {
			close(k.settled)
		}
	}
}

// Held returns this host's subnets, by network and prefix.
func (k *Keeper) Held() []Held {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.heldLocked()
}

func (k *Keeper) heldLocked() []Held {
	sure := k.place.incumbent && !k.fencedLocked()
	var out []Held
	for _, r := range k.rows {
		if r.Phase != phaseHeld {
			continue
		}
		h := Held{
			Lease: cluster.Lease{Network: r.Network, Prefix: r.Prefix, Host: k.self.ID, Revision: r.revision},
			State: Pending, NetworkCreated: r.Created,
		}
		switch {
		case r.lost != "" || r.gone:
			h.State = Lost
		case r.confirmed && sure:
			h.State = StateHeld
		}
		out = append(out, h)
	}
	slices.SortFunc(out, func(a, b Held) int { return compareLeases(a.Lease, b.Lease) })
	return out
}

// SetHost replaces what is published about this host. Its ID cannot change.
func (k *Keeper) SetHost(h cluster.Host) {
	h.ID = k.cfg.Self.ID
	k.mu.Lock()
	k.self = h
	k.mu.Unlock()
	k.poke()
}

// SetEndpoints replaces the set of this host's endpoints in the store. Each
// needs a subnet of its network; one whose network is gone is left out and
// reported as a problem.
func (k *Keeper) SetEndpoints(endpoints []cluster.Endpoint) {
	k.mu.Lock()
	k.wanted = k.wishesLocked(endpoints)
	k.mu.Unlock()
	k.poke()
}

// SetReport replaces what the session says: the revision of the store up to
// which the host has done all that it wants, and what is wrong. Problems go out
// within a second, the revision alone within about six.
func (k *Keeper) SetReport(applied int64, problems []cluster.Problem) {
	k.mu.Lock()
	news := k.applied != applied || !slices.Equal(k.reported, problems)
	k.applied, k.reported = applied, slices.Clone(problems)
	k.mu.Unlock()
	if news {
		k.poke()
	}
}

// poke wakes Run.
func (k *Keeper) poke() {
	select {
	case k.wake <- struct{}{}:
	default:
	}
}
