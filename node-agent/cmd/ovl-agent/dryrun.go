package main

import (
	"context"
	"errors"

	"github.com/ovlnet/ovl/internal/dataplane"
	"github.com/ovlnet/ovl/internal/reconcile"
)

// untouched is a kernel that is read and never changed. It is none of the kernels that
// do several operations at once, so that each is refused by itself.
type untouched struct{ reconcile.Kernel }

// Apply implements [reconcile.Kernel].
func (untouched) Apply(_ context.Context, op dataplane.Op) error {
	return &reconcile.Error{Class: reconcile.Refused, Op: op, Err: errors.New("this agent runs with --dry-run and changes nothing")}
}
