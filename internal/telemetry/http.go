package telemetry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// Check tells what is wrong with one part of a program, or nil. It must return
// soon after its context is done.
type Check func(context.Context) error

// Config is what the listener serves.
type Config struct {
	Listen   string // see [Options]; empty = nothing is served
	Gatherer prometheus.Gatherer
	// Live answers /healthz: is this process worth keeping? Ready answers
	// /readyz: can it do its work now? Keys name what is checked.
	Live  map[string]Check
	Ready map[string]Check
	Log   *slog.Logger
}

// The bounds of the listener.
const (
	checkTimeout  = 2 * time.Second
	headerTimeout = 5 * time.Second
	closeTimeout  = time.Second
)

// Serve serves metrics and health until ctx is done, and then returns nil. An
// address that cannot be listened on is an error at once.
func Serve(ctx context.Context, cfg Config) error {
	if cfg.Listen == "" {
		<-ctx.Done()
		return nil
	}
	addr, err := listenAddr(cfg.Listen)
	if err != nil {
		return err
	}
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", addr)
	if err != nil {
		return fmt.Errorf("listen for metrics: %w: choose another --metrics-listen", err)
	}
	cfg.Log.Info("serving metrics", "address", l.Addr().String())
	return serve(ctx, l, cfg)
}

func serve(ctx context.Context, l net.Listener, cfg Config) error {
	srv := &http.Server{
		Handler:           Handler(cfg),
		ReadHeaderTimeout: headerTimeout,
		ErrorLog:          slog.NewLogLogger(cfg.Log.Handler(), slog.LevelDebug),
	}
	//nolint:contextcheck // ctx is done by then: the last answers get a time of their own
	stopped := context.AfterFunc(ctx, func() {
		last, cancel := context.WithTimeout(context.Background(), closeTimeout)
		defer cancel()
		if srv.Shutdown(last) != nil {
			_ = srv.Close()
		}
	})
	defer stopped()
	if err := srv.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve metrics: %w", err)
	}
	return nil
}

// listenAddr completes an address without a host to one on loopback: metrics
// tell about networks and names, and nobody has to log in to read them.
func listenAddr(s string) (string, error) {
	host, port, err := net.SplitHostPort(s)
	if err != nil {
		return "", fmt.Errorf("--metrics-listen %q: want host:port or :port", s)
	}
	if host == "" {
		host = "127.0.0.1"
	}
	return net.JoinHostPort(host, port), nil
}

// Handler answers /metrics, /healthz and /readyz.
func Handler(cfg Config) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(cfg.Gatherer, promhttp.HandlerOpts{}))
	mux.Handle("GET /healthz", checks(cfg.Live))
	mux.Handle("GET /readyz", checks(cfg.Ready))
	return mux
}

// checks answers 200 "ok" if all hold; else 503 with one line for each that
// does not.
func checks(all map[string]Check) http.Handler {
	names := slices.Sorted(maps.Keys(all))
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), checkTimeout)
		defer cancel()
		var wrong strings.Builder
		for _, name := range names {
			if err := all[name](ctx); err != nil {
				fmt.Fprintf(&wrong, "%s: %v\n", name, err)
			}
		}
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		if wrong.Len() > 0 {
			w.WriteHeader(http.StatusServiceUnavailable)
			_, _ = io.WriteString(w, wrong.String())
			return
		}
		_, _ = io.WriteString(w, "ok\n")
	})
}
