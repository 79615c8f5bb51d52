package dockerdriver

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"
)

// Socket is where engines look for the driver of the name ovl.
const Socket = "/run/docker/plugins/ovl.sock"

const (
	// contentType is what engines ask for and expect (pkg/plugins/transport).
	contentType = "application/vnd.docker.plugins.v1.2+json"
	// maxBody bounds a message, in bytes. A container with a thousand published ports
	// makes one of some hundred KiB.
	maxBody = 4 << 20
	// maxLogged is how much of a message the log shows, in bytes.
	maxLogged = 1 << 12
	// patience is how long a call waits for an agent that is just starting. An engine
	// that meets no answer tries again after 1, 2, 4 and 8 s, and containers that it
	// wants to start meanwhile stay down.
	patience = 12 * time.Second
	// farewell bounds how long running calls may go on at the end.
	farewell = 5 * time.Second
)

// Server answers engines. It listens before the agent is ready: an engine that starts
// meanwhile waits for a moment and not for its next try.
type Server struct {
	log   *slog.Logger
	ready chan struct{}
	once  sync.Once
	calls map[string]call // set before ready is closed
}

// call answers the body of a message.
type call func(ctx context.Context, body []byte) (any, error)

// NewServer returns a server that knows no driver yet.
func NewServer(log *slog.Logger) *Server { return &Server{log: log, ready: make(chan struct{})} }

// Ready lets the server answer by d from now on.
func (s *Server) Ready(d *Driver) {
	s.once.Do(func() {
		s.calls = d.calls()
		close(s.ready)
	})
}

// Serve answers at l until ctx is done; then it lets running calls end, for a while.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	server := &http.Server{
		Handler: s, ReadHeaderTimeout: 10 * time.Second, MaxHeaderBytes: 1 << 16,
		BaseContext: func(net.Listener) context.Context { return context.WithoutCancel(ctx) },
		ErrorLog:    slog.NewLogLogger(s.log.Handler(), slog.LevelDebug),
	}
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(l) }()
	select {
	case err := <-ended:
		return fmt.Errorf("serve the docker plugin: %w", err)
	case <-ctx.Done():
	}
	limited, cancel := context.WithTimeout(context.WithoutCancel(ctx), farewell)
	defer cancel()
	if err := server.Shutdown(limited); err != nil {
		_ = server.Close()
	}
	if err := <-ended; !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve the docker plugin: %w", err)
	}
	return nil
}

// ServeHTTP implements [http.Handler].
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	method := strings.TrimPrefix(r.URL.Path, "/")
	if r.Method != http.MethodPost {
		s.answer(w, http.StatusMethodNotAllowed, failed(method, errors.New("want POST")))
		return
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if err != nil {
		s.answer(w, http.StatusBadRequest, failed(method, fmt.Errorf("read the message: %w", err)))
		return
	}
	s.log.Debug("the container engine asks", "call", method, "message", string(body[:min(len(body), maxLogged)]))
	if out, ok := known[method]; ok { // what is asked when the engine finds the socket
		s.answer(w, http.StatusOK, out)
		return
	}
	answer, err := s.find(r.Context(), method)
	switch {
	case errors.Is(err, errUnknown): // which engines take as "not supported", of calls that are not mandatory
		s.answer(w, http.StatusNotFound, failed(method, err))
		return
	case err != nil:
		s.answer(w, http.StatusOK, failed(method, err))
		return
	}
	began := time.Now()
	out, err := answer(r.Context(), body)
	s.log.Debug("the container engine is answered", "call", method, "took", time.Since(began))
	if err != nil {
		s.log.Warn("a call of the container engine failed", "call", method, "err", err)
		s.answer(w, http.StatusOK, failed(method, err))
		return
	}
	if out == nil {
		out = struct{}{}
	}
	s.answer(w, http.StatusOK, out)
}

var (
	errUnknown  = errors.New("ovl does not know this call")
	errStarting = errors.New("ovl-agent is still starting: try again in a moment; if that goes on, see its log")
)

// find returns who answers a call, once there is anybody.
func (s *Server) find(ctx context.Context, method string) (call, error) {
	select {
	case <-s.ready:
	case <-ctx.Done():
		return nil, errStarting
	case <-time.After(patience):
		return nil, errStarting
	}
	if answer, ok := s.calls[method]; ok {
		return answer, nil
	}
	return nil, errUnknown
}

func (s *Server) answer(w http.ResponseWriter, status int, out any) {
	w.Header().Set("Content-Type", contentType)
	w.WriteHeader(status)
	if err := json.NewEncoder(w).Encode(out); err != nil {
		s.log.Debug("the container engine did not wait for its answer", "err", err)
	}
}

// failed is an error as the two protocols spell it: the field is Err with one and
// Error with the other, and neither minds the other's.
func failed(method string, err error) map[string]string {
	text := strings.ReplaceAll(err.Error(), "\n", "; ")
	if strings.HasPrefix(method, "IpamDriver.") {
		return map[string]string{"Error": text}
	}
	return map[string]string{"Err": text}
}

// known is what is answered without an agent.
var known = map[string]any{
	"Plugin.Activate":               activated{Implements: []string{"NetworkDriver", "IpamDriver"}},
	"NetworkDriver.GetCapabilities": networkCapabilities{Scope: "local", ConnectivityScope: "global", GwAllocChecker: true},
	// A network as a whole has no gateway: engines from 28 on can be told so.
	"NetworkDriver.GwAllocCheck": gatewayCheck{SkipIPv4: true, SkipIPv6: true},
	"IpamDriver.GetCapabilities": ipamCapabilities{},
	"IpamDriver.GetDefaultAddressSpaces": addressSpaces{
		LocalDefaultAddressSpace: addressSpace, GlobalDefaultAddressSpace: addressSpace,
	},
}

// addressSpace is the one in which all pools are.
const addressSpace = "ovl"

// on returns a call of messages of one type. What does not parse is refused; what a
// message has besides is ignored.
func on[M any](answer func(context.Context, M) (any, error)) call {
	return func(ctx context.Context, body []byte) (any, error) {
		var m M
		if len(body) > 0 { // calls without arguments have none
			if err := json.Unmarshal(body, &m); err != nil {
				return nil, fmt.Errorf("read the message: %w", err)
			}
		}
		return answer(ctx, m)
	}
}
