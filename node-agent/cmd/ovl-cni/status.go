package main

import (
	"context"
	"fmt"

	"github.com/containernetworking/cni/pkg/skel"
	"github.com/containernetworking/cni/pkg/types"

	ovlv1 "github.com/ovlnet/ovl/proto/ovl/v1"
)

// status succeeds if an ADD can: the agent answers, and its host takes new
// attachments. An etcd that is away is no obstacle to that.
func (p plugin) status(args *skel.CmdArgs) error {
	r, err := parse(args)
	if err != nil {
		return err
	}
	return p.ask(r, func(ctx context.Context, a agent) error {
		s, err := a.GetStatus(ctx, &ovlv1.GetAgentStatusRequest{})
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

// limited says that containers which run already may lack something too.
func limited(format string, args ...any) error {
	return types.NewError(types.ErrLimitedConnectivity, fmt.Sprintf(format, args...), "see `ovlctl agent status` on the host")
}

func unavailable(format string, args ...any) error {
	return types.NewError(types.ErrPluginNotAvailable, fmt.Sprintf(format, args...), "see `ovlctl agent status` on the host")
}
