package reconcile

import (
	"context"
	"errors"
	"fmt"

	"github.com/ovlnet/ovl/internal/dataplane"
)

// Kernel is the seam between thought and Linux.
type Kernel interface {
	// Observe returns all rows of ours within scope, or an error; never a part
	// of them. A namespace that no longer exists is no error: it is named in
	// Facts.Gone.
	Observe(ctx context.Context, scope dataplane.Scope) (dataplane.State, dataplane.Facts, error)
	// Apply does one operation. Create and Update leave the row as given;
	// deleting what is gone succeeds. Errors are [*Error]s. What is not ours is
	// never overwritten: that is refused.
	Apply(ctx context.Context, op dataplane.Op) error
}

// Class says what a failure of an operation means for what to do next. The
// kernel room derives it from errno, never from text.
type Class uint8

// The classes of failure.
const (
	Again   Class = iota // EINTR, EBUSY, ENOBUFS: try again soon
	Gone                 // ENODEV, ESRCH, ENOENT: the world has changed, observe again
	Refused              // EPERM, EINVAL, EOPNOTSUPP, EEXIST of a foreign object: tell a human
)

func (c Class) String() string { return [...]string{"again", "gone", "refused"}[c] }

// Error is the failure of one operation.
type Error struct {
	Class Class
	Op    dataplane.Op
	Err   error
}

func (e *Error) Error() string {
	return fmt.Sprintf("%s %s: %v", e.Op.Verb, e.Op.Row.Key(), e.Err)
}

func (e *Error) Unwrap() error { return e.Err }

// ClassOf returns the class of err; an error that carries none is [Again].
func ClassOf(err error) Class {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Class
	}
	return Again
}
