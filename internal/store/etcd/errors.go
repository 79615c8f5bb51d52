package etcd

import (
	"context"
	"errors"
	"fmt"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/ovlnet/ovl/internal/store"
)

// wrap says what failed and classes the failure by its code. ctx is the
// caller's: its end is the caller's doing, any other deadline that passed is
// the store's.
func wrap(ctx context.Context, doing string, err error) error {
	if err == nil {
		return nil
	}
	if ctxErr := ctx.Err(); ctxErr != nil {
		return fmt.Errorf("%s: %w", doing, ctxErr)
	}
	if class := classOf(err); class != nil {
		return fmt.Errorf("%s: %w: %w", doing, class, err)
	}
	return fmt.Errorf("%s: %w", doing, err)
}

// classOf returns the contract's name of an error, or nil if it has none.
func classOf(err error) error {
	switch {
	case errors.Is(err, rpctypes.ErrCompacted):
		return store.ErrCompacted
	case errors.Is(err, rpctypes.ErrLeaseNotFound):
		return store.ErrLeaseGone
	case errors.Is(err, context.DeadlineExceeded),
		errors.Is(err, context.Canceled), // not the caller's: the client was closed
		errors.Is(err, clientv3.ErrNoAvailableEndpoints):
		return store.ErrUnavailable
	}
	switch codeOf(err) {
	case codes.Unavailable, codes.DeadlineExceeded, codes.Canceled:
		return store.ErrUnavailable
	case codes.PermissionDenied:
		return store.ErrRefused
	default:
		return nil
	}
}

func codeOf(err error) codes.Code {
	if e, ok := errors.AsType[rpctypes.EtcdError](err); ok {
		return e.Code()
	}
	return status.Code(err)
}
