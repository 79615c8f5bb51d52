package api

import (
	"context"
	"errors"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/ovlnet/ovl/internal/cluster"
	"github.com/ovlnet/ovl/internal/store"
)

// mayNot is what a controller that etcd does not let do that says.
const mayNot = "etcd does not let this controller manage its users: give the controller's user the role root (docs/guide/security.md)"

// admitToEtcd makes the user of a host in an etcd outside.
func (s *Server) admitToEtcd(ctx context.Context, doing string, id cluster.HostID) error {
	if s.identity.Users == nil {
		return nil
	}
	return usersError(ctx, doing, s.identity.Users.Admit(ctx, id))
}

// expelFromEtcd removes it.
func (s *Server) expelFromEtcd(ctx context.Context, id cluster.HostID) error {
	if s.identity == nil || s.identity.Users == nil {
		return nil
	}
	return usersError(ctx, "shut host out of etcd", s.identity.Users.Expel(ctx, id))
}

func usersError(ctx context.Context, doing string, err error) error {
	if errors.Is(err, store.ErrRefused) {
		return status.Errorf(codes.FailedPrecondition, "%s: %s", doing, mayNot)
	}
	return failed(ctx, doing, err)
}

// etcdProblems returns what is wrong with an etcd outside.
func (s *Server) etcdProblems(ctx context.Context) []cluster.Problem {
	if s.identity == nil || s.identity.Users == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	asks, err := s.identity.Users.Asks(ctx)
	switch {
	case errors.Is(err, store.ErrRefused):
		return []cluster.Problem{{
			Severity: cluster.SeverityError, Subject: "etcd", What: "no host can join or be removed: it does not let this controller manage its users",
			Hint: "give the controller's user the role root: see docs/guide/security.md",
		}}
	case err != nil || asks:
		return nil // that it is away is told elsewhere
	}
	return []cluster.Problem{{
		Severity: cluster.SeverityWarning, Subject: "etcd", What: "it does not ask who writes: whoever has the certificate of one host can delete and alter all that is in it",
		Hint: "etcdctl auth enable, as docs/guide/security.md shows",
	}}
}
