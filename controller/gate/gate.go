package gate

import (
	"context"
	"crypto/x509"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	"github.com/ovlnet/ovl/controller/audit"
	"github.com/ovlnet/ovl/controller/limit"
	"github.com/ovlnet/ovl/internal/identity"
)

// Config is what a Gate needs.
type Config struct {
	// Verify returns who showed that chain: see [identity.Credential.Verify].
	// Nil means that there are no certificates (--insecure-plaintext): every
	// caller is the local admin.
	Verify func(chain []*x509.Certificate, want ...identity.Role) (identity.Who, error)
	// Check reports whether he is a member with that key, and until when: see
	// [roll.Roll.Check].
	Check func(ctx context.Context, who identity.Who, key identity.Print) (gone <-chan struct{}, err error)
	// Authorities tells the CAs in force, as [identity.Text] has them; nil: nothing
	// is told. Each answer carries it, so that callers see when they change.
	Authorities func() string
	Log         *slog.Logger
	Now         func() time.Time // nil = [time.Now]
}

// The limits for one source: see [limit.Source]. A rack behind one address joins in a burst.
const (
	joinBurst, joinRefill = 200, 200 * time.Millisecond
	failBurst, failRefill = 20, 3 * time.Second
)

// Gate is the interceptors of the controller's server.
type Gate struct {
	Config
	joins, failures *limit.Limit[netip.Addr]
}

// New returns a Gate.
func New(c Config) *Gate {
	if c.Now == nil {
		c.Now = time.Now
	}
	return &Gate{
		Config:   c,
		joins:    limit.New[netip.Addr](joinBurst, joinRefill, c.Now),
		failures: limit.New[netip.Addr](failBurst, failRefill, c.Now),
	}
}

type callerKey struct{}

// Caller returns who calls, in the context of a handler behind a Gate.
func Caller(ctx context.Context) (identity.Who, identity.Print, bool) {
	c, ok := ctx.Value(callerKey{}).(caller)
	return c.who, c.key, ok
}

type caller struct {
	who identity.Who
	key identity.Print
}

// Unary is the interceptor for calls.
func (g *Gate) Unary(ctx context.Context, req any, info *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
	ctx, _, err := g.admit(ctx, info.FullMethod)
	if err != nil {
		return nil, err
	}
	if g.Authorities != nil {
		_ = grpc.SetHeader(ctx, metadata.Pairs(identity.Header, g.Authorities())) // a hint: an answer without it is as good
	}
	resp, err := next(ctx, req)
	if open[info.FullMethod] && status.Code(err) == codes.Unauthenticated {
		err = g.refused(ctx, info.FullMethod, err)
	}
	return resp, err
}

// Stream is the interceptor for streams. One ends when its caller is removed.
func (g *Gate) Stream(srv any, ss grpc.ServerStream, info *grpc.StreamServerInfo, next grpc.StreamHandler) error {
	ctx, gone, err := g.admit(ss.Context(), info.FullMethod)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	if gone != nil {
		go func() {
			select {
			case <-gone:
				cancel(errRemoved)
			case <-ctx.Done():
			}
		}()
	}
	err = next(srv, admitted{ss, ctx})
	if errors.Is(context.Cause(ctx), errRemoved) {
		return errRemoved
	}
	return err
}

var errRemoved = status.Error(codes.Unauthenticated, "you have been removed from this cluster")

// admitted is a stream with the caller in its context.
type admitted struct {
	grpc.ServerStream
	ctx context.Context //nolint:containedctx // a stream has its context: gRPC's interface asks it for one
}

// Context implements [grpc.ServerStream].
func (s admitted) Context() context.Context { return s.ctx }

// admit finds out who calls and whether he may.
func (g *Gate) admit(ctx context.Context, method string) (context.Context, <-chan struct{}, error) {
	if open[method] {
		if from := limit.Source(address(ctx)); !g.failures.Has(from) || !g.joins.Take(from) {
			return ctx, nil, errTooMany
		}
		return ctx, nil, nil
	}
	c, gone, err := g.identify(ctx)
	switch {
	case err != nil && identity.FaultOf(err) == "":
		return ctx, nil, status.Errorf(codes.Unavailable, "find out who calls: %v", err)
	case err != nil:
		return ctx, nil, g.refused(ctx, method, status.Errorf(codes.Unauthenticated, "refused: %v", err))
	case !Allowed(c.who.Role, method):
		return ctx, nil, status.Errorf(codes.PermissionDenied, "refused: %s has the wrong role for this: %s", c.who, wanted(method))
	}
	return context.WithValue(ctx, callerKey{}, c), gone, nil
}

// errTooMany tells an address that failed, or joined, too often. Who shows a good
// certificate never gets it, whoever else is at his address.
var errTooMany = status.Error(codes.ResourceExhausted, "too many attempts from your address: wait a minute")

// refused logs who was not let in, and why, as long as his address does not do it
// all the time.
func (g *Gate) refused(ctx context.Context, method string, err error) error {
	from := address(ctx)
	if !g.failures.Take(limit.Source(from)) {
		return errTooMany
	}
	g.Log.Warn("a call was refused", slog.String("method", method), slog.String("from", from.String()), slog.String("why", status.Convert(err).Message()))
	return err
}

// identify returns who is at the other end of the connection.
func (g *Gate) identify(ctx context.Context) (caller, <-chan struct{}, error) {
	if g.Verify == nil {
		who := identity.Who{Role: identity.Admin, Name: identity.Local}
		audit.By(ctx, who.String())
		return caller{who: who}, nil, nil
	}
	chain := Shown(ctx)
	who, err := g.Verify(chain)
	if err != nil {
		return caller{}, nil, err
	}
	audit.By(ctx, who.String()) // also who has been removed: the certificate is his
	key := identity.PrintOf(chain[0])
	gone, err := g.Check(ctx, who, key)
	return caller{who: who, key: key}, gone, err
}

// Shown returns the certificates that the other end of a call showed. TLS has
// seen that it has the key of the first, and nothing else.
func Shown(ctx context.Context) []*x509.Certificate {
	p, ok := peer.FromContext(ctx)
	if !ok {
		return nil
	}
	info, ok := p.AuthInfo.(credentials.TLSInfo)
	if !ok {
		return nil
	}
	return info.State.PeerCertificates
}

// address returns where a call comes from.
func address(ctx context.Context) netip.Addr {
	p, ok := peer.FromContext(ctx)
	if !ok {
		return netip.Addr{}
	}
	tcp, ok := p.Addr.(*net.TCPAddr)
	if !ok {
		return netip.Addr{}
	}
	return tcp.AddrPort().Addr().Unmap()
}

// wanted says who may call a method.
func wanted(method string) string {
	names := []string{"ask for admin"}
	for _, r := range table[method] {
		names = append(names, string(r))
	}
	return strings.Join(names, " or ")
}
