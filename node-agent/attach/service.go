package attach

import (
	"cmp"
	"context"
	"net/netip"
	"slices"

	"google.golang.org/grpc/codes"

	"github.com/ovlnet/ovl/internal/cluster"
	"github.com/ovlnet/ovl/internal/dataplane"
	"github.com/ovlnet/ovl/internal/ipam"
	"github.com/ovlnet/ovl/internal/plan"
	"github.com/ovlnet/ovl/internal/wire"
	ovlv1 "github.com/ovlnet/ovl/proto/ovl/v1"
)

// Service answers runtimes: ovl.v1.AttachmentService.
type Service struct {
	ovlv1.UnimplementedAttachmentServiceServer
	attachments *Attachments
}

// NewService returns the service of those attachments.
func NewService(a *Attachments) *Service { return &Service{attachments: a} }

// Attach implements [ovlv1.AttachmentServiceServer].
func (s *Service) Attach(ctx context.Context, m *ovlv1.AttachRequest) (*ovlv1.Attachment, error) {
	r, err := ParseRequest(m)
	if err != nil {
		return nil, err
	}
	att, err := s.attachments.Attach(ctx, r)
	if err != nil {
		return nil, err
	}
	return s.message(att, s.attachments.cfg.Loop.Plan()), nil
}

// Detach implements [ovlv1.AttachmentServiceServer].
func (s *Service) Detach(ctx context.Context, m *ovlv1.DetachRequest) (*ovlv1.DetachResponse, error) {
	if why := checkID(m.GetId()); why != "" {
		return nil, violations{{"id", why}}.err("detach")
	}
	if err := s.attachments.Detach(ctx, m.GetId()); err != nil {
		return nil, err
	}
	return &ovlv1.DetachResponse{}, nil
}

// Connect implements [ovlv1.AttachmentServiceServer].
func (s *Service) Connect(ctx context.Context, m *ovlv1.ConnectRequest) (*ovlv1.Attachment, error) {
	id, want, err := ParseConnect(m)
	if err != nil {
		return nil, err
	}
	att, err := s.attachments.Connect(ctx, id, want)
	if err != nil {
		return nil, err
	}
	return s.message(att, s.attachments.cfg.Loop.Plan()), nil
}

// Disconnect implements [ovlv1.AttachmentServiceServer].
func (s *Service) Disconnect(ctx context.Context, m *ovlv1.DisconnectRequest) (*ovlv1.Attachment, error) {
	id, network, err := ParseDisconnect(m)
	if err != nil {
		return nil, err
	}
	att, err := s.attachments.Disconnect(ctx, id, network)
	if err != nil {
		return nil, err
	}
	return s.message(att, s.attachments.cfg.Loop.Plan()), nil
}

// ListAttachments implements [ovlv1.AttachmentServiceServer].
func (s *Service) ListAttachments(_ context.Context, m *ovlv1.ListAttachmentsRequest) (*ovlv1.ListAttachmentsResponse, error) {
	p := s.attachments.cfg.Loop.Plan()
	out := &ovlv1.ListAttachmentsResponse{}
	for _, att := range s.attachments.List() {
		if m.GetNetwork() == "" || slices.ContainsFunc(att.Interfaces, func(i cluster.Interface) bool { return i.Network == m.GetNetwork() }) {
			out.Attachments = append(out.Attachments, s.message(att, p))
		}
	}
	return out, nil
}

// GetAttachment implements [ovlv1.AttachmentServiceServer].
func (s *Service) GetAttachment(_ context.Context, m *ovlv1.GetAttachmentRequest) (*ovlv1.Attachment, error) {
	att, err := s.attachments.one("get container", m.GetId())
	if err != nil {
		return nil, err
	}
	if att == nil {
		return nil, refuse(codes.NotFound, "get container %s: there is no such container on this host: see `ovlctl ps`", quote(m.GetId()))
	}
	return s.message(*att, s.attachments.cfg.Loop.Plan()), nil
}

// message returns an attachment with what the plan made of it. An interface
// that has no place in the plan has an MTU of 0.
func (s *Service) message(att cluster.Attachment, p plan.Result) *ovlv1.Attachment {
	snapshot := s.attachments.cfg.Loop.Snapshot()
	return wire.Attachment(att, func(i cluster.Interface) wire.InterfaceDetail {
		link := p.State.Links[dataplane.LinkKey{NS: dataplane.NSOf(att), Name: i.Name}]
		d := wire.InterfaceDetail{HostLink: plan.HostEnd(att, i), MTU: link.MTU}
		n, ok := snapshot.Network(i.Network)
		if ok {
			d.Domain = n.Domain()
		}
		if ok && n.Driver == cluster.DriverMacvlan {
			d.HostLink, d.Addrs = "", onSegment(n, i)
		}
		for _, a := range i.Addrs {
			if gw := ipam.Gateway(i.SubnetFor(a)); gw.IsValid() {
				d.Gateways = append(d.Gateways, gw)
			}
		}
		d.Routes = routes(p.State, dataplane.NSOf(att), i.Name)
		return d
	})
}

// onSegment returns the addresses of an interface on a segment as the container
// has them: as long as the segment's, not as this host's piece of it.
func onSegment(n cluster.Network, i cluster.Interface) []netip.Prefix {
	var out []netip.Prefix
	for _, a := range i.Addrs {
		if pool, ok := n.Pool(a.Masked()); ok {
			a = netip.PrefixFrom(a.Addr(), pool.Prefix.Bits())
		}
		out = append(out, a)
	}
	return out
}

// routes returns the routes of a link of a namespace, the widest last.
func routes(s dataplane.State, ns dataplane.NS, link string) []wire.Route {
	var out []wire.Route
	for _, r := range s.Routes {
		if r.NS == ns && r.Link == link {
			out = append(out, wire.Route{Dst: r.Dst, Via: r.Via})
		}
	}
	slices.SortFunc(out, func(a, b wire.Route) int {
		return cmp.Or(cmp.Compare(b.Dst.Bits(), a.Dst.Bits()), cluster.ComparePrefix(a.Dst, b.Dst))
	})
	return out
}
