package api

import (
	"context"
	"log/slog"
	"time"

	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"

	ovlv1 "github.com/ovlnet/ovl/proto/ovl/v1"
)

// probeEvery is how often the store is asked for a sign of life, and how long
// it may take to give one.
const probeEvery = 2 * time.Second

// services are those whose health is told one by one, beside the whole ("").
var services = []string{
	"",
	ovlv1.NetworkService_ServiceDesc.ServiceName,
	ovlv1.HostService_ServiceDesc.ServiceName,
	ovlv1.SubnetService_ServiceDesc.ServiceName,
	ovlv1.EndpointService_ServiceDesc.ServiceName,
	ovlv1.ControllerService_ServiceDesc.ServiceName,
	ovlv1.TokenService_ServiceDesc.ServiceName,
	ovlv1.MemberService_ServiceDesc.ServiceName,
	ovlv1.JoinService_ServiceDesc.ServiceName,
	ovlv1.EventService_ServiceDesc.ServiceName,
	ovlv1.AuthorityService_ServiceDesc.ServiceName,
}

// Health returns the standard health service, in which nothing serves until
// [Server.Probe] has heard from the store.
func Health() *health.Server {
	h := health.NewServer()
	setAll(h, false)
	return h
}

// Probe keeps h as the store is, until ctx is done: serving while it answers.
// It logs the changes.
func (s *Server) Probe(ctx context.Context, h *health.Server) {
	tick := time.NewTicker(probeEvery)
	defer tick.Stop()
	serving, told := false, false
	for {
		err := s.pingSoon(ctx)
		if ctx.Err() != nil {
			return
		}
		if up := err == nil; up != serving || !told {
			serving, told = up, true
			setAll(h, up)
			s.logReach(err)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

func (s *Server) logReach(err error) {
	if err != nil {
		s.log.Warn("etcd out of reach: answering UNAVAILABLE until it is back", slog.Any("err", err), slog.Any("etcd", s.about.EtcdEndpoints))
		return
	}
	s.log.Info("etcd answers: serving", slog.Any("etcd", s.about.EtcdEndpoints))
}

// Ping reads one small record, so nil means that the store answers; that the
// record may be absent does not matter.
func (s *Server) Ping(ctx context.Context) error {
	_, err := s.fetch(ctx, allocationKey)
	return err
}

func (s *Server) pingSoon(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, probeEvery)
	defer cancel()
	return s.Ping(ctx)
}

func setAll(h *health.Server, serving bool) {
	status := grpc_health_v1.HealthCheckResponse_NOT_SERVING
	if serving {
		status = grpc_health_v1.HealthCheckResponse_SERVING
	}
	for _, name := range services {
		h.SetServingStatus(name, status)
	}
}
