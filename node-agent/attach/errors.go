package attach

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/ovlnet/ovl/internal/ipam"
	"github.com/ovlnet/ovl/internal/reconcile"
	"github.com/ovlnet/ovl/node-agent/lease"
)

// violation is what is wrong with one field of a request.
type violation struct{ field, what string }

type violations []violation

func (v *violations) add(field, format string, args ...any) {
	*v = append(*v, violation{field, fmt.Sprintf(format, args...)})
}

// String is all of them in one line.
func (v violations) String() string {
	parts := make([]string, len(v))
	for i, x := range v {
		parts[i] = x.field + ": " + x.what
	}
	return oneLine(strings.Join(parts, "; "))
}

// err returns INVALID_ARGUMENT with a google.rpc.BadRequest naming each field.
func (v violations) err(verb string) error {
	var detail errdetails.BadRequest
	for _, x := range v {
		detail.FieldViolations = append(detail.FieldViolations, &errdetails.BadRequest_FieldViolation{Field: x.field, Description: x.what})
	}
	s := status.New(codes.InvalidArgument, verb+": "+v.String())
	if with, err := s.WithDetails(&detail); err == nil {
		s = with
	}
	return s.Err()
}

// refuse returns an error of that code in one line.
func refuse(code codes.Code, format string, args ...any) error {
	return status.Error(code, oneLine(fmt.Sprintf(format, args...)))
}

// because returns err, said to have stopped verb, with the code that its cause
// calls for, or that of otherwise. What has a code already keeps it.
func because(verb string, err error, otherwise codes.Code) error {
	code, cause := otherwise, err.Error()
	switch {
	case status.Code(err) != codes.Unknown:
		// Its own words: a status prints as "rpc error: code = … desc = …".
		code, cause = status.Code(err), status.Convert(err).Message()
	case errors.Is(err, context.DeadlineExceeded):
		code = codes.DeadlineExceeded
	case errors.Is(err, context.Canceled):
		code = codes.Canceled
	case errors.Is(err, ipam.ErrExhausted):
		code = codes.ResourceExhausted
	case errors.Is(err, lease.ErrNetworkGone):
		code = codes.NotFound
	case errors.Is(err, lease.ErrFenced), errors.Is(err, lease.ErrIdentity):
		code = codes.FailedPrecondition
	}
	if held, ok := errors.AsType[*lease.HeldError](err); ok {
		code, cause = codes.FailedPrecondition, held.Error() // what was tried is said in verb
	}
	return refuse(code, "%s: %s", verb, cause)
}

// codeOf says which code the failure of a row is to the one who asked for it:
// what only trying again can mend is UNAVAILABLE.
func codeOf(err error) codes.Code {
	if _, ok := errors.AsType[*reconcile.Error](err); ok && reconcile.ClassOf(err) != reconcile.Again {
		return codes.FailedPrecondition
	}
	return codes.Unavailable
}

func oneLine(s string) string { return strings.ReplaceAll(s, "\n", "; ") }
