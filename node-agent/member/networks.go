package member

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/ovlnet/ovl/internal/identity"
	ovlv1 "github.com/ovlnet/ovl/proto/ovl/v1"
)

// CreateNetwork makes a network of the cluster of one that this host's container
// engine made. One that is there already, identically, is fine.
func (m *Member) CreateNetwork(ctx context.Context, name string, subnets []string, internal bool) error {
	return m.ask(ctx, "create network "+name, func(ctx context.Context, n ovlv1.NetworkServiceClient) error {
		_, err := n.CreateNetwork(ctx, &ovlv1.CreateNetworkRequest{Name: name, Subnets: subnets, Internal: internal})
		return err
	})
}

// DeleteNetwork deletes a network that a container engine brought in. One that is gone
// is fine.
func (m *Member) DeleteNetwork(ctx context.Context, name string) error {
	return m.ask(ctx, "delete network "+name, func(ctx context.Context, n ovlv1.NetworkServiceClient) error {
		_, err := n.DeleteNetwork(ctx, &ovlv1.DeleteNetworkRequest{Name: name})
		if status.Code(err) == codes.NotFound {
			return nil
		}
		return err
	})
}

// ask asks the controllers, one after the other, until one answers.
func (m *Member) ask(ctx context.Context, doing string, call func(context.Context, ovlv1.NetworkServiceClient) error) error {
	var away []string
	for _, controller := range m.Cluster.Controllers {
		err := m.askAt(ctx, controller, call)
		if status.Code(err) != codes.Unavailable && status.Code(err) != codes.DeadlineExceeded {
			if err == nil {
				return nil
			}
			return errors.New(status.Convert(err).Message()) // which names what was done
		}
		away = append(away, controller+": "+status.Convert(err).Message())
	}
	return fmt.Errorf("%s: no controller answers: %s", doing, strings.Join(away, "; "))
}

func (m *Member) askAt(ctx context.Context, controller string, call func(context.Context, ovlv1.NetworkServiceClient) error) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	conn, err := dial(controller, m.Credential.Client(), identity.PrintOf(m.Credential.Roots()[0]))
	if err != nil {
		return status.Error(codes.Unavailable, err.Error())
	}
	defer conn.Close() // nothing is sent any more
	return call(ctx, ovlv1.NewNetworkServiceClient(conn))
}
