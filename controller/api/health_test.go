package api_test

import (
	"bytes"
	"context"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/health/grpc_health_v1"

	"github.com/ovlnet/ovl/controller/api"
	"github.com/ovlnet/ovl/internal/store/mem"
)

// Health follows the store, and each change is logged once.
func TestHealthFollowsTheStore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := mem.New()
		defer func() { _ = s.Close() }()
		kv := s.NewClient()
		var log bytes.Buffer
		server := api.New(api.Config{Store: kv, Log: slog.New(slog.NewTextHandler(&log, nil))})
		h := api.Health()
		ctx, cancel := context.WithCancel(t.Context())
		want := func(status grpc_health_v1.HealthCheckResponse_ServingStatus) {
			t.Helper()
			for _, service := range []string{"", "ovl.v1.NetworkService"} {
				resp, err := h.Check(ctx, &grpc_health_v1.HealthCheckRequest{Service: service})
				if err != nil || resp.GetStatus() != status {
					t.Errorf("health of %q is %v, %v; want %v", service, resp.GetStatus(), err, status)
				}
			}
		}
		want(grpc_health_v1.HealthCheckResponse_NOT_SERVING)
		done := make(chan struct{})
		go func() { defer close(done); server.Probe(ctx, h) }()
		synctest.Wait()
		want(grpc_health_v1.HealthCheckResponse_SERVING)
		kv.SetConnected(false)
		time.Sleep(10 * time.Second) // of the bubble's clock
		want(grpc_health_v1.HealthCheckResponse_NOT_SERVING)
		kv.SetConnected(true)
		time.Sleep(10 * time.Second)
		want(grpc_health_v1.HealthCheckResponse_SERVING)
		cancel()
		<-done
		if n := strings.Count(log.String(), "\n"); n != 3 {
			t.Errorf("%d lines logged, want one for each of three changes:\n%s", n, &log)
		}
	})
}
