package fake

import (
	"context"
	"errors"
	"sync"
	"syscall"

	"github.com/ovlnet/ovl/internal/dataplane"
	"github.com/ovlnet/ovl/internal/reconcile"
)

// ErrStopped is the cause of every failure after [Faults.StopAfter] operations.
var ErrStopped = errors.New("stopped here by the test")

// Faults is a [reconcile.Kernel] around another one whose operations fail as
// told. Set the fields before the first call.
type Faults struct {
	Kernel reconcile.Kernel
	// Nth fails the n-th operation, counted from 1, with a class.
	Nth map[int]reconcile.Class
	// Keys fails every operation on a row of that key, with a class.
	Keys map[dataplane.Key]reconcile.Class
	// StopAfter lets that many operations through and none after, as if the
	// agent had died there; zero or less is no limit.
	StopAfter int
	// Blind makes every observation fail, if set.
	Blind error

	mu sync.Mutex
	n  int
}

// Observe implements [reconcile.Kernel].
func (f *Faults) Observe(ctx context.Context, scope dataplane.Scope) (dataplane.State, dataplane.Facts, error) {
	if f.Blind != nil {
		return dataplane.State{}, dataplane.Facts{}, f.Blind
	}
	return f.Kernel.Observe(ctx, scope)
}

// Apply implements [reconcile.Kernel].
func (f *Faults) Apply(ctx context.Context, op dataplane.Op) error {
	f.mu.Lock()
	f.n++
	n := f.n
	f.mu.Unlock()
	if f.StopAfter > 0 && n > f.StopAfter {
		return &reconcile.Error{Class: reconcile.Again, Op: op, Err: ErrStopped}
	}
	if c, ok := f.Nth[n]; ok {
		return &reconcile.Error{Class: c, Op: op, Err: errnoOf(c)}
	}
	if c, ok := f.Keys[op.Row.Key()]; ok {
		return &reconcile.Error{Class: c, Op: op, Err: errnoOf(c)}
	}
	return f.Kernel.Apply(ctx, op)
}

// Sweep implements [reconcile.Sweeper]; after the last operation that is let
// through, and where keys fail, it does nothing.
func (f *Faults) Sweep(ctx context.Context, links []dataplane.Link) {
	f.mu.Lock()
	over := f.StopAfter > 0 && f.n >= f.StopAfter
	f.mu.Unlock()
	if s, ok := f.Kernel.(reconcile.Sweeper); ok && !over && len(f.Keys)+len(f.Nth) == 0 {
		s.Sweep(ctx, links)
	}
}

// WriteChains implements [reconcile.Grouper], where nothing fails. It counts as
// one operation.
func (f *Faults) WriteChains(ctx context.Context, ops []dataplane.Op) error {
	g, ok := f.Kernel.(reconcile.Grouper)
	if !ok || len(f.Keys)+len(f.Nth) > 0 {
		return errors.ErrUnsupported
	}
	f.mu.Lock()
	f.n++
	over := f.StopAfter > 0 && f.n > f.StopAfter
	f.mu.Unlock()
	if over {
		return ErrStopped
	}
	return g.WriteChains(ctx, ops)
}

// Applied returns how many operations were tried.
func (f *Faults) Applied() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.n
}

// errnoOf returns an errno of the class.
func errnoOf(c reconcile.Class) error {
	switch c {
	case reconcile.Gone:
		return syscall.ENODEV
	case reconcile.Refused:
		return syscall.EPERM
	case reconcile.Again:
	}
	return syscall.EBUSY
}
