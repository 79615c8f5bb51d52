package api

import (
	"cmp"
	"context"
	"crypto/x509"
	"errors"
	"slices"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/ovlnet/ovl/controller/admit"
	"github.com/ovlnet/ovl/controller/audit"
	"github.com/ovlnet/ovl/controller/gate"
	"github.com/ovlnet/ovl/controller/keys"
	"github.com/ovlnet/ovl/controller/roll"
	"github.com/ovlnet/ovl/controller/rotation"
	"github.com/ovlnet/ovl/internal/identity"
	"github.com/ovlnet/ovl/internal/store"
	ovlv1 "github.com/ovlnet/ovl/proto/ovl/v1"
)

// authorities implements AuthorityService.
type authorities struct {
	ovlv1.UnimplementedAuthorityServiceServer
	*Server
}

// authorities returns the CAs in force, with the revision of their record; an error
// where this controller cannot do as it says.
func (s *Server) authorities(ctx context.Context, doing string) (identity.Authorities, int64, error) {
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	a, rev, err := s.identity.Rotation.Read(ctx)
	if errors.Is(err, keys.ErrNoKey) {
		return a, rev, status.Errorf(codes.Unavailable, "%s: %v", doing, err)
	}
	return a, rev, failed(ctx, doing, err)
}

// GetAuthorities implements AuthorityService.
func (s *authorities) GetAuthorities(ctx context.Context, _ *ovlv1.GetAuthoritiesRequest) (*ovlv1.Authorities, error) {
	return s.turn(ctx, "show the CAs", s.rotation().State)
}

// RotateAuthority implements AuthorityService.
func (s *authorities) RotateAuthority(ctx context.Context, req *ovlv1.RotateAuthorityRequest) (*ovlv1.Authorities, error) {
	doing := "rotate CA"
	if (len(req.GetCertificate()) == 0) != (len(req.GetKey()) == 0) {
		return nil, invalid(doing, []admit.Violation{{Field: "key", Description: "want a certificate and its key, or neither"}})
	}
	return s.turn(ctx, doing, func(ctx context.Context) (rotation.State, error) {
		return s.rotation().Begin(ctx, req.GetCertificate(), req.GetKey())
	})
}

// FinishRotation implements AuthorityService.
func (s *authorities) FinishRotation(ctx context.Context, req *ovlv1.FinishRotationRequest) (*ovlv1.Authorities, error) {
	return s.turn(ctx, "finish rotation of the CA", func(ctx context.Context) (rotation.State, error) {
		return s.rotation().Finish(ctx, req.GetForce())
	})
}

// UndoRotation implements AuthorityService.
func (s *authorities) UndoRotation(ctx context.Context, _ *ovlv1.UndoRotationRequest) (*ovlv1.Authorities, error) {
	return s.turn(ctx, "undo rotation of the CA", s.rotation().Undo)
}

func (s *Server) rotation() *rotation.Rotation {
	if s.identity == nil {
		return nil
	}
	return s.identity.Rotation
}

// turn does something about the CAs, and returns how they are then.
func (s *authorities) turn(ctx context.Context, doing string, do func(context.Context) (rotation.State, error)) (*ovlv1.Authorities, error) {
	if err := s.hasIdentity(doing); err != nil {
		return nil, err
	}
	before := Describe(s.rotation().Current(), s.identity.Keys.Roots())
	state, err := retry(ctx, doing, func() (rotation.State, error) {
		st, err := do(ctx)
		return st, notNow(doing, err)
	})
	if err != nil {
		return nil, err
	}
	audit.On(ctx, "CA "+state.Newest().String())
	audit.Changed(ctx, before, Describe(state.Authorities, s.identity.Keys.Roots()))
	return s.describe(state), nil
}

// notNow is the status of a step that cannot be taken as things are; other errors stay
// what they are.
func notNow(doing string, err error) error {
	_, behind := errors.AsType[*rotation.BehindError](err)
	_, refused := errors.AsType[*rotation.RefusedError](err)
	switch {
	case behind, refused:
		return status.Errorf(codes.FailedPrecondition, "%s: %v", doing, err)
	case errors.Is(err, keys.ErrNoKey):
		return status.Errorf(codes.Unavailable, "%s: %v", doing, err)
	}
	return err
}

// maxLaggards bounds those that are named.
const maxLaggards = 1000

// Describe is the CAs as the API has them, with what their certificates say.
func Describe(cas identity.Authorities, roots []*x509.Certificate) *ovlv1.Authorities {
	m := &ovlv1.Authorities{Phase: cmp.Or(string(cas.Phase), "rest"), Since: timestamppb.New(cas.Since), Cluster: ca(cas.Cluster)}
	for i, p := range cas.Trusted {
		a := &ovlv1.Authority{Fingerprint: p.String(), State: stateOf(cas.Phase, i)}
		if at := slices.IndexFunc(roots, func(c *x509.Certificate) bool { return identity.PrintOf(c) == p }); at >= 0 {
			c := roots[at]
			a.Subject, a.Begins, a.Expires = c.Subject.String(), timestamppb.New(c.NotBefore), timestamppb.New(c.NotAfter)
		}
		m.Authorities = append(m.Authorities, a)
	}
	return m
}

// describe is a state as the API has it.
func (s *authorities) describe(st rotation.State) *ovlv1.Authorities {
	m := Describe(st.Authorities, s.identity.Keys.Roots())
	m.Members, m.Lagging = uint32(st.Members), count(st.Behind)
	for _, l := range st.Behind[:min(len(st.Behind), maxLaggards)] {
		b := &ovlv1.Laggard{Role: string(l.Who.Role), Name: l.Name, Lacks: l.Lacks}
		if id, ok := l.Who.HostID(); ok {
			b.HostId = string(id)
		}
		if !l.Said.IsZero() {
			b.Said = timestamppb.New(l.Said)
		}
		m.Laggards = append(m.Laggards, b)
	}
	return m
}

func stateOf(p identity.Phase, i int) string {
	switch {
	case i == 0:
		return "issuing"
	case p == identity.Spread:
		return "next"
	}
	return "previous"
}

// Confirm implements JoinService.
func (s *joins) Confirm(ctx context.Context, req *ovlv1.ConfirmRequest) (*ovlv1.ConfirmResponse, error) {
	doing := "confirm"
	if err := s.hasIdentity(doing); err != nil {
		return nil, err
	}
	trusts, err := identity.ParsePrints(req.GetTrusts())
	if err != nil {
		return nil, invalid(doing, []admit.Violation{{Field: "trusts", Description: "want fingerprints of CAs: " + err.Error()}})
	}
	who, key, ok := gate.Caller(ctx)
	if !ok {
		return nil, status.Error(codes.PermissionDenied, "confirm: only who has joined does")
	}
	issuer := identity.IssuerOf(gate.Shown(ctx), s.identity.Keys.Roots())
	return retry(ctx, doing, func() (*ovlv1.ConfirmResponse, error) {
		r, ok, err := s.get(ctx, roll.MemberKey(who))
		if err != nil || !ok {
			return &ovlv1.ConfirmResponse{}, err // of those who are no members nobody waits for
		}
		m, err := roll.DecodeMember(r)
		if err != nil || m.Key != key {
			return nil, errors.Join(err, status.Error(codes.PermissionDenied, "confirm: you have joined again since, with another key"))
		}
		m.Trusts, m.Issuer, m.Said = trusts, issuer, s.identity.Now()
		value, err := roll.EncodeMember(m)
		if err == nil {
			_, err = s.commit(ctx, []store.Cond{store.Unchanged(r.Key, r.ModRev)}, []store.Write{store.Put(r.Key, value, 0)})
		}
		return &ovlv1.ConfirmResponse{}, err
	})
}

// WhoAmI implements JoinService.
func (s *joins) WhoAmI(ctx context.Context, _ *ovlv1.WhoAmIRequest) (*ovlv1.Caller, error) {
	if err := s.hasIdentity("who am I"); err != nil {
		return nil, err
	}
	who, key, _ := gate.Caller(ctx)
	m := &ovlv1.Caller{Role: string(who.Role), Name: who.Name, Key: key.String()}
	if shown := gate.Shown(ctx); len(shown) > 0 {
		m.Expires, m.Ca = timestamppb.New(shown[0].NotAfter), ca(identity.IssuerOf(shown, s.identity.Keys.Roots()))
	}
	if p, ok := peer.FromContext(ctx); ok {
		m.From = p.Addr.String()
	}
	r, ok, err := s.get(ctx, roll.MemberKey(who))
	if err != nil {
		return nil, failed(ctx, "who am I", err)
	}
	if member, err := roll.DecodeMember(r); ok && err == nil {
		joined := memberMessage(member)
		m.Name, m.HostId, m.Joined, m.Token = joined.GetName(), joined.GetHostId(), joined.GetJoined(), joined.GetToken()
	}
	return m, nil
}
