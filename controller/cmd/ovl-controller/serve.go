package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/reflection"

	"github.com/ovlnet/ovl/controller/api"
	"github.com/ovlnet/ovl/internal/build"
	"github.com/ovlnet/ovl/internal/telemetry"
)

// stopTimeout is how long calls under way may take to end when the controller
// stops.
const stopTimeout = 5 * time.Second

// serve runs a controller until ctx is done, then stops it: first calls, then
// its store.
func serve(ctx context.Context, o options, log *slog.Logger) error {
	started := time.Now()
	listener, err := listen(ctx, o.listen)
	if err != nil {
		return err
	}
	defer listener.Close()
	who, err := openTrust(o)
	if err != nil {
		return err
	}
	facts, err := openBackend(ctx, o, who, log)
	if err != nil {
		if ctx.Err() != nil {
			return nil // told to stop while starting
		}
		return err
	}
	version := build.Version()
	trail, err := openTrail(o, facts, log)
	if err != nil {
		return oneLine([]error{err, facts.close()})
	}
	who.records(trail.Trail)
	server := api.New(api.Config{
		Store: facts.kv, Log: log, Defaults: o.defaults, HostNetworks: o.hosts,
		About: api.About{
			Version: version.Version, Commit: version.Commit, Started: started,
			EtcdEndpoints: facts.endpoints, EtcdEmbedded: facts.embedded(),
		},
		Identity: who.joining(o, facts), Doubts: who.doubts(), Trail: trail.Trail,
	})
	who.announce(log, version, listener.Addr(), facts)
	trail.Started(version.Version)
	err = tasks(ctx, o, log, server, who, listener, facts, trail)
	return oneLine([]error{err, facts.close(), trail.close()})
}

func listen(ctx context.Context, addr string) (net.Listener, error) {
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", addr)
	if err == nil {
		return l, nil
	}
	if op, ok := errors.AsType[*net.OpError](err); ok {
		err = op.Err // the address is named already
	}
	return nil, fmt.Errorf("listen on %s: %w: choose another address with --listen", addr, err)
}

// tasks runs what makes up a controller, until ctx is done or one part fails.
func tasks(ctx context.Context, o options, log *slog.Logger, server *api.Server, who *trust, listener net.Listener, facts *backend, trail *trail) error {
	registry := telemetry.NewRegistry()
	settings := server.Options(telemetry.NewController(registry).Answered) //nolint:contextcheck // each call has its own
	rpc := grpc.NewServer(slices.Concat(trail.Options(), settings, who.options(log))...)
	alive := api.Health()
	server.Register(rpc)
	grpc_health_v1.RegisterHealthServer(rpc, alive)
	reflection.Register(rpc)

	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { server.Probe(ctx, alive); return nil })
	group.Go(func() error { return facts.watch(ctx) })
	group.Go(func() error { trail.run(ctx); return nil })
	group.Go(func() error { return who.run(ctx, facts, o.identity, log) })
	group.Go(func() error {
		return telemetry.Serve(ctx, telemetry.Config{
			Listen: o.telemetry.MetricsListen, Gatherer: registry, Log: log,
			Ready: map[string]telemetry.Check{"etcd": server.Ping},
		})
	})
	group.Go(func() error {
		if err := rpc.Serve(listener); err != nil {
			return fmt.Errorf("serve the API: %w", err)
		}
		return nil
	})
	group.Go(func() error {
		<-ctx.Done()
		stop(log, server, alive, rpc)
		trail.finish()
		return nil
	})
	notify(log, daemon.SdNotifyReady)
	return group.Wait()
}

// stop ends the watches, lets other calls end, and after stopTimeout cuts them
// off.
func stop(log *slog.Logger, server *api.Server, alive *health.Server, rpc *grpc.Server) {
	log.Info("stopping")
	notify(log, daemon.SdNotifyStopping)
	alive.Shutdown()
	server.EndWatches()
	cut := time.AfterFunc(stopTimeout, rpc.Stop)
	defer cut.Stop()
	rpc.GracefulStop()
}

// notify tells systemd, if it started this process (NOTIFY_SOCKET).
func notify(log *slog.Logger, state string) {
	if _, err := daemon.SdNotify(false, state); err != nil {
		log.Warn("cannot notify systemd", slog.Any("err", err))
	}
}
