package api

import (
	"context"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/ovlnet/ovl/controller/admit"
	"github.com/ovlnet/ovl/internal/cluster"
	"github.com/ovlnet/ovl/internal/store"
	"github.com/ovlnet/ovl/internal/wire"
	ovlv1 "github.com/ovlnet/ovl/proto/ovl/v1"
)

// subnets implements SubnetService.
type subnets struct {
	ovlv1.UnimplementedSubnetServiceServer
	*Server
}

// ListSubnets implements SubnetService.
func (s *subnets) ListSubnets(ctx context.Context, req *ovlv1.ListSubnetsRequest) (*ovlv1.ListSubnetsResponse, error) {
	doing := "list subnets"
	w := filter{network: req.GetNetwork(), host: req.GetHost()}
	c, vs := newCursor("subnets", req, w.network, w.host)
	if err := invalid(doing, append(vs, w.check()...)); err != nil {
		return nil, err
	}
	f, host, err := s.readJoined(ctx, doing, w, store.SubnetsPrefix(w.network))
	if err != nil {
		return nil, err
	}
	known := newNames(f)
	wanted := keep(f.leases, func(l cluster.Lease) bool { return host == "" || l.Host == host })
	page, next := take(c, wanted, leaseOrder)
	resp := &ovlv1.ListSubnetsResponse{NextPageToken: next, Revision: f.revision}
	for _, l := range page {
		resp.Subnets = append(resp.Subnets, known.subnet(l))
	}
	return resp, nil
}

// GetSubnet implements SubnetService.
func (s *subnets) GetSubnet(ctx context.Context, req *ovlv1.GetSubnetRequest) (*ovlv1.Subnet, error) {
	doing := "get subnet"
	prefix, vs := admit.Prefix("prefix", req.GetPrefix())
	if err := invalid(doing, append(admit.Name("network", req.GetNetwork()), vs...)); err != nil {
		return nil, err
	}
	f, _, err := s.readJoined(ctx, doing, filter{network: req.GetNetwork()}, store.SubnetKey(req.GetNetwork(), prefix))
	if err != nil {
		return nil, err
	}
	for _, l := range f.leases {
		if l.Network == req.GetNetwork() && l.Prefix == prefix {
			return newNames(f).subnet(l), nil
		}
	}
	return nil, status.Errorf(codes.NotFound, "subnet %s of network %s belongs to no host: ovlctl subnet ls --network %s shows those that do", prefix, req.GetNetwork(), req.GetNetwork())
}

func (k *names) subnet(l cluster.Lease) *ovlv1.Subnet {
	vni := k.vnis[l.Network]
	if !k.tunnels[l.Network] {
		vni = 0
	}
	return wire.Subnet(l, k.hosts[l.Host], vni)
}

// WatchSubnets implements SubnetService.
func (s *subnets) WatchSubnets(req *ovlv1.WatchRequest, stream grpc.ServerStreamingServer[ovlv1.SubnetEvent]) error {
	return follow(s.Server, "watch subnets", req, stream, kind[ovlv1.Subnet, ovlv1.SubnetEvent]{
		prefix: store.SubnetsPrefix(req.GetNetwork()),
		joined: true,
		put: func(k *names, r store.Record) (*ovlv1.Subnet, cluster.HostID, error) {
			l, err := store.DecodeLease(r)
			return k.subnet(l), l.Host, err
		},
		gone: func(_ *names, key string) (*ovlv1.Subnet, error) {
			network, prefix, err := store.ParseSubnetKey(key)
			return &ovlv1.Subnet{Network: network, Prefix: prefix.String()}, err
		},
		event: func(t ovlv1.EventType, rev int64, v *ovlv1.Subnet) *ovlv1.SubnetEvent {
			return &ovlv1.SubnetEvent{Type: t, Revision: rev, Subnet: v}
		},
	})
}
