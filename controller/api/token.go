package api

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/ovlnet/ovl/controller/admit"
	"github.com/ovlnet/ovl/controller/audit"
	"github.com/ovlnet/ovl/controller/gate"
	"github.com/ovlnet/ovl/controller/roll"
	"github.com/ovlnet/ovl/internal/identity"
	"github.com/ovlnet/ovl/internal/store"
	ovlv1 "github.com/ovlnet/ovl/proto/ovl/v1"
)

// The bounds of tokens.
const (
	defaultTTL = time.Hour
	maxTTL     = 365 * 24 * time.Hour
	maxTokens  = 1000 // at once
)

// tokens implements TokenService.
type tokens struct {
	ovlv1.UnimplementedTokenServiceServer
	*Server
}

// CreateToken implements TokenService.
func (s *tokens) CreateToken(ctx context.Context, req *ovlv1.CreateTokenRequest) (*ovlv1.Token, error) {
	doing := "create token"
	if err := s.hasIdentity(doing); err != nil {
		return nil, err
	}
	t, vs := s.wanted(req)
	if err := invalid(doing, vs); err != nil {
		return nil, err
	}
	if who, _, ok := gate.Caller(ctx); ok {
		t.Creator = who.String()
	}
	cas, _, err := s.authorities(ctx, doing)
	if err != nil {
		return nil, err
	}
	text := identity.NewToken(cas.Newest()) // which is there for longest
	t.ID, t.Hash, t.CA = text.ID, identity.Hash(text.Secret), text.CA
	audit.On(ctx, "token "+t.ID)
	if err := s.saveToken(ctx, t); err != nil {
		return nil, failed(ctx, doing, err)
	}
	m := tokenMessage(t)
	audit.Changed(ctx, nil, tokenMessage(t)) // which never gets the text
	m.Text = text.String()
	return m, nil
}

// wanted returns the token that a request describes, or what is wrong with it.
func (s *tokens) wanted(req *ovlv1.CreateTokenRequest) (roll.Token, []admit.Violation) {
	var vs []admit.Violation
	role, err := identity.ParseRole(cmp.Or(req.GetRole(), string(identity.Host)))
	if err != nil || role == identity.Controller {
		vs = append(vs, admit.Violation{Field: "role", Description: "want host, admin, operator or viewer"})
	}
	if req.GetName() != "" {
		vs = append(vs, admit.Name("name", req.GetName())...)
	} else if role != identity.Host {
		vs = append(vs, admit.Violation{Field: "name", Description: fmt.Sprintf("say who the %s is", role)})
	}
	seconds := cmp.Or(req.GetTtlSeconds(), int64(defaultTTL/time.Second))
	if seconds < 1 || seconds > int64(maxTTL/time.Second) {
		vs = append(vs, admit.Violation{Field: "ttl", Description: fmt.Sprintf("want a second to %d days", int(maxTTL.Hours())/24)})
	}
	now := s.identity.Now()
	return roll.Token{
		Role: role, Name: req.GetName(), Uses: req.GetUses(), Created: now, Expires: now.Add(time.Duration(seconds) * time.Second),
	}, vs
}

// saveToken writes a new token, and removes those that expired.
func (s *tokens) saveToken(ctx context.Context, t roll.Token) error {
	page, err := s.fetch(ctx, roll.TokensPrefix)
	if err != nil {
		return err
	}
	value, err := roll.EncodeToken(t)
	if err != nil {
		return err
	}
	writes := []store.Write{store.Put(roll.TokenKey(t.ID), value, 0)}
	for _, r := range page.Records {
		if old, err := roll.DecodeToken(r); (err != nil || !old.Expires.After(t.Created)) && len(writes) < maxWrites {
			writes = append(writes, store.Delete(r.Key))
		}
	}
	if len(page.Records)-len(writes)+1 >= maxTokens {
		return status.Errorf(codes.ResourceExhausted, "create token: there are %d: revoke some with ovlctl token revoke", len(page.Records))
	}
	_, err = s.commit(ctx, []store.Cond{store.Absent(roll.TokenKey(t.ID))}, writes)
	return err
}

// ListTokens implements TokenService.
func (s *tokens) ListTokens(ctx context.Context, _ *ovlv1.ListTokensRequest) (*ovlv1.ListTokensResponse, error) {
	if err := s.hasIdentity("list tokens"); err != nil {
		return nil, err
	}
	page, err := s.fetch(ctx, roll.TokensPrefix)
	if err != nil {
		return nil, failed(ctx, "list tokens", err)
	}
	cas := s.identity.Rotation.Current()
	var all []roll.Token
	for _, r := range page.Records {
		if t, err := roll.DecodeToken(r); err == nil && t.Expires.After(s.identity.Now()) && s.serves(t, cas) {
			all = append(all, t)
		}
	}
	slices.SortFunc(all, func(a, b roll.Token) int { return cmp.Or(a.Created.Compare(b.Created), cmp.Compare(a.ID, b.ID)) })
	resp := &ovlv1.ListTokensResponse{}
	for _, t := range all {
		resp.Tokens = append(resp.Tokens, tokenMessage(t))
	}
	return resp, nil
}

// RevokeToken implements TokenService.
func (s *tokens) RevokeToken(ctx context.Context, req *ovlv1.RevokeTokenRequest) (*ovlv1.RevokeTokenResponse, error) {
	doing := "revoke token"
	if err := identity.CheckTokenID(req.GetId()); err != nil {
		return nil, invalid(doing, []admit.Violation{{Field: "id", Description: err.Error()}})
	}
	doing += " " + req.GetId()
	return retry(ctx, doing, func() (*ovlv1.RevokeTokenResponse, error) {
		key := roll.TokenKey(req.GetId())
		r, ok, err := s.get(ctx, key)
		if err != nil {
			return nil, err
		}
		if !ok {
			return nil, status.Errorf(codes.NotFound, "%s: there is none: ovlctl token ls shows those there are", doing)
		}
		_, err = s.commit(ctx, []store.Cond{store.Unchanged(key, r.ModRev)}, []store.Write{store.Delete(key)})
		if t, unread := roll.DecodeToken(r); err == nil && unread == nil {
			audit.Changed(ctx, tokenMessage(t), nil)
		}
		return &ovlv1.RevokeTokenResponse{}, err
	})
}

func tokenMessage(t roll.Token) *ovlv1.Token {
	return &ovlv1.Token{
		Id: t.ID, Role: string(t.Role), Name: t.Name, Uses: t.Uses, Used: t.Used,
		Created: timestamppb.New(t.Created), Expires: timestamppb.New(t.Expires), Creator: t.Creator, Ca: ca(t.CA),
	}
}

// ca is the fingerprint of a CA; of none nothing.
func ca(p identity.Print) string {
	if p == (identity.Print{}) {
		return ""
	}
	return p.String()
}

// serves reports whether the CA that a token names is still trusted: who comes with
// it could not tell this cluster from another one else.
func (s *Server) serves(t roll.Token, cas identity.Authorities) bool {
	_, dropped := cas.DroppedAt(cmp.Or(t.CA, cas.Cluster))
	return !dropped
}
