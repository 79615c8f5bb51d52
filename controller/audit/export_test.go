package audit

import (
	"context"

	"google.golang.org/grpc"
)

// Call makes a call that answers with err once set has said what it is about.
func (t *Trail) Call(ctx context.Context, method string, req any, set func(context.Context), err error) {
	_, _ = t.unary(ctx, req, &grpc.UnaryServerInfo{FullMethod: method}, func(ctx context.Context, _ any) (any, error) {
		set(ctx)
		return nil, err
	})
}

// Reads reports whether a method is one that changes nothing.
func Reads(method string) bool { return reads[method] }

// Subject is subject.
func Subject(req any) string { return subject(req) }
