package main

import (
	"bytes"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc"

	"github.com/ovlnet/ovl/internal/lab/nsexec"
	"github.com/ovlnet/ovl/internal/sandbox"
	ovlv1 "github.com/ovlnet/ovl/proto/ovl/v1"
)

// mainCommand makes the test binary ovlctl itself, for what needs a process of
// its own.
const mainCommand = "ovlctl-test-main"

func TestMain(m *testing.M) {
	switch {
	case len(os.Args) > 1 && os.Args[1] == sandbox.InitCommand:
		main()
	case len(os.Args) > 1 && os.Args[1] == mainCommand:
		os.Args = append(os.Args[:1], os.Args[2:]...)
		main()
	}
	nsexec.Main(m)
}

// now is the time in these tests.
var now = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// world is ovlctl with a controller and an agent that answer as told.
type world struct {
	*options
	t          *testing.T
	controller *fakeController
	agent      *fakeAgent
	env        map[string]string
	out, err   bytes.Buffer
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{t: t, controller: &fakeController{}, agent: newFakeAgent(), env: map[string]string{}}
	dir := t.TempDir()
	socket := filepath.Join(dir, "agent.sock")
	address := serve(t, "tcp", "127.0.0.1:0", func(s *grpc.Server) {
		ovlv1.RegisterNetworkServiceServer(s, networkFake{c: w.controller})
		ovlv1.RegisterHostServiceServer(s, hostFake{c: w.controller})
		ovlv1.RegisterSubnetServiceServer(s, subnetFake{c: w.controller})
		ovlv1.RegisterEndpointServiceServer(s, endpointFake{c: w.controller})
		ovlv1.RegisterControllerServiceServer(s, statusFake{c: w.controller})
	})
	serve(t, "unix", socket, func(s *grpc.Server) {
		ovlv1.RegisterAttachmentServiceServer(s, attachmentFake{a: w.agent})
		ovlv1.RegisterAgentServiceServer(s, agentFake{a: w.agent})
	})
	w.env["OVL_INSECURE_PLAINTEXT"] = "true"
	w.env["OVL_CONTROLLER"], w.env["OVL_SOCKET"], w.env["HOME"] = address, socket, dir
	w.options = &options{
		stdin:    strings.NewReader(""),
		stdout:   &w.out,
		stderr:   &w.err,
		getenv:   func(k string) string { return w.env[k] },
		now:      func() time.Time { return now },
		terminal: func(any) bool { return false },
		paths: sandbox.Paths{
			NetNS: filepath.Join(dir, "netns"),
			Etc:   filepath.Join(dir, "etc"),
			State: filepath.Join(dir, "state"),
		},
	}
	t.Cleanup(func() { _ = unix.Unmount(w.paths.NetNS, unix.MNT_DETACH) })
	return w
}

func serve(t *testing.T, network, address string, register func(*grpc.Server)) string {
	t.Helper()
	l, err := net.Listen(network, address)
	if err != nil {
		t.Fatal(err)
	}
	s := grpc.NewServer()
	register(s)
	done := make(chan struct{})
	go func() { defer close(done); _ = s.Serve(l) }()
	t.Cleanup(func() { s.Stop(); <-done })
	return l.Addr().String()
}

// run runs one command line with fresh flags and returns the exit code.
func (w *world) run(args ...string) int {
	w.t.Helper()
	w.out.Reset()
	w.err.Reset()
	o := *w.options // flags are of one command line
	return execute(w.t.Context(), &o, args)
}

// want runs a command line and compares all that it gives.
func (w *world) want(code int, stdout, stderr string, args ...string) {
	w.t.Helper()
	got := w.run(args...)
	if got != code || w.out.String() != stdout || w.err.String() != stderr {
		w.t.Errorf("ovlctl %s\nexit code %d, want %d\n--- stdout\n%s--- want\n%s--- stderr\n%s--- want\n%s",
			strings.Join(args, " "), got, code, &w.out, stdout, &w.err, stderr)
	}
}
