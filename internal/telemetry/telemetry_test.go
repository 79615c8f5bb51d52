package telemetry

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestLogger(t *testing.T) {
	tests := []struct {
		format, level string
		want, wantNot string
		err           string
	}{
		{format: "text", level: "info", want: "msg=told n=1", wantNot: "hidden"},
		{format: "json", level: "INFO", want: `"msg":"told","n":1`, wantNot: "hidden"},
		{format: "text", level: "debug", want: "msg=hidden"},
		{format: "xml", level: "info", err: `--log-format "xml"`},
		{format: "text", level: "loud", err: `--log-level "loud"`},
		{format: "text", level: "info+2", err: "want debug"},
	}
	for _, tt := range tests {
		t.Run(tt.format+"/"+tt.level, func(t *testing.T) {
			var b bytes.Buffer
			log, err := (&Options{LogFormat: tt.format, LogLevel: tt.level}).Logger(&b)
			if tt.err != "" {
				if err == nil || !strings.Contains(err.Error(), tt.err) {
					t.Fatalf("error = %v, want one with %q", err, tt.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			log.Debug("hidden")
			log.Info("told", "n", 1)
			if !strings.Contains(b.String(), tt.want) {
				t.Errorf("log = %q, want %q in it", b.String(), tt.want)
			}
			if tt.wantNot != "" && strings.Contains(b.String(), tt.wantNot) {
				t.Errorf("log = %q, want no %q in it", b.String(), tt.wantNot)
			}
		})
	}
}

func get(t *testing.T, h http.Handler, path string) (status int, body string) {
	t.Helper()
	rec := httptest.NewRecorder()
	h.ServeHTTP(rec, httptest.NewRequestWithContext(t.Context(), http.MethodGet, path, http.NoBody))
	return rec.Code, rec.Body.String()
}

func TestHealth(t *testing.T) {
	var store error
	h := Handler(Config{
		Gatherer: NewRegistry(),
		Ready: map[string]Check{
			"store": func(context.Context) error { return store },
			"loop":  func(context.Context) error { return nil },
		},
	})
	if code, body := get(t, h, "/healthz"); code != 200 || body != "ok\n" {
		t.Errorf("/healthz = %d %q, want 200 ok", code, body)
	}
	if code, body := get(t, h, "/readyz"); code != 200 || body != "ok\n" {
		t.Errorf("/readyz = %d %q, want 200 ok", code, body)
	}
	store = errors.New("no answer since 12:00")
	if code, body := get(t, h, "/readyz"); code != 503 || body != "store: no answer since 12:00\n" {
		t.Errorf("/readyz = %d %q, want 503 and what is wrong", code, body)
	}
	if code, _ := get(t, h, "/debug"); code != 404 {
		t.Errorf("/debug = %d, want 404", code)
	}
}

func TestMetricsAreServedUnderTheirNames(t *testing.T) {
	reg := NewRegistry()
	agent, controller := NewAgent(reg), NewController(reg)
	agent.Passes.WithLabelValues("done").Inc()
	agent.Ops.WithLabelValues("route", "create", "done").Add(3)
	agent.PassSeconds.Observe(0.004)
	agent.RowsNotDone.WithLabelValues("failed").Set(2)
	controller.Answered("/ovl.v1.NetworkService/GetNetwork", "NotFound", time.Millisecond, false)
	controller.Answered("/ovl.v1.NetworkService/WatchNetworks", "OK", time.Hour, true)
	_, body := get(t, Handler(Config{Gatherer: reg}), "/metrics")
	for _, want := range []string{
		"ovl_build_info{",
		`ovl_agent_passes_total{result="done"} 1`,
		`ovl_agent_operations_total{result="done",table="route",verb="create"} 3`,
		"ovl_agent_pass_duration_seconds_count 1",
		`ovl_agent_rows_not_done{condition="failed"} 2`,
		`ovl_controller_grpc_requests_total{code="NotFound",method="/ovl.v1.NetworkService/GetNetwork"} 1`,
		`ovl_controller_grpc_request_duration_seconds_count{method="/ovl.v1.NetworkService/GetNetwork"} 1`,
	} {
		if !strings.Contains(body, want) {
			t.Errorf("/metrics has no %q", want)
		}
	}
	if strings.Contains(body, `duration_seconds_count{method="/ovl.v1.NetworkService/WatchNetworks"}`) {
		t.Error("a stream's hour counts as the time of an answer")
	}
}

func TestListenAddr(t *testing.T) {
	for in, want := range map[string]string{":6791": "127.0.0.1:6791", "0.0.0.0:1": "0.0.0.0:1", "[::1]:2": "[::1]:2"} {
		if got, err := listenAddr(in); err != nil || got != want {
			t.Errorf("listenAddr(%q) = %q, %v; want %q", in, got, err, want)
		}
	}
	if _, err := listenAddr("6791"); err == nil {
		t.Error("listenAddr(6791) succeeded without a colon")
	}
}

func TestServeEndsWithItsContext(t *testing.T) {
	defer goleak.VerifyNone(t)
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	done := make(chan error, 1)
	go func() {
		done <- serve(ctx, l, Config{Gatherer: NewRegistry(), Log: slog.New(slog.DiscardHandler)})
	}()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+l.Addr().String()+"/healthz", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(resp.Body)
	if err != nil || string(body) != "ok\n" {
		t.Errorf("body = %q, %v; want ok", body, err)
	}
	if err := resp.Body.Close(); err != nil {
		t.Error(err)
	}
	cancel()
	if err := <-done; err != nil {
		t.Errorf("serve = %v, want nil", err)
	}
}

func TestServeRefusesATakenAddress(t *testing.T) {
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	err = Serve(t.Context(), Config{Listen: l.Addr().String(), Gatherer: NewRegistry(), Log: slog.New(slog.DiscardHandler)})
	if err == nil || !strings.Contains(err.Error(), "--metrics-listen") {
		t.Errorf("Serve on a taken address = %v, want an error that says what to do", err)
	}
}

func TestServeNothing(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := Serve(ctx, Config{}); err != nil {
		t.Errorf("Serve without an address = %v, want nil", err)
	}
}
