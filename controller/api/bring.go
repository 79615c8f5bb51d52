package api

import (
	"context"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/ovlnet/ovl/controller/gate"
	"github.com/ovlnet/ovl/internal/cluster"
	"github.com/ovlnet/ovl/internal/identity"
)

// maxBrought bounds the networks that one host has brought in: what a stolen host
// could take of VNIs and address ranges.
const maxBrought = 256

// bringer returns the host that calls, if a host does, whose container engine made or
// removed a network.
func (s *Server) bringer(ctx context.Context, doing string) (host cluster.HostID, bringing bool, err error) {
	who, _, ok := gate.Caller(ctx)
	if !ok || who.Role != identity.Host {
		return "", false, nil
	}
	id, ok := who.HostID()
	if !ok || !s.hosts {
		return "", true, status.Errorf(codes.PermissionDenied, "%s: this cluster takes no networks from container engines: use ovlctl network, or start ovl-controller with --host-networks", doing)
	}
	return id, true, nil
}

// roomFor refuses one more network of a host that has brought many.
func (f *facts) roomFor(doing string, n cluster.Network) error {
	host := n.Labels[cluster.LabelDockerHost]
	if host == "" {
		return nil
	}
	count := 0
	for _, other := range f.networks {
		if other.Labels[cluster.LabelDockerHost] == host {
			count++
		}
	}
	if count >= maxBrought {
		return status.Errorf(codes.ResourceExhausted, "%s: this host has brought in %d networks, the most it may: remove some, or use ovlctl network create", doing, count)
	}
	return nil
}
