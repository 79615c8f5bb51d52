package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/containernetworking/cni/pkg/types"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	ovlv1 "github.com/ovlnet/ovl/proto/ovl/v1"
)

// patience bounds a command. Runtimes wait for minutes, and hold a lock.
const patience = 60 * time.Second

// errTaken is the code for what somebody else has: an address, a port of the host, or the
// container's ID. Codes from 100 on are the plugin's.
const errTaken uint = 101

// plugin answers the commands.
type plugin struct {
	getenv   func(string) string
	stdout   io.Writer
	patience time.Duration
}

// agent is the agent of this host.
type agent struct {
	ovlv1.AttachmentServiceClient
	ovlv1.AgentServiceClient
	socket string
}

// ask calls do with the agent, within the time that a command may take.
func (p plugin) ask(r *request, do func(context.Context, agent) error) error {
	ctx, cancel := context.WithTimeout(context.Background(), p.patience)
	defer cancel()
	socket := cmp.Or(r.Socket, p.getenv("OVL_SOCKET"), defaultSocket)
	conn, err := grpc.NewClient("unix:"+socket, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return invalid("socket: %q: %v", socket, err)
	}
	err = do(ctx, agent{ovlv1.NewAttachmentServiceClient(conn), ovlv1.NewAgentServiceClient(conn), socket})
	return errors.Join(err, conn.Close())
}

// translate returns the agent's refusal as an error of the specification.
func (a agent) translate(err error) error {
	s := status.Convert(err)
	switch s.Code() { //nolint:exhaustive // the rest is internal
	case codes.AlreadyExists:
		return types.NewError(errTaken, s.Message(), "")
	case codes.Unavailable, codes.DeadlineExceeded, codes.ResourceExhausted, codes.Aborted, codes.Canceled:
		return types.NewError(types.ErrTryAgainLater, s.Message(), "the agent is asked at "+a.socket+": see `ovlctl agent status` on the host")
	case codes.InvalidArgument, codes.NotFound:
		return types.NewError(types.ErrInvalidNetworkConfig, s.Message(), "")
	case codes.Unimplemented:
		return types.NewError(types.ErrPluginNotAvailable, fmt.Sprintf("what answers at %s is no ovl-agent of this version: %s", a.socket, s.Message()), "")
	}
	return types.NewError(types.ErrInternal, s.Message(), "")
}

func notFound(err error) bool { return status.Code(err) == codes.NotFound }
