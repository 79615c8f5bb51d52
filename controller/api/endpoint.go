package api

import (
	"context"
	"net/netip"
	"slices"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/ovlnet/ovl/controller/admit"
	"github.com/ovlnet/ovl/internal/cluster"
	"github.com/ovlnet/ovl/internal/store"
	"github.com/ovlnet/ovl/internal/wire"
	ovlv1 "github.com/ovlnet/ovl/proto/ovl/v1"
)

// endpoints implements EndpointService.
type endpoints struct {
	ovlv1.UnimplementedEndpointServiceServer
	*Server
}

// ListEndpoints implements EndpointService.
func (s *endpoints) ListEndpoints(ctx context.Context, req *ovlv1.ListEndpointsRequest) (*ovlv1.ListEndpointsResponse, error) {
	doing := "list endpoints"
	w := filter{network: req.GetNetwork(), host: req.GetHost()}
	c, vs := newCursor("endpoints", req, w.network, w.host)
	if err := invalid(doing, append(vs, w.check()...)); err != nil {
		return nil, err
	}
	f, host, err := s.readJoined(ctx, doing, w, store.EndpointsPrefix(w.network))
	if err != nil {
		return nil, err
	}
	known := newNames(f)
	wanted := keep(f.endpoints, func(e cluster.Endpoint) bool { return host == "" || e.Host == host })
	page, next := take(c, wanted, endpointOrder)
	resp := &ovlv1.ListEndpointsResponse{NextPageToken: next, Revision: f.revision}
	for _, e := range page {
		resp.Endpoints = append(resp.Endpoints, known.endpoint(e))
	}
	return resp, nil
}

// GetEndpoint implements EndpointService.
func (s *endpoints) GetEndpoint(ctx context.Context, req *ovlv1.GetEndpointRequest) (*ovlv1.GetEndpointResponse, error) {
	doing := "get endpoint"
	w := filter{network: req.GetNetwork()}
	if err := invalid(doing, append(admit.Query("query", req.GetQuery()), w.check()...)); err != nil {
		return nil, err
	}
	f, _, err := s.readJoined(ctx, doing, w, store.EndpointsPrefix(w.network))
	if err != nil {
		return nil, err
	}
	known, resp := newNames(f), &ovlv1.GetEndpointResponse{}
	for _, e := range keep(f.endpoints, matches(req.GetQuery())) {
		resp.Endpoints = append(resp.Endpoints, known.endpoint(e))
	}
	if len(resp.GetEndpoints()) == 0 {
		return nil, status.Errorf(codes.NotFound, "endpoint %s does not exist: ovlctl endpoint ls shows those that do", req.GetQuery())
	}
	return resp, nil
}

// matches returns whether an endpoint is what a query means, which may be an
// ID, a name, an address or a MAC in any case.
func matches(query string) func(cluster.Endpoint) bool {
	addr, _ := netip.ParseAddr(query) // the zero Addr is nobody's
	mac, _ := cluster.ParseMAC(strings.ToLower(query))
	return func(e cluster.Endpoint) bool {
		return e.ID == query || e.Name == query ||
			addr.IsValid() && slices.Contains(e.Addrs, addr.Unmap()) ||
			!mac.IsZero() && e.MAC == mac
	}
}

func (k *names) endpoint(e cluster.Endpoint) *ovlv1.Endpoint {
	return wire.Endpoint(e, k.hosts[e.Host].Name)
}

// WatchEndpoints implements EndpointService.
func (s *endpoints) WatchEndpoints(req *ovlv1.WatchRequest, stream grpc.ServerStreamingServer[ovlv1.EndpointEvent]) error {
	return follow(s.Server, "watch endpoints", req, stream, kind[ovlv1.Endpoint, ovlv1.EndpointEvent]{
		prefix: store.EndpointsPrefix(req.GetNetwork()),
		joined: true,
		put: func(k *names, r store.Record) (*ovlv1.Endpoint, cluster.HostID, error) {
			e, err := store.DecodeEndpoint(r)
			return k.endpoint(e), e.Host, err
		},
		gone: func(k *names, key string) (*ovlv1.Endpoint, error) {
			network, host, id, err := store.ParseEndpointKey(key)
			return &ovlv1.Endpoint{Id: id, Network: network, HostId: string(host), Host: k.hosts[host].Name}, err
		},
		event: func(t ovlv1.EventType, rev int64, v *ovlv1.Endpoint) *ovlv1.EndpointEvent {
			return &ovlv1.EndpointEvent{Type: t, Revision: rev, Endpoint: v}
		},
	})
}
