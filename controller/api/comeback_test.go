package api_test

import (
	"context"
	"crypto"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"

	"github.com/ovlnet/ovl/controller/api"
	"github.com/ovlnet/ovl/internal/identity"
	ovlv1 "github.com/ovlnet/ovl/proto/ovl/v1"
)

// rejoin joins as a member that has a key already.
func (c *club) rejoin(t identity.Token, cluster string, key, old crypto.Signer) (*ovlv1.Membership, error) {
	c.t.Helper()
	request, err := identity.NewRequest(key)
	if err != nil {
		c.t.Fatal(err)
	}
	word, err := identity.NewHandover(old, request)
	if err != nil {
		c.t.Fatal(err)
	}
	conn := c.dial(credentials.NewTLS(identity.Pinned(t.CA, time.Now)))
	return ovlv1.NewJoinServiceClient(conn).Join(c.t.Context(), &ovlv1.JoinRequest{
		TokenId: t.ID, Secret: t.Secret, Request: request, HostId: string(idA), Name: "h1", Cluster: cluster, Handover: word,
	})
}

// A member comes back with a new key if its old one vouches for it, a token lets it
// in, and it is of this cluster; then the old key is worth nothing.
func TestComeBack(t *testing.T) {
	c := newClub(t)
	first, second, third := c.key(), c.key(), c.key()
	m, err := c.join(c.token(&ovlv1.CreateTokenRequest{}), idA, "h1", first)
	if err != nil {
		t.Fatal(err)
	}
	spent := c.token(&ovlv1.CreateTokenRequest{Uses: 1})
	_, err = c.rejoin(spent, m.GetCluster(), second, c.key())
	c.refused("another key vouches", err, codes.AlreadyExists, "member with another key")
	_, err = c.rejoin(spent, identity.Print{7}.String(), second, first)
	c.refused("of another cluster", err, codes.FailedPrecondition, "member of another cluster")
	if _, err = c.rejoin(spent, m.GetCluster(), second, first); err != nil {
		t.Fatalf("its own key vouches: %v", err)
	}
	if _, err = c.rejoin(spent, m.GetCluster(), second, first); err != nil {
		t.Errorf("the same once more, since the answer got lost: %v", err)
	}
	_, err = c.rejoin(spent, m.GetCluster(), third, second)
	c.refused("a token that is spent", err, codes.Unauthenticated, "used 1 times")
	more := c.token(&ovlv1.CreateTokenRequest{})
	_, err = c.rejoin(more, m.GetCluster(), third, first)
	c.refused("the key of before vouches", err, codes.AlreadyExists, "member with another key")

	old := ovlv1.NewJoinServiceClient(c.dial(credentials.NewTLS(c.credentialOf(identity.Who{Role: identity.Host, Name: string(idA)}, first).Client())))
	_, err = old.WhoAmI(t.Context(), &ovlv1.WhoAmIRequest{})
	c.refused("the key of before", err, codes.Unauthenticated, "joined again since, with another key")
	now := ovlv1.NewJoinServiceClient(c.dial(credentials.NewTLS(c.credentialOf(identity.Who{Role: identity.Host, Name: string(idA)}, second).Client())))
	who, err := now.WhoAmI(t.Context(), &ovlv1.WhoAmIRequest{})
	if err != nil || who.GetName() != "h1" || who.GetHostId() != string(idA) || who.GetCa() != c.ca.InForce()[0].String() {
		t.Errorf("%v, %v", who, err)
	}
	_, err = now.Confirm(t.Context(), &ovlv1.ConfirmRequest{Trusts: []string{"x"}})
	c.refused("trust in nonsense", err, codes.InvalidArgument, "fingerprints")
}

// A member that asks who it is, or says whom it trusts, is answered though the store is
// not: it has other controllers to ask.
func TestMembersOfASilentStore(t *testing.T) {
	c := newClubOf(t, api.Config{StoreTimeout: time.Second})
	key := c.key()
	if _, err := c.join(c.token(&ovlv1.CreateTokenRequest{}), idA, "h1", key); err != nil {
		t.Fatal(err)
	}
	host := ovlv1.NewJoinServiceClient(c.dial(credentials.NewTLS(c.credentialOf(identity.Who{Role: identity.Host, Name: string(idA)}, key).Client())))
	if _, err := host.WhoAmI(t.Context(), &ovlv1.WhoAmIRequest{}); err != nil {
		t.Fatal(err)
	}
	c.silent.Store(true)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	_, err := host.WhoAmI(ctx, &ovlv1.WhoAmIRequest{})
	c.refused("who am I", err, codes.Unavailable, "cannot reach etcd")
	_, err = host.Confirm(ctx, &ovlv1.ConfirmRequest{})
	c.refused("confirm", err, codes.Unavailable, "cannot reach etcd")
}

// A token serves as long as its CA is trusted, and says why not afterwards.
func TestTokenOfADroppedCA(t *testing.T) {
	c := newClub(t)
	before := c.token(&ovlv1.CreateTokenRequest{})
	cas := ovlv1.NewAuthorityServiceClient(c.admin)
	if _, err := cas.RotateAuthority(t.Context(), &ovlv1.RotateAuthorityRequest{}); err != nil {
		t.Fatal(err)
	}
	_, err := cas.RotateAuthority(t.Context(), &ovlv1.RotateAuthorityRequest{Certificate: []byte("x")})
	c.refused("a CA without a key", err, codes.InvalidArgument, "key")
	for range 2 { // to issue, unless the controller has done so by itself; to drop
		a, err := cas.FinishRotation(t.Context(), &ovlv1.FinishRotationRequest{Force: true})
		if err != nil {
			t.Fatal(err)
		}
		if a.GetPhase() == "rest" {
			break
		}
	}
	wrong := before
	wrong.CA = c.ca.InForce()[0] // else the client itself would turn away
	_, err = c.join(wrong, idA, "h1", c.key())
	c.refused("a token of the CA that was dropped", err, codes.Unauthenticated, "names a CA that this cluster has dropped")
	_, err = ovlv1.NewTokenServiceClient(c.admin).ListTokens(t.Context(), &ovlv1.ListTokensRequest{})
	c.refused("an admin of that CA", err, codes.Unauthenticated, "CA")
	admin := c.dial(credentials.NewTLS(c.credential(identity.Who{Role: identity.Admin, Name: identity.Local}).Client()))
	list, err := ovlv1.NewTokenServiceClient(admin).ListTokens(t.Context(), &ovlv1.ListTokensRequest{})
	if err != nil || len(list.GetTokens()) != 0 {
		t.Errorf("tokens: %v, %v", list, err)
	}
	_, err = ovlv1.NewAuthorityServiceClient(admin).FinishRotation(t.Context(), &ovlv1.FinishRotationRequest{})
	c.refused("finish what has not begun", err, codes.FailedPrecondition, "ca rotate")
}
