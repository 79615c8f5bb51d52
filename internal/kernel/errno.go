package kernel

import (
	"errors"

	"golang.org/x/sys/unix"

	"github.com/ovlnet/ovl/internal/dataplane"
	"github.com/ovlnet/ovl/internal/reconcile"
)

// refusal is a failure that has no errno: we, not Linux, refused.
type refusal string

func (r refusal) Error() string { return string(r) }

// errNSGone says that a namespace no longer exists.
var errNSGone = errors.New("the network namespace no longer exists")

// failure wraps err as the failure of op, with its class.
func failure(op dataplane.Op, err error) error {
	if err == nil {
		return nil
	}
	return &reconcile.Error{Class: classOf(err), Op: op, Err: err}
}

// classOf derives the class of an error from its errno, never from its text.
func classOf(err error) reconcile.Class {
	if errors.Is(err, errNSGone) || errors.Is(err, errNoChain) {
		return reconcile.Gone
	}
	if errors.Is(err, errInterrupted) {
		return reconcile.Again
	}
	if e, ok := errors.AsType[*toolError](err); ok {
		return e.class()
	}
	errno, ok := errors.AsType[unix.Errno](err)
	if !ok {
		return reconcile.Refused
	}
	switch errno { //nolint:exhaustive // every other errno is a refusal
	case unix.EINTR, unix.EBUSY, unix.ENOBUFS, unix.EAGAIN, unix.ENOMEM, unix.ETIMEDOUT:
		return reconcile.Again
	case unix.ENODEV, unix.ESRCH, unix.ENOENT, unix.ENXIO,
		// What a route hangs on has gone since we looked.
		unix.ENETDOWN, unix.ENETUNREACH, unix.EHOSTUNREACH, unix.EADDRNOTAVAIL:
		return reconcile.Gone
	}
	return reconcile.Refused
}
