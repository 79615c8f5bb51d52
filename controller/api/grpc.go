package api

import (
	"context"
	"fmt"
	"log/slog"
	"runtime/debug"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/status"
)

// The bounds of what one client may ask of the server.
const (
	maxRequest  = 256 << 10 // bytes; the largest request is a network with all its labels
	maxResponse = 64 << 20  // bytes; a page of 1,000 hosts with all their problems
	maxStreams  = 256       // calls at once on one connection
	// maxCall bounds a call that comes without a deadline, or with a longer one.
	maxCall = 60 * time.Second
)

// Observer is told of every call that was answered.
type Observer func(method, code string, took time.Duration, stream bool)

// Options returns the options of the gRPC server that serves the API: bounds,
// keepalive, recovery from panics, a log of calls at debug level, and the end of
// streams with [Server.EndWatches]. observe may be nil.
func (s *Server) Options(observe Observer) []grpc.ServerOption {
	if observe == nil {
		observe = func(string, string, time.Duration, bool) {}
	}
	return []grpc.ServerOption{
		grpc.MaxRecvMsgSize(maxRequest),
		grpc.MaxSendMsgSize(maxResponse),
		grpc.MaxConcurrentStreams(maxStreams),
		// A client that vanished without a word holds a watch: ask after a minute.
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: time.Minute, Timeout: 20 * time.Second}),
		// Clients may ask too, but not more often than this, also between calls.
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: 10 * time.Second, PermitWithoutStream: true}),
		grpc.ChainUnaryInterceptor(unary(s.log, observe)),
		grpc.ChainStreamInterceptor(stream(s.log, observe), s.endable),
	}
}

func unary(log *slog.Logger, observe Observer) grpc.UnaryServerInterceptor {
	return func(ctx context.Context, req any, info *grpc.UnaryServerInfo, next grpc.UnaryHandler) (resp any, err error) {
		start := time.Now()
		ctx, cancel := context.WithTimeout(ctx, maxCall)
		defer cancel()
		defer func() {
			took := time.Since(start)
			observe(info.FullMethod, status.Code(err).String(), took, false)
			logCall(ctx, log, info.FullMethod, took, err)
		}()
		defer recovered(ctx, log, info.FullMethod, &err)
		return next(ctx, req)
	}
}

func stream(log *slog.Logger, observe Observer) grpc.StreamServerInterceptor {
	return func(srv any, ss grpc.ServerStream, info *grpc.StreamServerInfo, next grpc.StreamHandler) (err error) {
		start, ctx := time.Now(), ss.Context()
		defer func() {
			took := time.Since(start)
			observe(info.FullMethod, status.Code(err).String(), took, true)
			logCall(ctx, log, info.FullMethod, took, err)
		}()
		defer recovered(ctx, log, info.FullMethod, &err)
		return next(srv, ss)
	}
}

// endable makes every stream end with the server's watches, those of health and
// reflection too: a graceful stop waits for streams, which last as long as
// their clients.
func (s *Server) endable(srv any, ss grpc.ServerStream, _ *grpc.StreamServerInfo, next grpc.StreamHandler) error {
	ctx, cancel := context.WithCancel(ss.Context())
	defer cancel()
	go func() {
		select {
		case <-s.closing:
			cancel()
		case <-ctx.Done():
		}
	}()
	err := next(srv, within{ss, ctx})
	select {
	case <-s.closing:
		if code := status.Code(err); code == codes.Canceled || code == codes.Unknown {
			return status.Error(codes.Unavailable, "this controller is shutting down: try again")
		}
	default:
	}
	return err
}

// within is a stream with a context of its own.
type within struct {
	grpc.ServerStream
	ctx context.Context //nolint:containedctx // a stream hands its context out by a method
}

// Context implements [grpc.ServerStream].
func (w within) Context() context.Context { return w.ctx }

func logCall(ctx context.Context, log *slog.Logger, method string, took time.Duration, err error) {
	attrs := []slog.Attr{slog.String("method", method), slog.String("code", status.Code(err).String()), slog.Duration("took", took)}
	if err != nil {
		attrs = append(attrs, slog.String("err", err.Error()))
	}
	log.LogAttrs(ctx, slog.LevelDebug, "call", attrs...)
}

// recovered makes a panic the INTERNAL of one call instead of the end of all.
func recovered(ctx context.Context, log *slog.Logger, method string, err *error) {
	r := recover()
	if r == nil {
		return
	}
	log.LogAttrs(ctx, slog.LevelError, "call panicked", slog.String("method", method),
		slog.String("panic", fmt.Sprint(r)), slog.String("stack", string(debug.Stack())))
	*err = status.Error(codes.Internal, "the controller has a bug: its log says more: please report it")
}
