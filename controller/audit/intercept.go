package audit

import (
	"context"
	"net"
	"net/netip"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	"github.com/ovlnet/ovl/controller/limit"
	ovlv1 "github.com/ovlnet/ovl/proto/ovl/v1"
)

// Options returns those of a server whose calls are recorded. They come before
// all others: what the gate refuses is recorded too.
func (t *Trail) Options() []grpc.ServerOption {
	return []grpc.ServerOption{grpc.ChainUnaryInterceptor(t.unary), grpc.ChainStreamInterceptor(t.stream)}
}

func (t *Trail) unary(ctx context.Context, req any, info *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
	e := &entry{what: subject(req)}
	resp, err := next(within(ctx, e), req)
	t.answered(ctx, info.FullMethod, e, err)
	return resp, err
}

func (t *Trail) stream(srv any, ss grpc.ServerStream, info *grpc.StreamServerInfo, next grpc.StreamHandler) error {
	e := &entry{}
	err := next(srv, recorded{ss, within(ss.Context(), e)})
	t.answered(ss.Context(), info.FullMethod, e, err)
	return err
}

// recorded is a stream with an entry in its context.
type recorded struct {
	grpc.ServerStream
	ctx context.Context //nolint:containedctx // a stream has its context: gRPC's interface asks it for one
}

// Context implements [grpc.ServerStream].
func (r recorded) Context() context.Context { return r.ctx }

// answered records a call before its caller gets the answer.
func (t *Trail) answered(ctx context.Context, method string, e *entry, err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	st := status.Convert(err)
	denied := st.Code() == codes.Unauthenticated || st.Code() == codes.PermissionDenied
	stranger := e.who == "" && err != nil
	if reads[method] && !denied && !stranger {
		return
	}
	from, source := origin(ctx)
	ev := &ovlv1.Event{
		Who: text(e.who, maxShort), From: text(from, maxShort), Action: text(action(method), maxShort), What: text(e.what, maxWhat),
		Outcome: outcome(st.Code()), Reason: text(st.Message(), maxReason), Before: object(e.before), After: object(e.after),
	}
	if err != nil {
		ev.After = nil // it did not become that
	}
	switch {
	case denied || stranger:
	case method == ovlv1.JoinService_Renew_FullMethodName:
		t.record(ev, renewals)
		return
	default:
		t.record(ev, changes)
		return
	}
	if e.who != "" {
		source = e.who
	}
	t.refused(ev, source)
}

// origin returns where a call comes from, and by what its refusals are counted.
func origin(ctx context.Context) (from, source string) {
	p, ok := peer.FromContext(ctx)
	if !ok {
		return "", ""
	}
	if tcp, ok := p.Addr.(*net.TCPAddr); ok {
		at := tcp.AddrPort()
		return netip.AddrPortFrom(at.Addr().Unmap(), at.Port()).String(), limit.Source(at.Addr()).String()
	}
	return p.Addr.String(), p.Addr.String()
}
