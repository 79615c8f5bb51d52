package embedstore

import (
	"context"
	"crypto/tls"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
)

// door asks, on each call, whether who is at the other end may still come in: TLS
// asks once, when a connection is made, and those of agents last for weeks.
type door struct {
	accept func(context.Context, tls.ConnectionState) (gone <-chan struct{}, err error)
}

func (d door) admit(ctx context.Context) (gone <-chan struct{}, err error) {
	if d.accept == nil {
		return nil, nil
	}
	var state tls.ConnectionState
	if p, ok := peer.FromContext(ctx); ok {
		if info, ok := p.AuthInfo.(credentials.TLSInfo); ok {
			state = info.State
		}
	}
	gone, err = d.accept(ctx, state)
	if err != nil {
		return nil, status.Errorf(codes.PermissionDenied, "refused: %v", err)
	}
	return gone, nil
}

func (d door) unary(ctx context.Context, req any, _ *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
	if _, err := d.admit(ctx); err != nil {
		return nil, err
	}
	return next(ctx, req)
}

func (d door) stream(srv any, stream grpc.ServerStream, _ *grpc.StreamServerInfo, next grpc.StreamHandler) error {
	gone, err := d.admit(stream.Context())
	if err != nil {
		return err
	}
	if gone == nil {
		return next(srv, stream)
	}
	ctx, cancel := context.WithCancel(stream.Context())
	defer cancel()
	go func() {
		select {
		case <-gone:
			cancel()
		case <-ctx.Done():
		}
	}()
	err = next(srv, endable{stream, ctx})
	select {
	case <-gone:
		return status.Error(codes.PermissionDenied, "refused: removed from the cluster")
	default:
		return err
	}
}
