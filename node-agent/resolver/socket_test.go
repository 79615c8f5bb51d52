package resolver

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"

	"github.com/miekg/dns"
	"golang.org/x/sys/unix"

	"github.com/ovlnet/ovl/internal/cluster"
	"github.com/ovlnet/ovl/internal/dataplane"
)

// host is a resolver on real bridges, and a container behind each.
type host struct {
	*Resolver
	t     *testing.T
	mu    sync.Mutex
	facts Facts
}

// newHost has the networks blue and red, and wants their gateways, but has no
// bridges yet.
func newHost(t *testing.T) *host {
	t.Helper()
	networks := []cluster.Network{network("blue", 100, "10.64.0.0/16", "fd64::/48"), network("red", 101, "10.65.0.0/16")}
	h := &host{t: t}
	h.facts = Facts{
		Self: here,
		Snapshot: cluster.NewSnapshot(1, networks, nil, nil).WithEndpoints([]cluster.Endpoint{
			endpoint("blue", "db", nil, "10.64.2.2"), endpoint("red", "db", nil, "10.65.2.2"),
		}),
	}
	for device, gateways := range map[string][]string{"ovb100": {"10.64.1.1/24", "fd64:0:0:1::1/64", "fe80::1/64"}, "ovb101": {"10.65.1.1/24"}} {
		for _, g := range gateways {
			h.facts.Wanted.Add(dataplane.Addr{AddrKey: dataplane.AddrKey{Link: device, Prefix: netip.MustParsePrefix(g)}})
		}
	}
	resolv := filepath.Join(t.TempDir(), "resolv.conf")
	writeFile(t, resolv, "# nobody\n")
	h.Resolver = New(Config{ResolvConf: resolv, Log: slog.New(slog.DiscardHandler), Facts: func() Facts {
		h.mu.Lock()
		defer h.mu.Unlock()
		return h.facts
	}})
	t.Cleanup(h.close)
	return h
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func ip(t *testing.T, args string) {
	t.Helper()
	if out, err := exec.Command("ip", strings.Fields(args)...).CombinedOutput(); err != nil {
		t.Fatalf("ip %s: %v: %s", args, err, out)
	}
}

// bridge makes a bridge, without addresses.
func bridge(t *testing.T, name string) {
	t.Helper()
	ip(t, "link add "+name+" type bridge")
	ip(t, "link set "+name+" up")
	t.Cleanup(func() { _ = exec.Command("ip", "link", "del", name).Run() }) // the test may have
}

func address(t *testing.T, device, prefix string) {
	t.Helper()
	nodad := ""
	if strings.Contains(prefix, ":") {
		nodad = " nodad"
	}
	ip(t, "address add "+prefix+" dev "+device+nodad)
}

// ask asks a server from within a container.
type ask func(transport, server, name string) (*dns.Msg, error)

// container makes a namespace behind a bridge, with that address and a default
// route.
func container(t *testing.T, bridge, prefix, gateway string) ask {
	t.Helper()
	name := "c" + bridge
	veth := "ove" + bridge[3:]
	ip(t, "netns add "+name)
	t.Cleanup(func() { ip(t, "netns del "+name) })
	ip(t, "link add "+veth+" master "+bridge+" type veth peer name eth0 netns "+name)
	t.Cleanup(func() { ip(t, "link del "+veth) }) // the namespace would take it along only some time later
	ip(t, "link set "+veth+" up")
	ip(t, "-n "+name+" link set eth0 up")
	nodad := ""
	if strings.Contains(prefix, ":") {
		nodad = " nodad"
	}
	ip(t, "-n "+name+" address add "+prefix+" dev eth0"+nodad)
	ip(t, "-n "+name+" route add default via "+gateway)
	return func(transport, server, about string) (m *dns.Msg, err error) {
		within(t, "/run/netns/"+name, func() {
			c := dns.Client{Net: transport}
			m, _, err = c.Exchange(query(about, dns.TypeA), netip.AddrPortFrom(netip.MustParseAddr(server), port).String())
		})
		return m, err
	}
}

// within runs f on a thread that is in the network namespace at path.
func within(t *testing.T, path string, f func()) {
	t.Helper()
	var wg sync.WaitGroup
	wg.Go(func() {
		runtime.LockOSThread() // and never unlocked: the thread ends with this
		fd, err := os.Open(path)
		if err == nil {
			err = errors.Join(unix.Setns(int(fd.Fd()), unix.CLONE_NEWNET), fd.Close())
		}
		if err != nil {
			t.Error(err)
			return
		}
		f()
	})
	wg.Wait()
}

func wantAnswer(t *testing.T, ask ask, server, name, want string) {
	t.Helper()
	for _, transport := range []string{"udp", "tcp"} {
		m, err := ask(transport, server, name)
		if err != nil || summary(m) != want {
			t.Errorf("%s: %s answers about %s: %s, %v, want %s", transport, server, name, summary(m), err, want)
		}
	}
}

// refused asks where nobody must answer.
func refused(t *testing.T, ask ask, server string) {
	t.Helper()
	for _, transport := range []string{"udp", "tcp"} {
		if m, err := ask(transport, server, "db."); !errors.Is(err, unix.ECONNREFUSED) {
			t.Errorf("%s: %s answers %s, %v; it must refuse", transport, server, summary(m), err)
		}
	}
}

// TestListensOnGateways: before the address is there, and only for its network.
func TestListensOnGateways(t *testing.T) {
	h := newHost(t)
	bridge(t, "ovb100")
	bridge(t, "ovb101")
	h.Sync() // no address yet
	if p := h.Problems(); len(p) != 0 {
		t.Fatalf("problems %v", p)
	}
	address(t, "ovb100", "10.64.1.1/24")
	address(t, "ovb100", "fd64:0:0:1::1/64")
	address(t, "ovb101", "10.65.1.1/24")
	ask := container(t, "ovb100", "10.64.1.2/24", "10.64.1.1")
	wantAnswer(t, ask, "10.64.1.1", "db.", "10.64.2.2")
	wantAnswer(t, ask, "10.64.1.1", "db.red.ovl.internal.", "NXDOMAIN")
	wantAnswer(t, ask, "10.64.1.1", "example.com.", "SERVFAIL")
	refused(t, ask, "10.65.1.1")

	inRed := container(t, "ovb101", "10.65.1.2/24", "10.65.1.1")
	wantAnswer(t, inRed, "10.65.1.1", "db.", "10.65.2.2")

	h.close()
	refused(t, ask, "10.64.1.1")
}

func TestListensOnIPv6(t *testing.T) {
	h := newHost(t)
	bridge(t, "ovb100")
	address(t, "ovb100", "fd64:0:0:1::1/64")
	h.Sync()
	ask := container(t, "ovb100", "fd64:0:0:1::2/64", "fd64:0:0:1::1")
	wantAnswer(t, ask, "fd64:0:0:1::1", "db.blue.", "10.64.2.2")
}

// TestFollowsABridgeThatIsMadeAnew: its index is another, and sockets bound to
// the old one hear nothing.
func TestFollowsABridgeThatIsMadeAnew(t *testing.T) {
	h := newHost(t)
	bridge(t, "ovb100")
	h.Sync()
	ip(t, "link del ovb100")
	h.Sync()
	var failing int
	for _, p := range h.Problems() {
		if p.Subject == "network blue" {
			failing++
		}
	}
	if failing != 2 {
		t.Errorf("without a bridge: problems %v", h.Problems())
	}
	bridge(t, "ovb100")
	address(t, "ovb100", "10.64.1.1/24")
	h.Sync()
	wantAnswer(t, container(t, "ovb100", "10.64.1.2/24", "10.64.1.1"), "10.64.1.1", "db.", "10.64.2.2")
}

// TestSomebodyElseHasThePort: that is a problem to be told of, and is over when
// the other leaves.
func TestSomebodyElseHasThePort(t *testing.T) {
	h := newHost(t)
	bridge(t, "ovb100")
	bridge(t, "ovb101")
	address(t, "ovb100", "10.64.1.1/24")
	other, err := new(net.ListenConfig).ListenPacket(t.Context(), "udp4", "10.64.1.1:53")
	must(t, err)
	h.Sync()
	if p := h.Problems(); len(p) != 1 || p[0].Subject != "network blue" {
		t.Errorf("problems %v, want one of blue", p)
	}
	must(t, other.Close())
	h.Sync()
	if p := h.Problems(); len(p) != 0 {
		t.Errorf("problems %v, want none", p)
	}
	wantAnswer(t, container(t, "ovb100", "10.64.1.2/24", "10.64.1.1"), "10.64.1.1", "db.", "10.64.2.2")
}

// TestSyncTakesUpFacts: what Sync has returned from is what is answered.
func TestSyncTakesUpFacts(t *testing.T) {
	h := newHost(t)
	bridge(t, "ovb100")
	address(t, "ovb100", "10.64.1.1/24")
	h.Sync()
	ask := container(t, "ovb100", "10.64.1.2/24", "10.64.1.1")
	wantAnswer(t, ask, "10.64.1.1", "web.", "NXDOMAIN")
	set := func(change func(*Facts)) {
		h.mu.Lock()
		change(&h.facts)
		h.mu.Unlock()
		h.Sync()
	}
	set(func(f *Facts) { f.Attachments = []cluster.Attachment{attachment("web", on("blue", "10.64.1.9/24"))} })
	wantAnswer(t, ask, "10.64.1.1", "web.", "10.64.1.9")
	set(func(f *Facts) { f.Attachments = nil })
	wantAnswer(t, ask, "10.64.1.1", "web.", "NXDOMAIN")
	set(func(f *Facts) { f.Snapshot = f.Snapshot.WithEndpoints(nil) })
	wantAnswer(t, ask, "10.64.1.1", "db.", "NXDOMAIN")
	set(func(f *Facts) { f.Wanted = dataplane.State{} })
	refused(t, ask, "10.64.1.1")
}

func TestRunCloses(t *testing.T) {
	h := newHost(t)
	bridge(t, "ovb100")
	bridge(t, "ovb101")
	h.Sync()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	must(t, h.Run(ctx))
	h.Sync() // too late: it must not open anything again
	if len(h.listeners) != 0 {
		t.Errorf("%d listeners are left", len(h.listeners))
	}
}
