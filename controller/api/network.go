package api

import (
	"context"
	"fmt"
	"reflect"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/ovlnet/ovl/controller/admit"
	"github.com/ovlnet/ovl/controller/audit"
	"github.com/ovlnet/ovl/internal/cluster"
	"github.com/ovlnet/ovl/internal/store"
	"github.com/ovlnet/ovl/internal/wire"
	ovlv1 "github.com/ovlnet/ovl/proto/ovl/v1"
)

// networks implements NetworkService.
type networks struct {
	ovlv1.UnimplementedNetworkServiceServer
	*Server
}

// GetNetwork implements NetworkService.
func (s *networks) GetNetwork(ctx context.Context, req *ovlv1.GetNetworkRequest) (*ovlv1.Network, error) {
	doing := "get network"
	if err := invalid(doing, admit.Name("name", req.GetName())); err != nil {
		return nil, err
	}
	f, err := s.read(ctx, store.NetworkKey(req.GetName()))
	if err != nil {
		return nil, failed(ctx, doing, err)
	}
	n, err := f.existing(req.GetName())
	if err != nil {
		return nil, err
	}
	return wire.Network(n), nil
}

// existing returns the network of that name, or NOT_FOUND.
func (f *facts) existing(name string) (cluster.Network, error) {
	if n, ok := f.network(name); ok {
		return n, nil
	}
	for _, b := range f.bad {
		if b.key == store.NetworkKey(name) {
			return cluster.Network{}, status.Errorf(codes.DataLoss, "network %s: its record cannot be read: %v: it was written by another version or by hand", name, b.err)
		}
	}
	return cluster.Network{}, status.Errorf(codes.NotFound, "network %s does not exist: ovlctl network ls shows those that do", name)
}

// ListNetworks implements NetworkService.
func (s *networks) ListNetworks(ctx context.Context, req *ovlv1.ListNetworksRequest) (*ovlv1.ListNetworksResponse, error) {
	doing := "list networks"
	c, vs := newCursor("networks", req)
	if err := invalid(doing, vs); err != nil {
		return nil, err
	}
	f, err := s.read(ctx, store.NetworksPrefix)
	if err != nil {
		return nil, failed(ctx, doing, err)
	}
	page, next := take(c, f.networks, networkOrder)
	resp := &ovlv1.ListNetworksResponse{NextPageToken: next, Revision: f.revision}
	for _, n := range page {
		resp.Networks = append(resp.Networks, wire.Network(n))
	}
	return resp, nil
}

// UpdateNetwork implements NetworkService.
func (s *networks) UpdateNetwork(ctx context.Context, req *ovlv1.UpdateNetworkRequest) (*ovlv1.Network, error) {
	if err := invalid("update network", admit.Name("name", req.GetName())); err != nil {
		return nil, err
	}
	doing := "update network " + req.GetName()
	n, err := retry(ctx, doing, func() (cluster.Network, error) { return s.tryUpdate(ctx, doing, req) })
	if err != nil {
		return nil, err
	}
	return wire.Network(n), nil
}

func (s *networks) tryUpdate(ctx context.Context, doing string, req *ovlv1.UpdateNetworkRequest) (cluster.Network, error) {
	f, err := s.read(ctx, store.NetworkKey(req.GetName()))
	if err != nil {
		return cluster.Network{}, err
	}
	have, err := f.existing(req.GetName())
	if err != nil {
		return cluster.Network{}, err
	}
	want, vs := admit.Update(have, req)
	if err := invalid(doing, vs); err != nil {
		return cluster.Network{}, err
	}
	if req.GetRevision() != 0 && req.GetRevision() != have.Revision {
		return cluster.Network{}, status.Errorf(codes.Aborted, "%s: it changed since revision %d, it is at %d now: read it again and repeat the change", doing, req.GetRevision(), have.Revision)
	}
	audit.Changed(ctx, wire.Network(have), wire.Network(have))
	if reflect.DeepEqual(have, want) {
		return have, nil
	}
	value, err := store.EncodeNetwork(want)
	if err != nil {
		return cluster.Network{}, err
	}
	key := store.NetworkKey(want.Name)
	want.Revision, err = s.commit(ctx, []store.Cond{store.Unchanged(key, have.Revision)}, []store.Write{store.Put(key, value, 0)})
	if err == nil {
		audit.Changed(ctx, wire.Network(have), wire.Network(want))
	}
	return want, err
}

// DeleteNetwork implements NetworkService.
func (s *networks) DeleteNetwork(ctx context.Context, req *ovlv1.DeleteNetworkRequest) (*ovlv1.DeleteNetworkResponse, error) {
	if err := invalid("delete network", admit.Name("name", req.GetName())); err != nil {
		return nil, err
	}
	doing := "delete network " + req.GetName()
	_, bringing, err := s.bringer(ctx, doing)
	if err != nil {
		return nil, err
	}
	return retry(ctx, doing, func() (*ovlv1.DeleteNetworkResponse, error) {
		return &ovlv1.DeleteNetworkResponse{}, s.tryDelete(ctx, doing, req, bringing)
	})
}

// tryDelete removes the network, its VNI and its subnets, and with force its
// endpoints. That nobody attached meanwhile is part of the transaction. A host may
// delete what a container engine brought in, and nothing by force.
func (s *networks) tryDelete(ctx context.Context, doing string, req *ovlv1.DeleteNetworkRequest, bringing bool) error {
	name := req.GetName()
	f, err := s.read(ctx, store.NetworkKey(name), store.EndpointsPrefix(name), store.HostsPrefix)
	if err != nil {
		return err
	}
	n, err := f.existing(name)
	if err != nil {
		return err
	}
	if bringing && (req.GetForce() || n.Labels[cluster.LabelDockerHost] == "") {
		return status.Errorf(codes.PermissionDenied, "%s: it was not made by way of a container engine: use ovlctl network rm", doing)
	}
	conds := []store.Cond{store.Unchanged(store.NetworkKey(name), n.Revision)}
	writes := []store.Write{
		store.Delete(store.NetworkKey(name)),
		store.Delete(store.VNIKey(n.VNI)),
		store.DeletePrefix(store.SubnetsPrefix(name)),
	}
	if req.GetForce() {
		writes = append(writes, store.DeletePrefix(store.EndpointsPrefix(name)))
	} else {
		conds = append(conds, store.Empty(store.EndpointsPrefix(name)))
		if err := f.unused(doing, name); err != nil {
			return err
		}
	}
	_, err = s.commit(ctx, conds, writes)
	if err == nil {
		audit.Changed(ctx, wire.Network(n), nil)
	}
	return err
}

// maxNamed is how many users of a network a refusal names.
const maxNamed = 3

// unused returns FAILED_PRECONDITION while endpoints are on the network. A
// record that cannot be read counts: somebody wrote it.
func (f *facts) unused(doing, network string) error {
	var users []string
	for _, e := range f.endpoints {
		host := f.host(e.Host)
		users = append(users, fmt.Sprintf("%s on %s", either(e.Name, e.ID), either(host.Name, string(host.ID))))
	}
	for _, b := range f.bad {
		if b.host == "" && strings.HasPrefix(b.key, store.EndpointsPrefix(network)) {
			users = append(users, fmt.Sprintf("the unreadable record %q", b.key))
		}
	}
	if len(users) == 0 {
		return nil
	}
	text := strings.Join(users[:min(len(users), maxNamed)], ", ")
	if more := len(users) - maxNamed; more > 0 {
		text += fmt.Sprintf(" and %d more", more)
	}
	return status.Errorf(codes.FailedPrecondition, "%s: it is in use by %s: remove them first, or force it", doing, text)
}

func either(a, b string) string {
	if a != "" {
		return a
	}
	return b
}

// WatchNetworks implements NetworkService.
func (s *networks) WatchNetworks(req *ovlv1.WatchRequest, stream grpc.ServerStreamingServer[ovlv1.NetworkEvent]) error {
	doing := "watch networks"
	if req.GetHost() != "" || req.GetNetwork() != "" {
		return invalid(doing, []admit.Violation{{Field: "host", Description: "networks are watched all together: leave host and network out"}})
	}
	return follow(s.Server, doing, req, stream, kind[ovlv1.Network, ovlv1.NetworkEvent]{
		prefix: store.NetworksPrefix,
		put: func(_ *names, r store.Record) (*ovlv1.Network, cluster.HostID, error) {
			n, err := store.DecodeNetwork(r)
			return wire.Network(n), "", err
		},
		gone: func(_ *names, key string) (*ovlv1.Network, error) {
			name, err := store.ParseNetworkKey(key)
			return &ovlv1.Network{Name: name}, err
		},
		event: func(t ovlv1.EventType, rev int64, n *ovlv1.Network) *ovlv1.NetworkEvent {
			return &ovlv1.NetworkEvent{Type: t, Revision: rev, Network: n}
		},
	})
}
