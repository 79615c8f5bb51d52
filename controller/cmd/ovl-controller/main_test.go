package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/reflection/grpc_reflection_v1"
	"google.golang.org/grpc/status"

	"github.com/ovlnet/ovl/internal/identity"
	ovlv1 "github.com/ovlnet/ovl/proto/ovl/v1"
)

// The tests run the real program: this test binary, when asked to be it.
const beEnv = "OVL_TEST_BE_CONTROLLER"

func TestMain(m *testing.M) {
	if os.Getenv(beEnv) != "" {
		main()
		return
	}
	os.Exit(m.Run())
}

func command(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self, args...)
	cmd.Env = append(os.Environ(), beEnv+"=1")
	return cmd
}

// freeAddr returns an address on loopback that was free a moment ago, and that nobody
// else is likely to come by: at 127.0.0.1 every outgoing connection of the machine may
// get the port meanwhile.
func freeAddr(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", fmt.Sprintf("127.%d.%d.%d:0", 1+rand.IntN(254), rand.IntN(256), 1+rand.IntN(254)))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// process is a running controller.
type process struct {
	cmd  *exec.Cmd
	conn *grpc.ClientConn
	// drained is closed when the log has ended, with the process.
	drained chan struct{}

	mu  sync.Mutex
	log strings.Builder
}

// start runs a controller and returns when it said READY to its NOTIFY_SOCKET,
// as systemd would wait for it.
func start(t *testing.T, listen string, args ...string) *process {
	t.Helper()
	dir, err := os.MkdirTemp("", "ovl") //nolint:usetesting // t.TempDir is too long for a socket's name
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	socket, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: filepath.Join(dir, "notify"), Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer socket.Close()
	p := &process{drained: make(chan struct{}), cmd: command(t, append([]string{"--listen", listen}, args...)...)}
	p.cmd.Env = append(p.cmd.Env, "NOTIFY_SOCKET="+filepath.Join(dir, "notify"))
	stderr, err := p.cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { defer close(p.drained); p.collect(stderr, socket) }()
	t.Cleanup(func() { _ = p.cmd.Process.Kill(); <-p.drained; _ = p.cmd.Wait() })
	msg := make([]byte, 64)
	n, err := socket.Read(msg)
	if err != nil || string(msg[:n]) != "READY=1" {
		t.Fatalf("notified %q, %v; log:\n%s", msg[:n], err, p.text())
	}
	p.conn = dial(t, listen, admin(t, args))
	return p
}

func dial(t *testing.T, listen string, with credentials.TransportCredentials) *grpc.ClientConn {
	t.Helper()
	conn, err := grpc.NewClient(listen, grpc.WithTransportCredentials(with))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// admin returns the credentials that a controller of these flags left for the
// admin of its machine.
func admin(t *testing.T, flags []string) credentials.TransportCredentials {
	t.Helper()
	i := slices.Index(flags, "--data-dir")
	if slices.Contains(flags, "--insecure-plaintext") {
		return insecure.NewCredentials()
	}
	return credentials.NewTLS(credential(t, filepath.Join(flags[i+1], "identity"), "admin.pem").Client())
}

func credential(t *testing.T, dir, file string) *identity.Credential {
	t.Helper()
	pair, err := identity.ReadPair(filepath.Join(dir, file), "")
	if err != nil {
		t.Fatal(err)
	}
	data, err := identity.Read(filepath.Join(dir, "ca.pem"))
	if err != nil {
		t.Fatal(err)
	}
	roots, err := identity.ParseCerts(data)
	if err != nil {
		t.Fatal(err)
	}
	return identity.NewCredential(pair, roots, time.Now)
}

// sharing returns the flags of a further controller of the one with that data.
func sharing(t *testing.T, dir, etcd string) []string {
	t.Helper()
	keys := filepath.Join(dir, "identity")
	return []string{
		"--data-dir", t.TempDir(), "--etcd", "https://" + etcd,
		"--ca-cert", filepath.Join(keys, "ca.pem"), "--ca-key", filepath.Join(keys, "ca-key.pem"),
	}
}

// collect keeps the log; a controller that ends wakes whoever waits for READY.
func (p *process) collect(stderr io.Reader, socket io.Closer) {
	lines := bufio.NewScanner(stderr)
	for lines.Scan() {
		p.mu.Lock()
		fmt.Fprintln(&p.log, lines.Text())
		p.mu.Unlock()
	}
	_ = socket.Close()
}

func (p *process) text() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.log.String()
}

// stop sends the signal and fails unless the controller ends well in time.
func (p *process) stop(t *testing.T, sig os.Signal) {
	t.Helper()
	if err := p.cmd.Process.Signal(sig); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { <-p.drained; ended <- p.cmd.Wait() }()
	select {
	case err := <-ended:
		if err != nil {
			t.Errorf("ended with %v; log:\n%s", err, p.text())
		}
	case <-time.After(stopTimeout + 10*time.Second):
		t.Fatalf("did not stop; log:\n%s", p.text())
	}
}

func TestServeStopRestart(t *testing.T) {
	listen, etcd, dir, ctx := freeAddr(t), freeAddr(t), filepath.Join(t.TempDir(), "made"), t.Context()
	p := start(t, listen, "--etcd-listen", etcd, "--data-dir", dir)
	networks := ovlv1.NewNetworkServiceClient(p.conn)
	made, err := networks.CreateNetwork(ctx, &ovlv1.CreateNetworkRequest{Name: "blue"})
	if err != nil {
		t.Fatal(err)
	}
	health, err := grpc_health_v1.NewHealthClient(p.conn).Watch(ctx, &grpc_health_v1.HealthCheckRequest{})
	if err != nil {
		t.Fatal(err)
	}
	for {
		h, err := health.Recv()
		if err != nil {
			t.Fatal(err)
		}
		if h.GetStatus() == grpc_health_v1.HealthCheckResponse_SERVING {
			break
		}
	}
	// A second controller shares the store of the first.
	second := start(t, freeAddr(t), sharing(t, dir, etcd)...)
	st, err := ovlv1.NewControllerServiceClient(second.conn).GetStatus(ctx, &ovlv1.GetStatusRequest{})
	if err != nil || !st.GetEtcdHealthy() || st.GetEtcdEmbedded() || st.GetNetworks() != 1 {
		t.Errorf("status of the second: %v, %v", st, err)
	}
	second.stop(t, os.Interrupt)

	watch, err := networks.WatchNetworks(ctx, &ovlv1.WatchRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := watch.Recv(); err != nil {
		t.Fatal(err)
	}
	p.stop(t, syscall.SIGTERM)
	if text := p.text(); strings.Count(text, "mutual TLS 1.3") != 1 {
		t.Errorf("log does not say once who can reach it:\n%s", text)
	}
	for err == nil {
		_, err = watch.Recv()
	}
	if status.Code(err) != codes.Unavailable {
		t.Errorf("the watch ended with %v, want UNAVAILABLE", err)
	}

	p = start(t, listen, "--etcd-listen", etcd, "--data-dir", dir)
	got, err := ovlv1.NewNetworkServiceClient(p.conn).GetNetwork(ctx, &ovlv1.GetNetworkRequest{Name: "blue"})
	if err != nil || got.GetVni() != made.GetVni() || got.GetRevision() != made.GetRevision() {
		t.Errorf("after a restart: %v, %v; want %v", got, err, made)
	}
	// Killed without a word, it starts again on its data as well.
	if err := p.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = p.cmd.Wait()
	p = start(t, listen, "--etcd-listen", etcd, "--data-dir", dir)
	if _, err := ovlv1.NewNetworkServiceClient(p.conn).GetNetwork(ctx, &ovlv1.GetNetworkRequest{Name: "blue"}); err != nil {
		t.Errorf("after a kill: %v", err)
	}
}

// Three controllers on one etcd, all asked at once: no VNI and no subnet twice.
func TestControllersShareEtcd(t *testing.T) {
	etcd, dir := freeAddr(t), t.TempDir()
	ps := []*process{start(t, freeAddr(t), "--etcd-listen", etcd, "--data-dir", dir)}
	for range 2 {
		ps = append(ps, start(t, freeAddr(t), sharing(t, dir, etcd)...))
	}
	const n = 45 // of the 64 that the default pool holds
	made := make([]*ovlv1.Network, n)
	var group errgroup.Group
	for i := range n {
		group.Go(func() (err error) {
			c := ovlv1.NewNetworkServiceClient(ps[i%len(ps)].conn)
			made[i], err = c.CreateNetwork(t.Context(), &ovlv1.CreateNetworkRequest{Name: fmt.Sprint("n", i)})
			return err
		})
	}
	if err := group.Wait(); err != nil {
		t.Fatal(err)
	}
	seen := map[string]string{}
	for _, m := range made {
		for _, key := range []string{fmt.Sprint("VNI ", m.GetVni()), m.GetSubnets()[0]} {
			if other, taken := seen[key]; taken {
				t.Errorf("%s and %s both have %s", m.GetName(), other, key)
			}
			seen[key] = m.GetName()
		}
	}
}

// finishRotation takes the steps to the end, and returns how the CAs are then.
func finishRotation(t *testing.T, c ovlv1.AuthorityServiceClient) *ovlv1.Authorities {
	t.Helper()
	for {
		a, err := c.FinishRotation(t.Context(), &ovlv1.FinishRotationRequest{Force: true})
		if err != nil {
			t.Fatalf("finish: %v", err)
		}
		if a.GetPhase() == "rest" {
			return a
		}
	}
}

// Who drops a CA hears that it is done: neither his own connection, whose certificate
// is of that CA, nor that of the controller to its etcd takes the answer away. Nor does
// anybody else lose one.
func TestRotationAnswers(t *testing.T) {
	listen, etcd, dir := freeAddr(t), freeAddr(t), t.TempDir()
	flags := []string{"--etcd-listen", etcd, "--data-dir", dir}
	one := start(t, listen, flags...)
	for range 5 {
		conn := dial(t, listen, admin(t, flags))
		c := ovlv1.NewAuthorityServiceClient(conn)
		var group errgroup.Group
		group.Go(func() error { return work(t.Context(), ovlv1.NewNetworkServiceClient(conn)) })
		a, err := c.RotateAuthority(t.Context(), &ovlv1.RotateAuthorityRequest{})
		if err != nil {
			t.Fatalf("rotate: %v; log:\n%s", err, one.text())
		}
		next := a.GetAuthorities()[len(a.GetAuthorities())-1].GetFingerprint()
		if a.GetPhase() == "issue" { // the controller was as fast
			next = a.GetAuthorities()[0].GetFingerprint()
		}
		if got := finishRotation(t, c).GetAuthorities(); len(got) != 1 || got[0].GetFingerprint() != next {
			t.Errorf("at the end there are %v, want %s", got, next)
		}
		if err := group.Wait(); err != nil {
			t.Errorf("what others did meanwhile: %v", err)
		}
	}
}

// work makes and deletes a network until the caller, whose CA was dropped, is let in
// no more. No other error is one of the rotation's.
func work(ctx context.Context, c ovlv1.NetworkServiceClient) error {
	for {
		_, err := c.CreateNetwork(ctx, &ovlv1.CreateNetworkRequest{Name: "work"})
		if err == nil || status.Code(err) == codes.AlreadyExists {
			_, err = c.DeleteNetwork(ctx, &ovlv1.DeleteNetworkRequest{Name: "work"})
		}
		switch status.Code(err) {
		case codes.OK:
		case codes.Unauthenticated:
			return nil
		default:
			return err
		}
	}
}

// The same of a controller whose etcd is within another one, which does close its
// connection.
func TestRotationAnswersElsewhere(t *testing.T) {
	etcd, dir := freeAddr(t), t.TempDir()
	one := start(t, freeAddr(t), "--etcd-listen", etcd, "--data-dir", dir)
	two := start(t, freeAddr(t), sharing(t, dir, etcd)...)
	next, err := identity.NewAuthority(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	cert, key, err := next.Encode()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range []*process{one, two} {
		if _, err := ovlv1.NewAuthorityServiceClient(p.conn).RotateAuthority(t.Context(), &ovlv1.RotateAuthorityRequest{Certificate: cert, Key: key}); err != nil {
			t.Fatalf("rotate: %v; log:\n%s", err, one.text())
		}
	}
	if got := finishRotation(t, ovlv1.NewAuthorityServiceClient(two.conn)).GetAuthorities(); len(got) != 1 || got[0].GetFingerprint() != next.Print().String() {
		t.Errorf("at the end there are %v, want %s", got, next.Print())
	}
}

func TestReflection(t *testing.T) {
	p := start(t, freeAddr(t), "--etcd-listen", "127.0.0.1:0", "--data-dir", t.TempDir())
	s, err := grpc_reflection_v1.NewServerReflectionClient(p.conn).ServerReflectionInfo(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Send(&grpc_reflection_v1.ServerReflectionRequest{MessageRequest: &grpc_reflection_v1.ServerReflectionRequest_ListServices{}}); err != nil {
		t.Fatal(err)
	}
	resp, err := s.Recv()
	if err != nil {
		t.Fatal(err)
	}
	got := fmt.Sprint(resp.GetListServicesResponse().GetService())
	for _, name := range []string{"NetworkService", "HostService", "SubnetService", "EndpointService", "ControllerService", "grpc.health.v1.Health"} {
		if !strings.Contains(got, name) {
			t.Errorf("%s is not served: %s", name, got)
		}
	}
}

// Without its etcd a controller starts, says so, and answers what it can.
func TestEtcdOutOfReach(t *testing.T) {
	p, ctx := start(t, freeAddr(t), "--etcd", "https://"+freeAddr(t), "--data-dir", t.TempDir()), t.Context()
	h, err := grpc_health_v1.NewHealthClient(p.conn).Check(ctx, &grpc_health_v1.HealthCheckRequest{})
	if err != nil || h.GetStatus() != grpc_health_v1.HealthCheckResponse_NOT_SERVING {
		t.Errorf("health %v, %v; want NOT_SERVING", h, err)
	}
	_, err = ovlv1.NewNetworkServiceClient(p.conn).ListNetworks(ctx, &ovlv1.ListNetworksRequest{})
	if st := status.Convert(err); st.Code() != codes.Unavailable || !strings.Contains(st.Message(), "check that etcd runs") || strings.Contains(st.Message(), "\n") {
		t.Errorf("answer %v, want UNAVAILABLE and what to do", err)
	}
	p.stop(t, syscall.SIGTERM)
}

func TestMistakes(t *testing.T) {
	busy, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer busy.Close()
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, []byte("loglevel: debug\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	used := t.TempDir()
	start(t, freeAddr(t), "--etcd-listen", "127.0.0.1:0", "--data-dir", used)
	for _, c := range []struct {
		name string
		args []string
		code int
		want string
	}{
		{"address in use", []string{"--listen", busy.Addr().String()}, 1, "--listen"},
		{"etcd address in use", []string{"--listen", "127.0.0.1:0", "--etcd-listen", busy.Addr().String(), "--data-dir", t.TempDir()}, 1, "--etcd-listen"},
		{"data in use", []string{"--listen", "127.0.0.1:0", "--etcd-listen", "127.0.0.1:0", "--data-dir", used}, 1, "another process uses it"},
		{"no directory", []string{"--listen", "127.0.0.1:0", "--etcd-listen", "127.0.0.1:0", "--data-dir", file + "/x"}, 1, "--data-dir"},
		{"metrics in use", []string{"--listen", "127.0.0.1:0", "--etcd-listen", "127.0.0.1:0", "--data-dir", t.TempDir(), "--metrics-listen", busy.Addr().String()}, 1, "--metrics-listen"},
		{"etcd URL", []string{"--listen", "127.0.0.1:0", "--etcd", "ftp://x:1"}, 2, "want http or https"},
		{"plain etcd", []string{"--etcd", "http://192.0.2.1:2379"}, 2, "want https"},
		{"plain text for all", []string{"--insecure-plaintext", "--listen", ":6790"}, 2, "loopback"},
		{"plain text for agents", []string{"--insecure-plaintext", "--etcd-listen", "192.0.2.1:6779"}, 2, "loopback"},
		{"plain text elsewhere", []string{"--insecure-plaintext", "--etcd", "http://192.0.2.1:2379"}, 2, "loopback"},
		{"half a CA", []string{"--ca-cert", file}, 2, "--ca-key"},
		{"no CA", []string{"--data-dir", t.TempDir(), "--ca-cert", file + "x", "--ca-key", file}, 1, "no such file"},
		{"short life", []string{"--cert-lifetime", "1s"}, 2, "--cert-lifetime"},
		{"advertised port", []string{"--advertise", "ctl:6790"}, 2, "without a port"},
		{"unknown flag", []string{"--colour"}, 2, "--colour"},
		{"argument", []string{"now"}, 2, "now"},
		{"bad listen", []string{"--listen", "6790"}, 2, "host:port"},
		{"bad pool", []string{"--default-pool", "10.0.0.1/8"}, 2, "write 10.0.0.0/8"},
		{"no pool", []string{"--default-pool", "ten"}, 2, "such as 10.64.0.0/10"},
		{"bad length", []string{"--default-pool-length", "24"}, 2, "10 to 23"},
		{"bad VNI", []string{"--first-vni", "0"}, 2, "16777215"},
		{"both etcds", []string{"--etcd", "https://x:1", "--etcd-listen", ":1"}, 2, "only one of them"},
		{"bad level", []string{"--log-level", "loud"}, 2, "debug, info"},
		{"bad file", []string{"--config", file}, 2, "log-level"},
	} {
		t.Run(c.name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			cmd := command(t, c.args...)
			stop := context.AfterFunc(ctx, func() { _ = cmd.Process.Kill() })
			defer stop()
			var out, errs bytes.Buffer
			cmd.Stdout, cmd.Stderr = &out, &errs
			_ = cmd.Run()
			if code := cmd.ProcessState.ExitCode(); code != c.code {
				t.Errorf("exit code %d, want %d", code, c.code)
			}
			lines := strings.Split(strings.TrimSpace(errs.String()), "\n")
			last := lines[len(lines)-1]
			if !strings.HasPrefix(last, "ovl-controller: ") || !strings.Contains(last, c.want) {
				t.Errorf("says %q, want one line with %q", last, c.want)
			}
			if c.code == 2 && (len(lines) != 1 || out.Len() > 0) {
				t.Errorf("more than one line: %q %q", errs.String(), out.String())
			}
		})
	}
}

func TestVersion(t *testing.T) {
	out, err := command(t, "version").Output()
	if err != nil || !strings.HasPrefix(string(out), "ovl-controller ") || !strings.Contains(string(out), "go1.") {
		t.Errorf("version says %q, %v", out, err)
	}
}
