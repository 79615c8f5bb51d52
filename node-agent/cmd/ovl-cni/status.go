package main

import (
	"context"
	"fmt"
	"time"

	"github.com/containernetworking/cni/pkg/skel"
	"github.com/containernetworking/cni/pkg/types"
	"google.golang.org/grpc"

	ovlv1 "github.com/ovlnet/ovl/proto/ovl/v1"
)

// comeback is how long STATUS waits for an agent that is away. containerd 2 asks whenever the
// kubelet asks it, and a node that says once that its network is not ready has its pods taken
// out of services: an agent that is restarted or updated shall not bring that about.
const comeback = 10 * time.Second

// again is how soon an agent is asked again which has only just started.
const again = 100 * time.Millisecond

// status succeeds if an ADD can: the agent answers, and its host takes new
// attachments. An etcd that is away is no obstacle to that.
func (p plugin) status(args *skel.CmdArgs) error {
	r, err := parse(args)
	if err != nil {
		return err
	}
	return p.ask(r, func(ctx context.Context, a agent) error {
		s, err := a.whenBack(ctx, p.comeback)
		if err != nil {
			return unavailable("%s", a.silence(err))
		}
		switch {
		case s.GetPasses() == 0:
			return unavailable("the agent has only just started")
		case s.GetHost().GetDraining():
			return unavailable("host %s is draining and takes no new containers", s.GetHost().GetName())
		case s.GetOwnership() == "conflict":
			return limited("another host is taken for %s, which holds its subnets", s.GetHost().GetName())
		case s.GetOwnership() == "fenced":
			return unavailable("host %s takes no new containers: its ownership of subnets is %s", s.GetHost().GetName(), s.GetOwnership())
		}
		for _, p := range s.GetProblems() {
			if p.GetSeverity() == "error" && (p.GetSubject() == "kernel" || p.GetSubject() == "underlay") {
				return limited("%s: %s", p.GetSubject(), p.GetWhat())
			}
		}
		return nil
	})
}

// whenBack returns the agent's status, once it is there and has looked at its host, within
// that time.
func (a agent) whenBack(ctx context.Context, within time.Duration) (*ovlv1.AgentStatus, error) {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	for {
		s, err := a.GetStatus(ctx, &ovlv1.GetAgentStatusRequest{}, grpc.WaitForReady(true))
		if err != nil || s.GetPasses() > 0 {
			return s, err
		}
		select {
		case <-time.After(again):
		case <-ctx.Done():
			return s, nil
		}
	}
}

// limited says that containers which run already may lack something too.
func limited(format string, args ...any) error {
	return types.NewError(types.ErrLimitedConnectivity, fmt.Sprintf(format, args...), "see `ovlctl agent status` on the host")
}

func unavailable(format string, args ...any) error {
	return types.NewError(types.ErrPluginNotAvailable, fmt.Sprintf(format, args...), "see `ovlctl agent status` on the host")
}
