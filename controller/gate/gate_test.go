package gate_test

import (
	"context"
	"crypto/x509"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	"github.com/ovlnet/ovl/controller/gate"
	"github.com/ovlnet/ovl/internal/identity"
	ovlv1 "github.com/ovlnet/ovl/proto/ovl/v1"
)

var now = time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)

// Every method that the controller serves stands in the table, or is open.
func TestTableIsWhole(t *testing.T) {
	for _, d := range []grpc.ServiceDesc{
		ovlv1.NetworkService_ServiceDesc, ovlv1.HostService_ServiceDesc, ovlv1.SubnetService_ServiceDesc, ovlv1.EndpointService_ServiceDesc,
		ovlv1.ControllerService_ServiceDesc, ovlv1.TokenService_ServiceDesc, ovlv1.JoinService_ServiceDesc, ovlv1.MemberService_ServiceDesc, ovlv1.EventService_ServiceDesc, grpc_health_v1.Health_ServiceDesc,
	} {
		var methods []string
		for _, m := range d.Methods {
			methods = append(methods, m.MethodName)
		}
		for _, s := range d.Streams {
			methods = append(methods, s.StreamName)
		}
		for _, m := range methods {
			if full := "/" + d.ServiceName + "/" + m; !gate.Named(full) {
				t.Errorf("%s: who may call it? Nobody has said so in table.go", full)
			}
		}
	}
}

func TestRoles(t *testing.T) {
	const (
		read   = ovlv1.NetworkService_ListNetworks_FullMethodName
		change = ovlv1.NetworkService_UpdateNetwork_FullMethodName
		bring  = ovlv1.NetworkService_CreateNetwork_FullMethodName
		tokens = ovlv1.TokenService_CreateToken_FullMethodName
		renew  = ovlv1.JoinService_Renew_FullMethodName
		other  = "/some.Service/Method"
	)
	for role, may := range map[identity.Role]string{
		identity.Admin:      read + change + bring + tokens + renew + other,
		identity.Operator:   read + change + bring + renew,
		identity.Viewer:     read + renew,
		identity.Host:       bring + renew,
		identity.Controller: renew,
	} {
		for _, method := range []string{read, change, bring, tokens, renew, other} {
			if got, want := gate.Allowed(role, method), strings.Contains(may, method); got != want {
				t.Errorf("%s may call %s: %v, want %v", role, method, got, want)
			}
		}
	}
}

// world is a gate with a CA of its own.
type world struct {
	*gate.Gate
	t       *testing.T
	ca      *identity.Authority
	removed map[identity.Who]bool
}

func newWorld(t *testing.T) *world {
	t.Helper()
	ca, err := identity.NewAuthority(now)
	if err != nil {
		t.Fatal(err)
	}
	w := &world{t: t, ca: ca, removed: map[identity.Who]bool{}}
	w.Gate = gate.New(gate.Config{
		Verify: func(chain []*x509.Certificate, want ...identity.Role) (identity.Who, error) {
			return identity.Verify(chain, ca.Roots(), now, want...)
		},
		Check: func(_ context.Context, who identity.Who, _ identity.Print) (<-chan struct{}, error) {
			if w.removed[who] {
				return nil, &identity.RefusalError{Fault: identity.Removed, Who: who, Text: who.String() + " is no member"}
			}
			return nil, nil
		},
		Log: slog.New(slog.DiscardHandler), Now: func() time.Time { return now },
	})
	return w
}

func (w *world) chain(ca *identity.Authority, who identity.Who, life time.Duration) []*x509.Certificate {
	w.t.Helper()
	key, err := identity.NewKey()
	if err != nil {
		w.t.Fatal(err)
	}
	chain, err := ca.Issue(who, key.Public(), identity.Names{}, now, life)
	if err != nil {
		w.t.Fatal(err)
	}
	return chain
}

// call calls a method over a connection on which that chain was shown.
func (w *world) call(method, from string, chain []*x509.Certificate) (caller identity.Who, err error) {
	info := credentials.TLSInfo{}
	info.State.PeerCertificates = chain
	ctx := peer.NewContext(context.Background(), &peer.Peer{Addr: &net.TCPAddr{IP: net.ParseIP(from), Port: 1}, AuthInfo: info})
	_, err = w.Unary(ctx, nil, &grpc.UnaryServerInfo{FullMethod: method}, func(ctx context.Context, _ any) (any, error) {
		caller, _, _ = gate.Caller(ctx)
		if method == ovlv1.JoinService_Join_FullMethodName {
			return nil, status.Error(codes.Unauthenticated, "no such token")
		}
		return nil, nil
	})
	return caller, err
}

func TestRefusals(t *testing.T) {
	w := newWorld(t)
	other, err := identity.NewAuthority(now)
	if err != nil {
		t.Fatal(err)
	}
	ann := identity.Who{Role: identity.Viewer, Name: "ann"}
	bob := identity.Who{Role: identity.Admin, Name: "bob"}
	w.removed[bob] = true
	for i, c := range []struct {
		name, method string
		chain        []*x509.Certificate
		code         codes.Code
		says         string
	}{
		{"good", ovlv1.NetworkService_ListNetworks_FullMethodName, w.chain(w.ca, ann, time.Hour), codes.OK, ""},
		{"none", ovlv1.NetworkService_ListNetworks_FullMethodName, nil, codes.Unauthenticated, "no certificate"},
		{"expired", ovlv1.NetworkService_ListNetworks_FullMethodName, w.chain(w.ca, ann, -time.Minute), codes.Unauthenticated, "expired at"},
		{"other CA", ovlv1.NetworkService_ListNetworks_FullMethodName, w.chain(other, ann, time.Hour), codes.Unauthenticated, "another cluster's CA"},
		{"wrong role", ovlv1.NetworkService_CreateNetwork_FullMethodName, w.chain(w.ca, ann, time.Hour), codes.PermissionDenied, "viewer ann has the wrong role for this: ask for admin or operator or host"},
		{"removed", ovlv1.NetworkService_ListNetworks_FullMethodName, w.chain(w.ca, bob, time.Hour), codes.Unauthenticated, "no member"},
	} {
		t.Run(c.name, func(t *testing.T) {
			caller, err := w.call(c.method, fmt.Sprintf("192.0.2.%d", i), c.chain)
			if st := status.Convert(err); st.Code() != c.code || !strings.Contains(st.Message(), c.says) {
				t.Errorf("%v, want %s with %q", err, c.code, c.says)
			}
			if err == nil && caller != ann {
				t.Errorf("the handler saw %v", caller)
			}
		})
	}
}

// An address that guesses tokens is soon not listened to, while others are, and
// so is whoever shows a good certificate there.
func TestGuessing(t *testing.T) {
	w := newWorld(t)
	const join = ovlv1.JoinService_Join_FullMethodName
	var last error
	for range 40 {
		_, last = w.call(join, "192.0.2.1", nil)
	}
	if status.Code(last) != codes.ResourceExhausted {
		t.Errorf("the fortieth guess: %v", last)
	}
	if _, err := w.call(join, "192.0.2.2", nil); status.Code(err) != codes.Unauthenticated {
		t.Errorf("from elsewhere: %v", err)
	}
	good := w.chain(w.ca, identity.Who{Role: identity.Viewer, Name: "ann"}, time.Hour)
	if _, err := w.call(ovlv1.NetworkService_ListNetworks_FullMethodName, "192.0.2.1", good); err != nil {
		t.Errorf("a member at that address: %v", err)
	}
}
