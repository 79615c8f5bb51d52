package bench

import (
	"context"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/ovlnet/ovl/controller/embedstore"
	"github.com/ovlnet/ovl/internal/lab/nsexec"
	"github.com/ovlnet/ovl/internal/store"
	"github.com/ovlnet/ovl/internal/store/etcd"
	ovlv1 "github.com/ovlnet/ovl/proto/ovl/v1"
)

// binDir holds the binaries under test, built from this tree.
var binDir string

func TestMain(m *testing.M) { nsexec.Main(m, build, underlay) }

// build compiles the binaries as `make build` does, unless OVL_BIN_DIR names a
// directory that holds it.
func build() error {
	if binDir = os.Getenv("OVL_BIN_DIR"); binDir != "" {
		return nil
	}
	dir, err := os.MkdirTemp("/run", "bin")
	if err != nil {
		return err
	}
	binDir = dir
	cmd := exec.Command("go", "build", "-o", dir, "../../node-agent/cmd/ovl-agent", "../../controller/cmd/ovl-controller", "../../node-agent/cmd/ovl-cni", "../../ovlctl")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	cmd.Stdout, cmd.Stderr = os.Stderr, os.Stderr
	return cmd.Run()
}

// underlay makes the interface that the agent tunnels through; nobody answers
// at its other end.
func underlay() error {
	attrs := netlink.NewLinkAttrs()
	attrs.Name = "u0"
	if err := netlink.LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: "u1"}); err != nil {
		return err
	}
	for _, name := range []string{"u0", "u1"} {
		l, err := netlink.LinkByName(name)
		if err != nil {
			return err
		}
		if name == "u0" {
			addr := &netlink.Addr{IPNet: &net.IPNet{IP: net.IPv4(192, 168, 77, 1), Mask: net.CIDRMask(24, 32)}}
			if err := netlink.AddrAdd(l, addr); err != nil {
				return err
			}
		}
		if err := netlink.LinkSetUp(l); err != nil {
			return err
		}
	}
	return nil
}

// world is a store with nobody in it, and the disk of one host.
type world struct {
	store *embedstore.Store
	kv    store.KV
	state string
	cut   context.CancelFunc
}

func newWorld(tb testing.TB) *world {
	tb.Helper()
	ctx, cut := context.WithCancel(context.Background())
	s, err := embedstore.Start(ctx, embedstore.Config{DataDir: tb.TempDir(), ClientAddr: "127.0.0.1:0", Log: slog.New(slog.DiscardHandler)})
	must(tb, err)
	kv, err := etcd.Dial(etcd.Config{Endpoints: s.Endpoints()})
	must(tb, err)
	return &world{store: s, kv: kv, state: tb.TempDir(), cut: cut}
}

func (w *world) close(tb testing.TB) {
	tb.Helper()
	must(tb, w.kv.Close())
	w.store.Close()
	w.cut()
}

// agent is a running ovl-agent.
type agent struct {
	cmd    *exec.Cmd
	socket string
	world  *world
}

func (w *world) args(extra ...string) []string {
	return append([]string{"--state-dir", w.state, "--socket", filepath.Join(w.state, "agent.sock")}, extra...)
}

func (w *world) startAgent(tb testing.TB) *agent {
	tb.Helper()
	a := &agent{world: w, socket: filepath.Join(w.state, "agent.sock")}
	a.cmd = exec.Command(filepath.Join(binDir, "ovl-agent"), w.args("--etcd", w.store.Endpoints()[0], "--name", "bench", "--underlay-interface", "u0", "--insecure-plaintext", "--log-level", "warn")...)
	a.cmd.Stderr = os.Stderr
	must(tb, a.cmd.Start())
	tb.Cleanup(func() { _ = a.cmd.Process.Kill() })
	return a
}

// attach makes a namespace and attaches it, which makes the agent lease a
// subnet; it returns the subnets that the host then holds.
func (a *agent) attach(tb testing.TB, name string) []netip.Prefix {
	tb.Helper()
	path := "/run/netns/" + name
	if _, err := os.Stat(path); err != nil {
		must(tb, exec.Command("ip", "netns", "add", name).Run())
	}
	conn, err := grpc.NewClient("unix://"+a.socket, grpc.WithTransportCredentials(insecure.NewCredentials()))
	must(tb, err)
	defer conn.Close()
	ctx, cancel := context.WithTimeout(tb.Context(), time.Minute)
	defer cancel()
	_, err = ovlv1.NewAttachmentServiceClient(conn).Attach(ctx, &ovlv1.AttachRequest{
		Name: name, Netns: path, Interfaces: []*ovlv1.InterfaceRequest{{Network: peersNetwork().Name}},
	}, grpc.WaitForReady(true))
	must(tb, err)
	status, err := ovlv1.NewAgentServiceClient(conn).GetStatus(ctx, &ovlv1.GetAgentStatusRequest{})
	must(tb, err)
	var own []netip.Prefix
	for _, s := range status.GetSubnets() {
		own = append(own, netip.MustParsePrefix(s.GetPrefix()))
	}
	return own
}

// passes returns how many passes the agent has made since it started.
func (a *agent) passes(tb testing.TB) uint32 {
	tb.Helper()
	conn, err := grpc.NewClient("unix://"+a.socket, grpc.WithTransportCredentials(insecure.NewCredentials()))
	must(tb, err)
	defer conn.Close()
	status, err := ovlv1.NewAgentServiceClient(conn).GetStatus(tb.Context(), &ovlv1.GetAgentStatusRequest{})
	must(tb, err)
	return status.GetPasses()
}

func (a *agent) rss(tb testing.TB) float64 { return rssOf(tb, a.cmd.Process.Pid) }

func (a *agent) stop(tb testing.TB) {
	tb.Helper()
	must(tb, a.cmd.Process.Signal(syscall.SIGTERM))
	must(tb, a.cmd.Wait())
}

// cleanup takes all rows of ours out of the kernel, as `ovl-agent cleanup` does
// for an operator.
func (a *agent) cleanup(tb testing.TB) {
	tb.Helper()
	out, err := exec.Command(filepath.Join(binDir, "ovl-agent"), append([]string{"cleanup"}, a.world.args()...)...).CombinedOutput()
	if err != nil {
		tb.Fatalf("cleanup: %v: %s", err, out)
	}
}
