package kernel_test

import (
	"context"
	"net/netip"
	"os"
	"strconv"
	"testing"

	"github.com/ovlnet/ovl/internal/cluster"
	"github.com/ovlnet/ovl/internal/dataplane"
	"github.com/ovlnet/ovl/internal/kernel"
)

// watch runs a monitor until the test ends.
func watch(t *testing.T, h *host, namespaces ...dataplane.NS) <-chan dataplane.Scope {
	t.Helper()
	m, err := kernel.NewMonitor(kernel.MonitorConfig{Kernel: h.linux})
	if err != nil {
		t.Fatalf("open monitor: %v", err)
	}
	m.Watch(namespaces)
	ctx, cancel := context.WithCancel(t.Context())
	scopes, done := make(chan dataplane.Scope, 1000), make(chan error, 1)
	go func() { done <- m.Run(ctx, func(s dataplane.Scope) { scopes <- s }) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("run monitor: %v", err)
		}
	})
	return scopes
}

// awaits gathers scopes until tables of ns have been named. A test that waits
// in vain ends by the time limit of go test.
func awaits(scopes <-chan dataplane.Scope, ns dataplane.NS, tables dataplane.Tables) {
	all := dataplane.Scope{}
	for all[ns]&tables != tables {
		all.Merge(<-scopes)
	}
}

func TestMonitorTellsWhatHandsDo(t *testing.T) {
	h := newHost(t)
	a := h.Namespace(t)
	bridge := dataplane.Link{LinkKey: dataplane.LinkKey{Name: "ovb5"}, Kind: dataplane.Bridge, MAC: cluster.MAC{2, 0, 0, 0, 0, 1}, MTU: 1450, Up: true, Alias: "ovl/1/blue/bridge"}
	end := dataplane.Link{LinkKey: dataplane.LinkKey{NS: a, Name: "eth0"}, Kind: dataplane.Veth, MAC: cluster.MAC{2, 0, 0, 0, 0, 2}, MTU: 1450, Up: true, Alias: "ovl/1/blue/c", Peer: "ove000000000001"}
	port := dataplane.Link{LinkKey: dataplane.LinkKey{Name: "ove000000000001"}, Kind: dataplane.Veth, MAC: cluster.MAC{2, 0, 0, 0, 0, 3}, MTU: 1450, Up: true, Alias: end.Alias, Master: bridge.Name}
	h.apply(t, dataplane.Create, bridge, end, port, dataplane.FDB{FDBKey: dataplane.FDBKey{Link: port.Name, MAC: end.MAC}},
		dataplane.Neigh{NeighKey: dataplane.NeighKey{Link: bridge.Name, IP: netip.MustParseAddr("10.64.1.9")}, MAC: end.MAC})
	l := h.newVXLAN(t)
	if _, _, err := h.linux.Observe(t.Context(), dataplane.FullScope(a)); err != nil {
		t.Fatal(err)
	}
	scopes := watch(t, h, a)
	of := dataplane.Of
	for _, c := range []struct {
		command string
		ns      dataplane.NS
		tables  dataplane.Tables
	}{
		{"ip link set ovb5 mtu 1400", "", of(dataplane.TableLink)},
		{"ip addr add 10.64.1.1/24 dev ovb5", "", of(dataplane.TableAddr, dataplane.TableRoute)},
		{"ip route add 10.99.0.0/24 dev ovb5", "", of(dataplane.TableRoute)},
		{"ip -6 route add fd99::/64 dev ovb5", "", of(dataplane.TableRoute)},
		{"ip neigh add 10.64.2.0 lladdr 02:00:00:00:00:09 nud permanent dev " + l.Name, "", of(dataplane.TableNeigh)},
		{"ip neigh del 10.64.2.0 dev " + l.Name, "", of(dataplane.TableNeigh)},
		{"bridge fdb add 02:00:00:00:00:09 dst 192.0.2.9 self permanent dev " + l.Name, "", of(dataplane.TableFDB)},
		{"bridge fdb del 02:00:00:00:00:09 dev " + l.Name, "", of(dataplane.TableFDB)},
		{"ip neigh flush dev ovb5 nud permanent", "", of(dataplane.TableNeigh)},
		{"bridge fdb del 02:00:00:00:00:02 master dev ove000000000001", "", of(dataplane.TableFDB)},
		{"tc qdisc add dev ovb5 root tbf rate 1mbit burst 10k limit 10k", "", of(dataplane.TableQdisc)},
		{tc(a) + " qdisc add dev eth0 root tbf rate 1mbit burst 10k limit 10k", a, of(dataplane.TableQdisc)},
		{"iptables -N THEIRS", "", of(dataplane.TableChain, dataplane.TableJump)},
		{"nft add table inet ovl", "", dataplane.NFTables},
		{"nft delete table inet ovl", "", dataplane.NFTables},
		{"nft add table bridge ovl", "", dataplane.NFTables},
		{"nft flush ruleset", "", dataplane.WallTables},
		{"ip6tables -N THEIRS", "", of(dataplane.TableChain, dataplane.TableJump)},
		{ip(a) + "link set eth0 mtu 1400", a, dataplane.NSTables},
		{ip(a) + "addr add 10.64.1.2/24 dev eth0", a, of(dataplane.TableAddr, dataplane.TableRoute)},
	} {
		h.do(t, c.command)
		awaits(scopes, c.ns, c.tables)
	}
	if err := os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("1"), 0o644); err != nil {
		t.Fatal(err)
	}
	awaits(scopes, "", of(dataplane.TableSysctl))
}

// TestMonitorPassesOurOwnOver: neighbours that we make wake nobody. The device
// stays down, since the kernel itself tells of one that came up (linkwatch), some time
// later.
func TestMonitorPassesOurOwnOver(t *testing.T) {
	h := newHost(t)
	l := h.newVXLAN(t)
	l.Up = false
	h.apply(t, dataplane.Update, l)
	if _, _, err := h.linux.Observe(t.Context(), dataplane.FullScope()); err != nil {
		t.Fatal(err)
	}
	var rows []dataplane.Row
	for _, r := range peerRows(l.Name)[:900] {
		if r.Key().Table() == dataplane.TableNeigh {
			rows = append(rows, r)
		}
	}
	scopes := watch(t, h)
	h.apply(t, dataplane.Create, rows...)
	h.do(t, "ip addr add 203.0.113.1/24 dev uplink0")
	told := dataplane.Scope{}
	for !told[dataplane.Host].Has(dataplane.TableAddr) || told[dataplane.Host].Has(dataplane.TableLink) {
		s := <-scopes
		if s[dataplane.Host].Has(dataplane.TableNeigh) && !s[dataplane.Host].Has(dataplane.TableLink) {
			t.Fatalf("our own changes were told: %v", s)
		}
		told = s
	}
}

func TestMonitorTellsOfLostMessages(t *testing.T) {
	h := newHost(t)
	a := h.Namespace(t)
	m, err := kernel.NewMonitor(kernel.MonitorConfig{Kernel: h.linux})
	if err != nil {
		t.Fatal(err)
	}
	m.Watch([]dataplane.NS{a})
	m.Shrink(t) // the smallest buffer there is, and nobody reading yet
	for i := range 50 {
		h.do(t, "ip link add theirs"+strconv.Itoa(i)+" type bridge")
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	scopes, done := make(chan dataplane.Scope, 100), make(chan error, 1)
	go func() { done <- m.Run(ctx, func(s dataplane.Scope) { scopes <- s }) }()
	awaits(scopes, a, dataplane.NSTables)
	cancel()
	if err := <-done; err != nil {
		t.Errorf("run monitor: %v", err)
	}
}

func TestProbe(t *testing.T) {
	h := newHost(t)
	before := h.Foreign(t)
	if err := kernel.Probe(t.Context()); err != nil {
		t.Fatalf("probe: %v", err)
	}
	if after := h.Foreign(t); after != before {
		t.Errorf("probing changed the host:\nbefore\n%s\nafter\n%s", before, after)
	}
}

func TestProbeSaysWhatIsMissing(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	const want = "find iptables-save and iptables-restore: not in PATH: install the package iptables (Debian, Ubuntu: apt install iptables; Fedora: dnf install iptables-nft)"
	if err := kernel.Probe(t.Context()); err == nil || err.Error() != want {
		t.Errorf("probe without iptables: %v\nwant %s", err, want)
	}
}

// TestMonitorTellsOfParents: a link with nothing on it concerns nobody, unless
// somebody said that it does.
func TestMonitorTellsOfParents(t *testing.T) {
	h := newHost(t)
	m, err := kernel.NewMonitor(kernel.MonitorConfig{Kernel: h.linux})
	if err != nil {
		t.Fatal(err)
	}
	m.WatchLinks([]string{"seg0"})
	ctx, cancel := context.WithCancel(t.Context())
	scopes, done := make(chan dataplane.Scope, 100), make(chan error, 1)
	go func() { done <- m.Run(ctx, func(s dataplane.Scope) { scopes <- s }) }()
	h.do(t, "ip link add theirs0 type bridge")
	for _, command := range []string{"ip link add seg0 type bridge", "ip link set seg0 mtu 1400", "ip link del seg0"} {
		h.do(t, command)
		awaits(scopes, "", dataplane.NSTables)
	}
	cancel()
	if err := <-done; err != nil {
		t.Errorf("run monitor: %v", err)
	}
}
