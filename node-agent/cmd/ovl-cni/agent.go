package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync/atomic"
	"time"

	"github.com/containernetworking/cni/pkg/types"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	ovlv1 "github.com/ovlnet/ovl/proto/ovl/v1"
)

// patience bounds a command. Runtimes wait for minutes, and hold a lock.
const patience = 60 * time.Second

// redial says how soon an agent that is away is tried again: it is on this host.
func redial() grpc.DialOption {
	return grpc.WithConnectParams(grpc.ConnectParams{
		Backoff:           backoff.Config{BaseDelay: 50 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: 500 * time.Millisecond},
		MinConnectTimeout: time.Second,
	})
}

// errTaken is the code for what somebody else has: an address, a port of the host, or the
// container's ID. Codes from 100 on are the plugin's.
const errTaken uint = 101

// plugin answers the commands.
type plugin struct {
	getenv             func(string) string
	stdout             io.Writer
	patience, comeback time.Duration
}

// agent is the agent of this host.
type agent struct {
	ovlv1.AttachmentServiceClient
	ovlv1.AgentServiceClient
	socket string
	shut   *atomic.Pointer[net.OpError] // why the last try to reach it failed
}

// ask calls do with the agent, within the time that a command may take.
func (p plugin) ask(r *request, do func(context.Context, agent) error) error {
	ctx, cancel := context.WithTimeout(context.Background(), p.patience)
	defer cancel()
	socket := cmp.Or(r.Socket, p.getenv("OVL_SOCKET"), defaultSocket)
	var shut atomic.Pointer[net.OpError]
	dial := func(ctx context.Context, _ string) (net.Conn, error) {
		conn, err := (&net.Dialer{}).DialContext(ctx, "unix", socket)
		refused, _ := errors.AsType[*net.OpError](err)
		shut.Store(refused)
		return conn, err
	}
	conn, err := grpc.NewClient("unix:"+socket, grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithContextDialer(dial), redial())
	if err != nil {
		return invalid("socket: %q: %v", socket, err)
	}
	err = do(ctx, agent{ovlv1.NewAttachmentServiceClient(conn), ovlv1.NewAgentServiceClient(conn), socket, &shut})
	return errors.Join(err, conn.Close())
}

// silence says that no agent answers, and why: what the library says of a socket that
// nobody listens at is wrapped three times.
func (a agent) silence(err error) string {
	why := status.Convert(err).Message()
	if refused := a.shut.Load(); refused != nil {
		why = refused.Err.Error()
	}
	return "no ovl-agent answers at " + a.socket + ": " + why
}

// translate returns the agent's refusal as an error of the specification.
func (a agent) translate(err error) error {
	s := status.Convert(err)
	switch s.Code() { //nolint:exhaustive // the rest is internal
	case codes.AlreadyExists:
		return types.NewError(errTaken, s.Message(), "")
	case codes.Unavailable, codes.DeadlineExceeded, codes.ResourceExhausted, codes.Aborted, codes.Canceled:
		if a.shut.Load() != nil {
			return types.NewError(types.ErrTryAgainLater, a.silence(err), "see `ovlctl agent status` on the host")
		}
		return types.NewError(types.ErrTryAgainLater, s.Message(), "the agent is asked at "+a.socket+": see `ovlctl agent status` on the host")
	case codes.InvalidArgument, codes.NotFound:
		return types.NewError(types.ErrInvalidNetworkConfig, s.Message(), "")
	case codes.Unimplemented:
		return types.NewError(types.ErrPluginNotAvailable, fmt.Sprintf("what answers at %s is no ovl-agent of this version: %s", a.socket, s.Message()), "")
	}
	return types.NewError(types.ErrInternal, s.Message(), "")
}

func notFound(err error) bool { return status.Code(err) == codes.NotFound }
