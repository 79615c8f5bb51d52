package rotation

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/ovlnet/ovl/controller/keys"
	"github.com/ovlnet/ovl/controller/roll"
	"github.com/ovlnet/ovl/internal/cluster"
	"github.com/ovlnet/ovl/internal/identity"
	"github.com/ovlnet/ovl/internal/store"
)

// Config is what a Rotation needs.
type Config struct {
	Store      store.KV
	Keys       *keys.Keys
	Roll       *roll.Roll
	Controller string // names this controller
	Life       time.Duration
	Log        *slog.Logger
	Now        func() time.Time // nil = [time.Now]
	// Born is asked, when this controller is the first of a cluster, what else is
	// written with the record that begins it; nil: nothing.
	Born func(identity.Authorities) ([]store.Write, error)
	// Adopted is told when other CAs are in force than before; nil: nobody is.
	Adopted func()
	// Advanced is told of a step that this controller took by itself; nil: nobody is.
	Advanced func(before, after identity.Authorities)
}

// Rotation keeps a controller at the CAs that are in force.
type Rotation struct {
	Config
	key     string        // of this controller's presence
	changed chan struct{} // has a token when this controller may have to act

	mu      sync.Mutex
	current identity.Authorities
	rev     int64 // of the record of current; 0: not read yet
	trouble error // why this controller cannot do as the record says
}

// New returns a Rotation; see [Rotation.Run].
func New(c Config) *Rotation {
	if c.Now == nil {
		c.Now = time.Now
	}
	return &Rotation{Config: c, key: newKey(), changed: make(chan struct{}, 1)}
}

// ErrAnotherCA is a store whose controllers have a CA that is not here.
var ErrAnotherCA = errors.New("join the controllers of this etcd")

// Read returns the CAs in force as the store has them now, with the revision of
// the record, once this controller does as it says. A cluster without a record
// begins with this controller's CA.
func (r *Rotation) Read(ctx context.Context) (identity.Authorities, int64, error) {
	a, rev, err := roll.Authorities(ctx, r.Store)
	if err == nil && rev == 0 {
		if err = r.begin(ctx); err == nil {
			a, rev, err = roll.Authorities(ctx, r.Store)
		}
	}
	if err != nil {
		return a, 0, fmt.Errorf("read the CAs of the cluster: %w", err)
	}
	return a, rev, r.adopt(a, rev)
}

// begin writes the first record of a cluster.
func (r *Rotation) begin(ctx context.Context) error {
	a := identity.NewAuthorities(r.Keys.InForce()[0], r.Now())
	value, err := a.Encode()
	if err != nil {
		return err
	}
	writes := []store.Write{store.Put(roll.CAKey, value, 0)}
	if r.Born != nil {
		more, err := r.Born(a)
		if err != nil {
			return err
		}
		writes = append(writes, more...)
	}
	_, err = r.Store.Txn(ctx, []store.Cond{store.Absent(roll.CAKey)}, writes)
	if errors.Is(err, store.ErrConflict) {
		return nil // another one was first
	}
	return err
}

// adopt does as a record says, unless a newer one has been seen.
func (r *Rotation) adopt(a identity.Authorities, rev int64) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if rev < r.rev {
		return r.trouble
	}
	err := r.Keys.Adopt(a)
	if errors.Is(err, keys.ErrNoKey) && a.Phase == identity.Rest {
		err = fmt.Errorf("%w: they have the CA with fingerprint %s, and this one has another: give all the same --ca-cert and --ca-key, such as the first one's --data-dir/identity/ca.pem and ca-key.pem: %w", ErrAnotherCA, a.Issuer(), err)
	}
	was := r.trouble
	r.trouble = err
	if err != nil {
		if was == nil {
			r.Log.Error("cannot change the CA with the cluster", slog.Any("err", err))
		}
		return err
	}
	if rev == r.rev {
		return nil
	}
	if r.rev > 0 {
		r.Log.Info("the CAs in force have changed", slog.String("issues", a.Issuer().String()), slog.Int("trusted", len(a.Trusted)), slog.String("phase", string(a.Phase)))
	}
	r.current, r.rev = a, rev
	if r.Adopted != nil {
		r.Adopted()
	}
	r.poke()
	return nil
}

// Current returns the CAs in force as far as this controller has heard.
func (r *Rotation) Current() identity.Authorities {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.current
}

func (r *Rotation) poke() {
	select {
	case r.changed <- struct{}{}:
	default:
	}
}

// again is how long after a failed reading the next one follows.
const again = time.Second

// Run keeps this controller at the CAs in force, tells the others what it does,
// and takes the step that anybody may take, until ctx is done; an error means that
// this controller has no business in this cluster.
func (r *Rotation) Run(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return r.follow(ctx) })
	group.Go(func() error { r.attend(ctx); return nil })
	group.Go(func() error { r.advance(ctx); return nil })
	return group.Wait()
}

// follow reads the record whenever it changes.
func (r *Rotation) follow(ctx context.Context) error {
	for ctx.Err() == nil {
		_, rev, err := r.Read(ctx)
		if errors.Is(err, ErrAnotherCA) {
			return err
		}
		if err == nil || errors.Is(err, keys.ErrNoKey) {
			err = r.watch(ctx, rev)
		}
		if errors.Is(err, ErrAnotherCA) {
			return err
		}
		select {
		case <-time.After(again):
		case <-ctx.Done():
		}
	}
	return nil
}

// watch reads the record at each change, until the watch ends.
func (r *Rotation) watch(ctx context.Context, from int64) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	for b := range r.Store.Watch(ctx, roll.CAKey, from) {
		if b.Err != nil {
			return b.Err
		}
		if len(b.Events) == 0 {
			continue
		}
		if _, _, err := r.Read(ctx); err != nil && !errors.Is(err, keys.ErrNoKey) {
			return err
		}
	}
	return ctx.Err()
}

// soon is how long before its end a CA is a problem of the status.
const soon = 180 * 24 * time.Hour

// Problems returns what is wrong, for the status.
func (r *Rotation) Problems() []cluster.Problem {
	r.mu.Lock()
	trouble, a := r.trouble, r.current
	r.mu.Unlock()
	var all []cluster.Problem
	if trouble != nil {
		all = append(all, cluster.Problem{
			Severity: cluster.SeverityError, Subject: "controller " + r.Controller,
			What: "it lets nobody in: " + trouble.Error(), Hint: "bring it the key with ovlctl ca rotate --ca-cert --ca-key, or stop it",
		})
	}
	ca := r.Keys.Roots()[0]
	if left := ca.NotAfter.Sub(r.Now()); left < soon && a.Phase == identity.Rest {
		all = append(all, cluster.Problem{
			Severity: cluster.SeverityWarning, Subject: "CA " + identity.PrintOf(ca).String()[:12],
			What: "it ends at " + ca.NotAfter.UTC().Format(time.RFC3339) + ", and with it every certificate", Hint: "bring in another one in time: ovlctl ca rotate",
		})
	}
	return all
}
