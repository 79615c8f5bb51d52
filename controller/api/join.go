package api

import (
	"cmp"
	"context"
	"crypto"
	"crypto/x509"
	"fmt"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/ovlnet/ovl/controller/admit"
	"github.com/ovlnet/ovl/controller/audit"
	"github.com/ovlnet/ovl/controller/gate"
	"github.com/ovlnet/ovl/controller/keys"
	"github.com/ovlnet/ovl/controller/roll"
	"github.com/ovlnet/ovl/controller/rotation"
	"github.com/ovlnet/ovl/internal/cluster"
	"github.com/ovlnet/ovl/internal/identity"
	"github.com/ovlnet/ovl/internal/store"
	ovlv1 "github.com/ovlnet/ovl/proto/ovl/v1"
)

// Identity is what it takes to make members.
type Identity struct {
	Keys          *keys.Keys
	Rotation      *rotation.Rotation
	Life          time.Duration       // of certificates
	EtcdEndpoints []string            // where members find etcd; see Membership
	EtcdRoots     []*x509.Certificate // the CA of that etcd, if it is not the cluster's
	Users         EtcdUsers           // nil: the etcd within, which knows who is a member
	Now           func() time.Time    // not nil
	// Removed is told who is no member any more, once the store says so.
	Removed func(identity.Who)
}

// EtcdUsers are those of an etcd outside: hosts have one each.
type EtcdUsers interface {
	// Asks reports whether etcd asks who calls.
	Asks(ctx context.Context) (bool, error)
	Admit(ctx context.Context, id cluster.HostID) error
	Expel(ctx context.Context, id cluster.HostID) error
}

func (s *Server) hasIdentity(doing string) error {
	if s.identity == nil {
		return status.Errorf(codes.FailedPrecondition, "%s: this controller speaks plain text, so there is nothing to join: start it without --insecure-plaintext", doing)
	}
	return nil
}

// joins implements JoinService.
type joins struct {
	ovlv1.UnimplementedJoinServiceServer
	*Server
}

// applicant is who wants to join, as far as the request alone tells.
type applicant struct {
	token, secret string
	host          cluster.HostID // of a host
	name          string
	public        crypto.PublicKey
	key           identity.Print
	cluster       string // of a host that is a member already
	before        []byte // the word of its key of before
}

// Join implements JoinService.
func (s *joins) Join(ctx context.Context, req *ovlv1.JoinRequest) (*ovlv1.Membership, error) {
	doing := "join"
	if err := s.hasIdentity(doing); err != nil {
		return nil, err
	}
	a, vs := newApplicant(req)
	if err := invalid(doing, vs); err != nil {
		return nil, err
	}
	// Those that come at once mostly have one token: side by side they would only
	// make each other try again.
	select {
	case s.joining <- struct{}{}:
		defer func() { <-s.joining }()
	case <-ctx.Done():
		return nil, interrupted(ctx, doing)
	}
	who, err := retry(ctx, doing, func() (identity.Who, error) { return s.enter(ctx, a) })
	if err != nil {
		return nil, err
	}
	s.log.Info("a member joined", "who", who.String(), "name", a.name, "token", a.token)
	return s.membership(ctx, doing, who, a.public)
}

func newApplicant(req *ovlv1.JoinRequest) (applicant, []admit.Violation) {
	a := applicant{token: req.GetTokenId(), secret: req.GetSecret(), name: req.GetName(), cluster: req.GetCluster(), before: req.GetHandover()}
	var vs []admit.Violation
	note := func(field string, err error) {
		if err != nil {
			vs = append(vs, admit.Violation{Field: field, Description: err.Error()})
		}
	}
	note("token", identity.CheckTokenID(a.token))
	note("token", identity.CheckSecret(a.secret))
	if a.name != "" || req.GetHostId() != "" {
		vs = append(vs, admit.Name("name", a.name)...)
	}
	var err error
	if req.GetHostId() != "" {
		a.host, err = cluster.ParseHostID(req.GetHostId())
		note("host_id", err)
	}
	a.public, a.key, err = identity.CheckRequest(req.GetRequest())
	note("request", err)
	return a, vs
}

// who returns what the applicant would be with that role.
func (a applicant) who(role identity.Role) identity.Who {
	if role == identity.Host {
		return identity.Who{Role: role, Name: string(a.host)}
	}
	return identity.Who{Role: role, Name: a.name}
}

// enter makes the applicant a member, with one use of its token, in one
// transaction. Who is one already with that key is let in again, at no cost: the
// answer got lost.
func (s *joins) enter(ctx context.Context, a applicant) (identity.Who, error) {
	cas, rev, err := s.authorities(ctx, "join")
	if err != nil {
		return identity.Who{}, err
	}
	token, err := s.token(ctx, a, cas)
	if err != nil {
		return identity.Who{}, err
	}
	audit.By(ctx, "token "+token.ID)
	a.name = cmp.Or(a.name, token.Name)
	who := a.who(token.Role)
	if who.Role != identity.Host {
		audit.On(ctx, who.String())
	}
	if who.Check() != nil || who.Role != identity.Host && a.host != "" || who.Name == identity.Local {
		return who, status.Errorf(codes.InvalidArgument, "join: this token lets in a %s: want %s", token.Role, map[bool]string{true: "the ID of a host", false: "ovlctl login, and another name than \"local\""}[who.Role == identity.Host])
	}
	if a.cluster != "" && a.cluster != cas.Cluster.String() {
		return who, status.Errorf(codes.FailedPrecondition, "join: this host is a member of another cluster, which began with the CA of fingerprint %.64s: to leave that for good, stop the agent and remove its identity", a.cluster)
	}
	conds, writes, err := s.places(ctx, a, who, cas)
	if err != nil || len(writes) == 0 {
		return who, err
	}
	if token.Uses > 0 && token.Used >= token.Uses {
		return who, status.Errorf(codes.Unauthenticated, "join: token %s has been used %d times, which is all it serves: ask an admin for another (ovlctl token create)", token.ID, token.Uses)
	}
	spent := token
	spent.Used++
	value, err := roll.EncodeToken(spent)
	if err != nil {
		return who, err
	}
	conds = append(conds, store.Unchanged(roll.TokenKey(token.ID), token.Revision), store.Unchanged(roll.CAKey, rev))
	writes = append(writes, store.Put(roll.TokenKey(token.ID), value, 0))
	_, err = s.commit(ctx, conds, writes)
	return who, err
}

// token returns the applicant's token, if it serves him. That it is spent is for
// the caller to see.
func (s *joins) token(ctx context.Context, a applicant, cas identity.Authorities) (roll.Token, error) {
	r, ok, err := s.get(ctx, roll.TokenKey(a.token))
	if err != nil {
		return roll.Token{}, err
	}
	token, err := roll.DecodeToken(r)
	switch now := s.identity.Now(); {
	case !ok || err != nil || !identity.Matches(token.Hash, a.secret):
		return token, status.Error(codes.Unauthenticated, "join: no such token: it was revoked, expired long ago, or is not whole: ask an admin for another (ovlctl token create)")
	case !token.Expires.After(now):
		return token, status.Errorf(codes.Unauthenticated, "join: token %s expired at %s: ask an admin for another (ovlctl token create)", token.ID, token.Expires.UTC().Format(time.RFC3339))
	case !s.serves(token, cas):
		return token, status.Errorf(codes.Unauthenticated, "join: token %s names a CA that this cluster has dropped since: ask an admin for another (ovlctl token create)", token.ID)
	case token.Name != "" && a.name != "" && token.Name != a.name:
		return token, status.Errorf(codes.Unauthenticated, "join: token %s is for %s %s alone, and this is %s: ask an admin for another (ovlctl token create)", token.ID, token.Role, token.Name, a.name)
	}
	return token, nil
}

// places returns what makes the applicant a member unless something changed
// meanwhile; nothing if it is one already.
func (s *joins) places(ctx context.Context, a applicant, who identity.Who, cas identity.Authorities) (conds []store.Cond, writes []store.Write, err error) {
	key, name := roll.MemberKey(who), roll.NameKey(a.name)
	page, err := s.fetch(ctx, key, name)
	if err != nil {
		return nil, nil, err
	}
	var member roll.Member
	if r, ok := roll.Exact(page, key); ok {
		if member, err = roll.DecodeMember(r); err != nil {
			return nil, nil, err
		}
		if member.Key != a.key && !a.follows(member.Key) {
			return nil, nil, status.Errorf(codes.AlreadyExists, "join: %s (%s) is a member with another key: if this is the same one, remove it first (%s)", who, member.Name, removal(who, member.Name))
		}
	}
	conds = append(conds, store.Unchanged(key, member.Revision))
	if who.Role == identity.Host {
		nameRev, mine, err := nameOf(page, name, a.host)
		if err != nil {
			return nil, nil, err
		}
		if nameRev > 0 && !mine {
			return nil, nil, status.Errorf(codes.AlreadyExists, "join: another host has joined as %s: choose another --name, or remove that one first (ovlctl host rm %s)", a.name, a.name)
		}
		value, err := roll.EncodeName(a.host)
		if err != nil {
			return nil, nil, err
		}
		conds, writes = append(conds, store.Unchanged(name, nameRev)), append(writes, store.Put(name, value, 0))
		if member.Name != "" && member.Name != a.name {
			writes = append(writes, store.Delete(roll.NameKey(member.Name)))
		}
	}
	before := recordedMember(member)
	audit.Changed(ctx, before, before)
	if member.Revision > 0 && member.Key == a.key && (member.Name == a.name || who.Role != identity.Host) {
		return nil, nil, nil
	}
	now := s.identity.Now()
	joined := roll.Member{Who: who, Name: a.name, Key: a.key, Joined: now, Token: a.token, Trusts: cas.Trusted, Issuer: cas.Issuer(), Said: now}
	value, err := roll.EncodeMember(joined)
	audit.Changed(ctx, before, recordedMember(joined))
	return conds, append(writes, store.Put(key, value, 0)), err
}

// follows reports whether the member's key of before has said that this
// applicant's follows it: then it is the same one, and who copied the key before
// is out.
func (a applicant) follows(before identity.Print) bool {
	old, err := identity.CheckHandover(a.before, a.key)
	return err == nil && old == before
}

// recordedMember is what the audit log says of a member; nothing of none.
func recordedMember(m roll.Member) proto.Message {
	if m.Who.Role == "" {
		return nil
	}
	return memberMessage(m)
}

// nameOf returns the revision of the record that reserves a name (0: none), and
// whether it is that host's.
func nameOf(p store.Page, key string, id cluster.HostID) (rev int64, mine bool, err error) {
	r, ok := roll.Exact(p, key)
	if !ok {
		return 0, false, nil
	}
	holder, err := roll.DecodeName(r)
	return r.ModRev, holder == id, err
}

// publish puts a host's certificate where all read it, if the host still is a member
// with that key.
func (s *joins) publish(ctx context.Context, doing string, id cluster.HostID, who identity.Who, c *x509.Certificate) error {
	key := roll.MemberKey(who)
	r, ok, err := s.get(ctx, key)
	if err != nil {
		return err
	}
	if m, err := roll.DecodeMember(r); !ok || err != nil || m.Key != identity.PrintOf(c) {
		return status.Errorf(codes.Unauthenticated, "%s: %s was removed meanwhile: to join again it needs a token", doing, who)
	}
	value, err := store.EncodeCertificate(id, c)
	if err != nil {
		return err
	}
	_, err = s.commit(ctx, []store.Cond{store.Unchanged(key, r.ModRev)}, []store.Write{store.Put(store.CertificateKey(id), value, 0)})
	return err
}

func removal(who identity.Who, name string) string {
	if who.Role == identity.Host {
		return "ovlctl host rm " + name
	}
	return fmt.Sprintf("ovlctl member rm %s %s", who.Role, who.Name)
}

// Renew implements JoinService.
func (s *joins) Renew(ctx context.Context, req *ovlv1.RenewRequest) (*ovlv1.Membership, error) {
	if err := s.hasIdentity("renew"); err != nil {
		return nil, err
	}
	who, key, ok := gate.Caller(ctx)
	public, asked, err := identity.CheckRequest(req.GetRequest())
	switch {
	case err != nil:
		return nil, invalid("renew", []admit.Violation{{Field: "request", Description: err.Error()}})
	case !ok || who.Role == identity.Controller || who.Name == identity.Local:
		return nil, status.Error(codes.PermissionDenied, "renew: only who has joined renews")
	case asked != key:
		return nil, status.Error(codes.PermissionDenied, "renew: the request is for another key than your certificate's: join again to change keys")
	}
	if _, _, err := s.authorities(ctx, "renew"); err != nil {
		return nil, err
	}
	return s.membership(ctx, "renew", who, public)
}

// membership issues the certificate; a host's is published for those who read what
// the host signs.
func (s *joins) membership(ctx context.Context, doing string, who identity.Who, public crypto.PublicKey) (*ovlv1.Membership, error) {
	chain, err := s.identity.Keys.Issue(who, public, identity.Names{}, s.identity.Now(), s.identity.Life)
	if err != nil {
		return nil, status.Errorf(codes.Internal, "%v", err)
	}
	if id, ok := who.HostID(); ok {
		if err := s.admitToEtcd(ctx, doing, id); err != nil {
			return nil, err
		}
		_, err := retry(ctx, doing, func() (struct{}, error) { return struct{}{}, s.publish(ctx, doing, id, who, chain[0]) })
		if err != nil {
			return nil, err
		}
	}
	return &ovlv1.Membership{
		Chain: identity.DER(chain), Roots: identity.DER(s.identity.Keys.Roots()), EtcdEndpoints: s.identity.EtcdEndpoints,
		Cluster:   s.identity.Rotation.Current().Cluster.String(),
		EtcdRoots: identity.DER(s.identity.EtcdRoots),
	}, nil
}
