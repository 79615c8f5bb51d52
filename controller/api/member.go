package api

import (
	"cmp"
	"context"
	"slices"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/ovlnet/ovl/controller/admit"
	"github.com/ovlnet/ovl/controller/audit"
	"github.com/ovlnet/ovl/controller/roll"
	"github.com/ovlnet/ovl/internal/cluster"
	"github.com/ovlnet/ovl/internal/identity"
	"github.com/ovlnet/ovl/internal/store"
	ovlv1 "github.com/ovlnet/ovl/proto/ovl/v1"
)

// members implements MemberService.
type members struct {
	ovlv1.UnimplementedMemberServiceServer
	*Server
}

// ListMembers implements MemberService.
func (s *members) ListMembers(ctx context.Context, _ *ovlv1.ListMembersRequest) (*ovlv1.ListMembersResponse, error) {
	page, err := s.fetch(ctx, roll.MembersPrefix)
	if err != nil {
		return nil, failed(ctx, "list members", err)
	}
	resp := &ovlv1.ListMembersResponse{}
	for _, r := range page.Records {
		if m, err := roll.DecodeMember(r); err == nil {
			resp.Members = append(resp.Members, memberMessage(m))
		}
	}
	slices.SortFunc(resp.Members, func(a, b *ovlv1.Member) int {
		return cmp.Or(cmp.Compare(a.GetRole(), b.GetRole()), cmp.Compare(a.GetName(), b.GetName()))
	})
	return resp, nil
}

func memberMessage(m roll.Member) *ovlv1.Member {
	msg := &ovlv1.Member{
		Role: string(m.Who.Role), Name: m.Who.Name, Key: m.Key.String(), Joined: timestamppb.New(m.Joined), Token: m.Token,
	}
	if id, ok := m.Who.HostID(); ok {
		msg.HostId, msg.Name = string(id), m.Name
	}
	return msg
}

// RemoveMember implements MemberService.
func (s *members) RemoveMember(ctx context.Context, req *ovlv1.RemoveMemberRequest) (*ovlv1.RemoveMemberResponse, error) {
	doing := "remove member"
	role, err := identity.ParseRole(req.GetRole())
	var vs []admit.Violation
	if err != nil || role == identity.Controller {
		vs = append(vs, admit.Violation{Field: "role", Description: "want host, admin, operator or viewer"})
	}
	if err := invalid(doing, append(vs, admit.Name("name", req.GetName())...)); err != nil {
		return nil, err
	}
	who := identity.Who{Role: role, Name: req.GetName()}
	doing += " " + who.String()
	return retry(ctx, doing, func() (*ovlv1.RemoveMemberResponse, error) {
		if role == identity.Host {
			id, err := s.joinedAs(ctx, who.Name)
			if err != nil {
				return nil, err
			}
			who.Name = string(id)
		}
		found, err := s.expel(ctx, who)
		if err == nil && !found {
			err = status.Errorf(codes.NotFound, "%s: there is none: ovlctl member ls shows those there are", doing)
		}
		return &ovlv1.RemoveMemberResponse{}, err
	})
}

// joinedAs returns the host that joined under a name; an ID that nobody has as
// name stands for itself, and so does a name that nobody has.
func (s *Server) joinedAs(ctx context.Context, name string) (cluster.HostID, error) {
	r, ok, err := s.get(ctx, roll.NameKey(name))
	if err != nil || !ok {
		return cluster.HostID(name), err
	}
	return roll.DecodeName(r)
}

// expel ends a membership, and with it the member's certificates; found is
// whether there was one.
func (s *Server) expel(ctx context.Context, who identity.Who) (found bool, err error) {
	key := roll.MemberKey(who)
	r, ok, err := s.get(ctx, key)
	if err != nil || !ok {
		return false, err
	}
	writes := []store.Write{store.Delete(key)}
	if id, ok := who.HostID(); ok {
		if err := s.expelFromEtcd(ctx, id); err != nil {
			return false, err
		}
		writes = append(writes, store.Delete(store.CertificateKey(id)))
	}
	m, unread := roll.DecodeMember(r)
	if unread == nil && who.Role == identity.Host {
		writes = append(writes, store.Delete(roll.NameKey(m.Name)))
	}
	_, err = s.commit(ctx, []store.Cond{store.Unchanged(key, r.ModRev)}, writes)
	if err == nil {
		if unread == nil {
			audit.Changed(ctx, memberMessage(m), nil)
		}
		s.log.Info("a member was removed", "who", who.String())
		if s.identity != nil && s.identity.Removed != nil {
			s.identity.Removed(who)
		}
	}
	return true, err
}
