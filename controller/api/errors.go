package api

import (
	"context"
	"errors"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/protoadapt"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/ovlnet/ovl/controller/admit"
	"github.com/ovlnet/ovl/internal/store"
)

// Every message is one line that ovlctl prints as it is: what, why, what to do.

// retryAfter is the wait that an answer of UNAVAILABLE proposes.
const retryAfter = time.Second

// invalid returns INVALID_ARGUMENT with a google.rpc.BadRequest that names each
// field, or nil if there are no violations.
func invalid(doing string, vs []admit.Violation) error {
	if len(vs) == 0 {
		return nil
	}
	d := &errdetails.BadRequest{}
	for _, v := range vs {
		d.FieldViolations = append(d.FieldViolations, &errdetails.BadRequest_FieldViolation{Field: v.Field, Description: v.Description})
	}
	return detailed(codes.InvalidArgument, doing+": "+admit.Join(vs), d)
}

// collides returns FAILED_PRECONDITION with a google.rpc.PreconditionFailure
// that names each field which collides with the cluster as it is.
func collides(doing string, vs []admit.Violation) error {
	if len(vs) == 0 {
		return nil
	}
	d := &errdetails.PreconditionFailure{}
	for _, v := range vs {
		d.Violations = append(d.Violations, &errdetails.PreconditionFailure_Violation{Type: "COLLISION", Subject: v.Field, Description: v.Description})
	}
	return detailed(codes.FailedPrecondition, doing+": "+admit.Join(vs), d)
}

func detailed(code codes.Code, msg string, d protoadapt.MessageV1) error {
	st := status.New(code, msg)
	with, err := st.WithDetails(d)
	if err != nil { // the details are ours, but the status alone still says it all
		return st.Err()
	}
	return with.Err()
}

// failed maps what the store says to the status of a call. It is the only place
// that does. An error that already is a status stays what it is.
func failed(ctx context.Context, doing string, err error) error {
	if err == nil {
		return nil
	}
	// Only the error itself, nothing within: the store wraps statuses of its own
	// server.
	if _, ours := err.(interface{ GRPCStatus() *status.Status }); ours {
		return err
	}
	switch {
	case ctx.Err() != nil:
		return interrupted(ctx, doing)
	case errors.Is(err, store.ErrUnavailable), errors.Is(err, context.DeadlineExceeded):
		return detailed(codes.Unavailable, doing+": the controller cannot reach etcd: check that etcd runs, then try again", &errdetails.RetryInfo{RetryDelay: durationpb.New(retryAfter)})
	case errors.Is(err, store.ErrConflict):
		return status.Errorf(codes.Aborted, "%s: it kept changing meanwhile: try again", doing)
	case errors.Is(err, store.ErrCompacted):
		return status.Errorf(codes.OutOfRange, "%s: the revision to resume from is no longer kept: begin again without one", doing)
	}
	return status.Errorf(codes.Internal, "%s: %v", doing, err)
}

func interrupted(ctx context.Context, doing string) error {
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return status.Errorf(codes.DeadlineExceeded, "%s: the call's time is up: try again with a longer timeout", doing)
	}
	return status.Errorf(codes.Canceled, "%s: cancelled by the caller", doing)
}
