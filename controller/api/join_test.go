package api_test

import (
	"context"
	"crypto"
	"crypto/x509"
	"log/slog"
	"net"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"

	"github.com/ovlnet/ovl/controller/api"
	"github.com/ovlnet/ovl/controller/audit"
	"github.com/ovlnet/ovl/controller/gate"
	"github.com/ovlnet/ovl/controller/keys"
	"github.com/ovlnet/ovl/controller/roll"
	"github.com/ovlnet/ovl/controller/rotation"
	"github.com/ovlnet/ovl/internal/cluster"
	"github.com/ovlnet/ovl/internal/identity"
	"github.com/ovlnet/ovl/internal/store"
	"github.com/ovlnet/ovl/internal/store/mem"
	ovlv1 "github.com/ovlnet/ovl/proto/ovl/v1"
)

// club is a controller that wants certificates.
type club struct {
	t      *testing.T
	ca     *keys.Keys
	turn   *rotation.Rotation
	kv     *mem.Client
	silent atomic.Bool // the store answers the API no more
	listen *bufconn.Listener
	clock  time.Time
	admin  *grpc.ClientConn
	log    *paper // of what was done
}

func newClub(t *testing.T) *club {
	t.Helper()
	return newClubOf(t, api.Config{})
}

func newClubOf(t *testing.T, config api.Config) *club {
	t.Helper()
	s := mem.New()
	t.Cleanup(func() { _ = s.Close() })
	c := &club{t: t, kv: s.NewClient(), listen: bufconn.Listen(1 << 20), clock: time.Now(), log: &paper{}}
	var err error
	now := func() time.Time { return c.clock }
	if c.ca, err = keys.Open(keys.Config{Dir: t.TempDir(), Hostname: "c", Life: time.Hour, Now: now}); err != nil {
		t.Fatal(err)
	}
	own := c.ca.Credential
	log := slog.New(slog.DiscardHandler)
	members := roll.New(c.kv, log)
	trail := audit.New(audit.Config{Store: c.kv, Log: audit.Stream(c.log), Controller: "c", Reports: log})
	go trail.Run(t.Context())
	c.turn = rotation.New(rotation.Config{Store: c.kv, Keys: c.ca, Roll: members, Controller: "c", Life: time.Hour, Log: log, Now: now})
	go func() { _ = c.turn.Run(t.Context()) }()
	go members.Run(t.Context())
	config.Store = stalling{c.kv, &c.silent}
	config.Log, config.Trail = log, trail
	config.Identity = &api.Identity{Keys: c.ca, Rotation: c.turn, Life: time.Hour, EtcdEndpoints: []string{"https://:6779"}, Now: now, Removed: members.Forget}
	server := api.New(config)
	g := gate.New(gate.Config{Verify: own.Verify, Check: members.Check, Log: log, Authorities: func() string { return identity.Text(c.ca.InForce()) }})
	rpc := grpc.NewServer(slices.Concat(trail.Options(), server.Options(nil), []grpc.ServerOption{
		grpc.Creds(credentials.NewTLS(own.Asking())), grpc.ChainUnaryInterceptor(g.Unary), grpc.ChainStreamInterceptor(g.Stream),
	})...)
	server.Register(rpc)
	served := make(chan struct{})
	go func() { defer close(served); _ = rpc.Serve(c.listen) }()
	t.Cleanup(func() { rpc.Stop(); <-served })
	c.admin = c.dial(credentials.NewTLS(c.credential(identity.Who{Role: identity.Admin, Name: identity.Local}).Client()))
	return c
}

// stalling is a store that stops to answer.
type stalling struct {
	store.KV
	stalled *atomic.Bool
}

func (s stalling) Range(ctx context.Context, prefixes ...string) (store.Page, error) {
	if s.stalled.Load() {
		return silent{}.Range(ctx)
	}
	return s.KV.Range(ctx, prefixes...)
}

func (c *club) credential(who identity.Who) *identity.Credential {
	c.t.Helper()
	return c.credentialOf(who, c.key())
}

func (c *club) credentialOf(who identity.Who, key crypto.Signer) *identity.Credential {
	c.t.Helper()
	chain, err := c.ca.Issue(who, key.Public(), identity.Names{}, c.clock, time.Hour)
	if err != nil {
		c.t.Fatal(err)
	}
	return identity.NewCredential(identity.Pair{Chain: chain, Key: key}, c.ca.Roots(), time.Now)
}

func (c *club) key() crypto.Signer {
	c.t.Helper()
	key, err := identity.NewKey()
	if err != nil {
		c.t.Fatal(err)
	}
	return key
}

func (c *club) dial(with credentials.TransportCredentials) *grpc.ClientConn {
	c.t.Helper()
	conn, err := grpc.NewClient("passthrough:///mem", grpc.WithTransportCredentials(with),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return c.listen.DialContext(ctx) }))
	if err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(func() { _ = conn.Close() })
	return conn
}

func (c *club) token(req *ovlv1.CreateTokenRequest) identity.Token {
	c.t.Helper()
	m, err := ovlv1.NewTokenServiceClient(c.admin).CreateToken(c.t.Context(), req)
	if err != nil {
		c.t.Fatal(err)
	}
	tok, err := identity.ParseToken(m.GetText())
	if err != nil {
		c.t.Fatal(err)
	}
	return tok
}

// join joins as a host does, knowing no more than the token.
func (c *club) join(t identity.Token, id cluster.HostID, name string, key crypto.Signer) (*ovlv1.Membership, error) {
	c.t.Helper()
	request, err := identity.NewRequest(key)
	if err != nil {
		c.t.Fatal(err)
	}
	conn := c.dial(credentials.NewTLS(identity.Pinned(t.CA, time.Now)))
	return ovlv1.NewJoinServiceClient(conn).Join(c.t.Context(), &ovlv1.JoinRequest{
		TokenId: t.ID, Secret: t.Secret, Request: request, HostId: string(id), Name: name,
	})
}

func (c *club) refused(doing string, err error, code codes.Code, says string) {
	c.t.Helper()
	if st := status.Convert(err); st.Code() != code || !strings.Contains(st.Message(), says) || strings.Contains(st.Message(), "\n") {
		c.t.Errorf("%s: %v, want %s with %q", doing, err, code, says)
	}
}

func TestJoin(t *testing.T) {
	c := newClub(t)
	tok, key := c.token(&ovlv1.CreateTokenRequest{Uses: 1}), c.key()
	m, err := c.join(tok, idA, "h1", key)
	if err != nil {
		t.Fatal(err)
	}
	chain, err := identity.ParseChain(m.GetChain())
	if err != nil {
		t.Fatal(err)
	}
	if who, err := identity.Verify(chain, c.ca.Roots(), time.Now()); err != nil || who != (identity.Who{Role: identity.Host, Name: string(idA)}) {
		t.Errorf("the certificate is of %v, %v", who, err)
	}
	// The answer got lost: the same again, though the token is spent.
	if _, err := c.join(tok, idA, "h1", key); err != nil {
		t.Errorf("the same host again: %v", err)
	}
	list, err := ovlv1.NewTokenServiceClient(c.admin).ListTokens(t.Context(), &ovlv1.ListTokensRequest{})
	if err != nil || len(list.GetTokens()) != 1 || list.GetTokens()[0].GetUsed() != 1 || list.GetTokens()[0].GetText() != "" || list.GetTokens()[0].GetCreator() != "admin local" {
		t.Errorf("tokens: %v, %v", list, err)
	}
	_, err = c.join(tok, idB, "h2", c.key())
	c.refused("a second host", err, codes.Unauthenticated, "used 1 times")

	more := c.token(&ovlv1.CreateTokenRequest{})
	_, err = c.join(more, idA, "h1", c.key())
	c.refused("another key of that host", err, codes.AlreadyExists, "ovlctl host rm h1")
	_, err = c.join(more, idB, "h1", c.key())
	c.refused("another host of that name", err, codes.AlreadyExists, "another host has joined as h1")
	if _, err := ovlv1.NewMemberServiceClient(c.admin).RemoveMember(t.Context(), &ovlv1.RemoveMemberRequest{Role: "host", Name: "h1"}); err != nil {
		t.Fatal(err)
	}
	if _, err := c.join(more, idB, "h1", c.key()); err != nil {
		t.Errorf("the name of a host that was removed: %v", err)
	}
}

func TestTokensRefused(t *testing.T) {
	c := newClub(t)
	tokens := ovlv1.NewTokenServiceClient(c.admin)
	wrong := c.token(&ovlv1.CreateTokenRequest{})
	wrong.Secret = strings.Repeat("a", 26)
	bound := c.token(&ovlv1.CreateTokenRequest{Name: "db7"})
	late := c.token(&ovlv1.CreateTokenRequest{TtlSeconds: 60})
	revoked := c.token(&ovlv1.CreateTokenRequest{})
	if _, err := tokens.RevokeToken(t.Context(), &ovlv1.RevokeTokenRequest{Id: revoked.ID}); err != nil {
		t.Fatal(err)
	}
	elsewhere := c.token(&ovlv1.CreateTokenRequest{})
	elsewhere.CA = identity.Print{1}
	person := c.token(&ovlv1.CreateTokenRequest{Role: "viewer", Name: "ann"})
	c.clock = c.clock.Add(2 * time.Minute)
	for _, x := range []struct {
		name  string
		token identity.Token
		code  codes.Code
		says  string
	}{
		{"a wrong secret", wrong, codes.Unauthenticated, "no such token"},
		{"another host's", bound, codes.Unauthenticated, "for host db7 alone"},
		{"late", late, codes.Unauthenticated, "expired at"},
		{"revoked", revoked, codes.Unauthenticated, "no such token"},
		{"another cluster's", elsewhere, codes.Unavailable, "another cluster, or somebody in between"},
		{"a person's", person, codes.Unauthenticated, "for viewer ann alone"},
	} {
		_, err := c.join(x.token, idA, "h1", c.key())
		c.refused(x.name, err, x.code, x.says)
	}
	if page, err := c.kv.Range(t.Context(), roll.MembersPrefix); err != nil || len(page.Records) != 0 {
		t.Errorf("members: %v, %v", page.Records, err)
	}
	for _, req := range []*ovlv1.CreateTokenRequest{{Role: "controller"}, {Role: "viewer"}, {Role: "king", Name: "k"}, {TtlSeconds: -1}, {TtlSeconds: 1 << 40}, {Name: "No"}} {
		_, err := tokens.CreateToken(t.Context(), req)
		c.refused("a token as "+req.String(), err, codes.InvalidArgument, "")
	}
	_, err := tokens.RevokeToken(t.Context(), &ovlv1.RevokeTokenRequest{Id: "aaaaaaaa"})
	c.refused("revoke what is not there", err, codes.NotFound, "token ls")
}

// What a host has in the store of its secret would not let it in.
func TestSecretsAreNotKept(t *testing.T) {
	c := newClub(t)
	tok := c.token(&ovlv1.CreateTokenRequest{})
	page, err := c.kv.Range(t.Context(), store.Root)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range page.Records {
		if strings.Contains(string(r.Value), tok.Secret) {
			t.Errorf("%s holds the secret", r.Key)
		}
	}
}

func TestRenew(t *testing.T) {
	c := newClub(t)
	key := c.key()
	m, err := c.join(c.token(&ovlv1.CreateTokenRequest{}), idA, "h1", key)
	if err != nil {
		t.Fatal(err)
	}
	chain, err := identity.ParseChain(m.GetChain())
	if err != nil {
		t.Fatal(err)
	}
	own := identity.NewCredential(identity.Pair{Chain: chain, Key: key}, c.ca.Roots(), time.Now)
	conn := ovlv1.NewJoinServiceClient(c.dial(credentials.NewTLS(own.Client())))
	renew := func(k crypto.Signer) (*ovlv1.Membership, error) {
		request, err := identity.NewRequest(k)
		if err != nil {
			t.Fatal(err)
		}
		return conn.Renew(t.Context(), &ovlv1.RenewRequest{Request: request})
	}
	c.clock = c.clock.Add(30 * time.Minute)
	m, err = renew(key)
	if err != nil {
		t.Fatal(err)
	}
	if next := leaf(t, m); !next.NotAfter.After(chain[0].NotAfter) || identity.PrintOf(next) != identity.PrintOf(chain[0]) {
		t.Errorf("it ends at %s, before at %s", next.NotAfter, chain[0].NotAfter)
	}
	_, err = renew(c.key())
	c.refused("another key", err, codes.PermissionDenied, "another key")
	_, err = ovlv1.NewNetworkServiceClient(c.dial(credentials.NewTLS(own.Client()))).UpdateNetwork(t.Context(), &ovlv1.UpdateNetworkRequest{Name: "x"})
	c.refused("a host changes a network", err, codes.PermissionDenied, "wrong role")
	if _, err := ovlv1.NewHostServiceClient(c.admin).DeleteHost(t.Context(), &ovlv1.DeleteHostRequest{Name: "h1"}); err != nil {
		t.Fatal(err)
	}
	_, err = renew(key)
	c.refused("removed", err, codes.Unauthenticated, "no member of this cluster any more")
}

func leaf(t *testing.T, m *ovlv1.Membership) *x509.Certificate {
	t.Helper()
	chain, err := identity.ParseChain(m.GetChain())
	if err != nil {
		t.Fatal(err)
	}
	return chain[0]
}
