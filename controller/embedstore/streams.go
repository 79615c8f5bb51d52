package embedstore

import (
	"context"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// streams ends the calls that never end by themselves. A graceful stop waits
// for them, and a watch lasts as long as its agent: without this, stopping a
// controller takes etcd's request timeout, more than five seconds.
type streams struct {
	once   sync.Once
	ending chan struct{}
}

func newStreams() *streams { return &streams{ending: make(chan struct{})} }

// end ends the running streams and all later ones.
func (s *streams) end() { s.once.Do(func() { close(s.ending) }) }

// intercept runs a stream until it ends or all do; clients are then told to try
// again, as they are by a server that went away.
func (s *streams) intercept(srv any, stream grpc.ServerStream, _ *grpc.StreamServerInfo, handle grpc.StreamHandler) error {
	ctx, cancel := context.WithCancel(stream.Context())
	defer cancel()
	go func() {
		select {
		case <-s.ending:
			cancel()
		case <-ctx.Done():
		}
	}()
	err := handle(srv, endable{stream, ctx})
	select {
	case <-s.ending:
		return status.Error(codes.Unavailable, "store is stopping")
	default:
		return err
	}
}

// endable is a stream with a context that can be ended from this side.
type endable struct {
	grpc.ServerStream
	ctx context.Context //nolint:containedctx // a stream has its context: gRPC's interface asks it for one
}

// Context implements [grpc.ServerStream].
func (e endable) Context() context.Context { return e.ctx }
