package bench

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/ovlnet/ovl/internal/cluster"
	"github.com/ovlnet/ovl/internal/dataplane"
	"github.com/ovlnet/ovl/internal/plan"
	"github.com/ovlnet/ovl/internal/store"
)

// peersNetwork has room for 65,536 hosts.
func peersNetwork() cluster.Network {
	return cluster.Network{
		Name: "blue", VNI: 100, Driver: cluster.DriverOverlay, Masquerade: true,
		Pools: []cluster.Pool{{Prefix: netip.MustParsePrefix("10.0.0.0/8"), HostPrefix: 24}},
	}
}

func peerHost(n int) cluster.Host {
	return cluster.Host{
		ID: cluster.HostID(fmt.Sprintf("%032x", n+1)), Name: fmt.Sprintf("peer-%d", n), VXLANPort: 4789, Version: "bench",
		Underlay: []netip.Addr{netip.AddrFrom4([4]byte{172, 20 + byte(n>>16), byte(n >> 8), byte(n)})},
	}
}

// writePeers puts n hosts, each with a subnet that is not taken, into the store,
// all under one lease, beginning with host number first.
func writePeers(tb testing.TB, kv store.KV, first, n int, taken []netip.Prefix) {
	tb.Helper()
	net := peersNetwork()
	var writes []store.Write
	flush := func() {
		if _, err := kv.Txn(tb.Context(), nil, writes); err != nil {
			tb.Fatal(err)
		}
		writes = writes[:0]
	}
	for i := first; n > 0; i++ {
		prefix := netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(i >> 8), byte(i), 0}), 24)
		if slices.Contains(taken, prefix) {
			continue
		}
		n--
		host := peerHost(i)
		hv, err := store.EncodeHost(host)
		if err != nil {
			tb.Fatal(err)
		}
		lv, err := store.EncodeLease(cluster.Lease{Network: net.Name, Host: host.ID, Prefix: prefix})
		if err != nil {
			tb.Fatal(err)
		}
		writes = append(writes, store.Put(store.HostKey(host.ID), hv, 0), store.Put(store.SubnetKey(net.Name, prefix), lv, 0))
		if len(writes) >= 100 {
			flush()
		}
	}
	if len(writes) > 0 {
		flush()
	}
}

func writeNetwork(tb testing.TB, kv store.KV) {
	tb.Helper()
	putNetwork(tb, kv, peersNetwork())
}

func putNetwork(tb testing.TB, kv store.KV, net cluster.Network) {
	tb.Helper()
	nv, err := store.EncodeNetwork(net)
	if err != nil {
		tb.Fatal(err)
	}
	vv, err := store.EncodeVNI(net.Name)
	if err != nil {
		tb.Fatal(err)
	}
	if _, err := kv.Txn(tb.Context(), nil, []store.Write{store.Put(store.NetworkKey(net.Name), nv, 0), store.Put(store.VNIKey(net.VNI), vv, 0)}); err != nil {
		tb.Fatal(err)
	}
}

// routeWatch counts the peer routes that appear, by the kernel's own
// announcements, and notes when.
type routeWatch struct {
	updates chan netlink.RouteUpdate
	done    chan struct{}
}

func watchRoutes(tb testing.TB) *routeWatch {
	tb.Helper()
	w := &routeWatch{updates: make(chan netlink.RouteUpdate, 1<<15), done: make(chan struct{})}
	if err := netlink.RouteSubscribeWithOptions(w.updates, w.done, netlink.RouteSubscribeOptions{ReceiveBufferSize: 64 << 20, ReceiveBufferForceSize: true}); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { close(w.done) })
	return w
}

// wait returns when n routes through the VXLAN device have been made.
func (w *routeWatch) wait(tb testing.TB, n int) time.Time {
	tb.Helper()
	limit := time.After(2 * time.Minute)
	for n > 0 {
		select {
		case u := <-w.updates:
			if u.Type == unix.RTM_NEWROUTE && u.Protocol == dataplane.RouteProtocol && u.Gw != nil {
				n--
			}
		case <-limit:
			tb.Fatalf("%d peer routes never came", n)
		}
	}
	return time.Now()
}

// BenchmarkPeersAtStart: that many peers in etcd; an agent that holds a subnet
// starts on a kernel that holds none of its rows. Reported: from the start of
// the process until the last of its routes is in the kernel, the part of it
// that the agent itself measures as its pass, its memory then, and beside it
// plain netlink calls that write the same rows.
func BenchmarkPeersAtStart(b *testing.B) {
	for _, n := range []int{1000, 5000} {
		b.Run(strconv.Itoa(n), func(b *testing.B) {
			var start, bare, rss []float64
			for b.Loop() {
				w := newWorld(b)
				writeNetwork(b, w.kv)
				a := w.startAgent(b)
				own := a.attach(b, "c0")
				a.stop(b)
				a.cleanup(b)
				writePeers(b, w.kv, 0, n, own)

				routes := watchRoutes(b)
				began := time.Now()
				a = w.startAgent(b)
				end := routes.wait(b, n)
				start = append(start, end.Sub(began).Seconds())
				rss = append(rss, a.rss(b))
				countRows(b, 3*n)
				a.stop(b)
				a.cleanup(b)
				bare = append(bare, barePeers(b, n).Seconds())
				w.close(b)
			}
			b.ReportMetric(median(start)*1e3, "start-ms")
			b.ReportMetric(median(bare)*1e3, "bare-ms")
			b.ReportMetric(median(start)/median(bare), "start/bare")
			b.ReportMetric(median(rss), "RSS-MiB")
			b.ReportMetric(0, "ns/op")
		})
	}
}

// BenchmarkOneMorePeer: among 5,000 peers one more is committed to etcd.
// Reported: from just before the commit until its route is in the kernel.
func BenchmarkOneMorePeer(b *testing.B) {
	for _, n := range []int{0, 5000} {
		b.Run(strconv.Itoa(n), func(b *testing.B) {
			w := newWorld(b)
			writeNetwork(b, w.kv)
			a := w.startAgent(b)
			own := a.attach(b, "c0")
			routes := watchRoutes(b)
			writePeers(b, w.kv, 0, n, own)
			routes.wait(b, n)
			var took, commit []float64
			next := n + 1000
			before := a.passes(b)
			for b.Loop() {
				began := time.Now()
				writePeers(b, w.kv, next, 1, own)
				commit = append(commit, time.Since(began).Seconds())
				took = append(took, routes.wait(b, 1).Sub(began).Seconds())
				next++
			}
			b.ReportMetric(float64(a.passes(b)-before)/float64(len(took)), "passes/peer")
			slices.Sort(took)
			b.ReportMetric(median(took)*1e3, "p50-ms")
			b.ReportMetric(took[len(took)*99/100]*1e3, "p99-ms")
			b.ReportMetric(median(commit)*1e3, "commit-ms")
			b.ReportMetric(a.rss(b), "RSS-MiB")
			b.ReportMetric(0, "ns/op")
			a.stop(b)
			a.cleanup(b)
			w.close(b)
		})
	}
}

// barePeers writes the rows of n peers with plain netlink calls, one by one,
// and returns how long that took.
func barePeers(tb testing.TB, n int) time.Duration {
	tb.Helper()
	h, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		tb.Fatal(err)
	}
	defer h.Close()
	attrs := netlink.NewLinkAttrs()
	attrs.Name = "bare0"
	dev := &netlink.Vxlan{LinkAttrs: attrs, VxlanId: 9999, Port: 4790, SrcAddr: net.IPv4(172, 31, 0, 1)}
	if err := h.LinkAdd(dev); err != nil {
		tb.Fatal(err)
	}
	defer func() { _ = h.LinkDel(dev) }()
	link, err := h.LinkByName("bare0")
	if err != nil {
		tb.Fatal(err)
	}
	if err := h.LinkSetUp(link); err != nil {
		tb.Fatal(err)
	}
	idx := link.Attrs().Index
	began := time.Now()
	for i := range n {
		via := net.IPv4(11, byte(i>>8), byte(i), 0)
		m := cluster.VTEPMAC(peerHost(i).ID, 9999)
		mac := net.HardwareAddr(m[:])
		must(tb, h.NeighSet(&netlink.Neigh{LinkIndex: idx, State: netlink.NUD_PERMANENT, IP: via, HardwareAddr: mac}))
		must(tb, h.NeighSet(&netlink.Neigh{
			LinkIndex: idx, Family: unix.AF_BRIDGE, State: netlink.NUD_PERMANENT, Flags: netlink.NTF_SELF,
			IP: peerHost(i).Underlay[0].AsSlice(), HardwareAddr: mac,
		}))
		must(tb, h.RouteReplace(&netlink.Route{
			LinkIndex: idx, Dst: &net.IPNet{IP: via, Mask: net.CIDRMask(24, 32)}, Gw: via, Flags: int(netlink.FLAG_ONLINK),
			Protocol: dataplane.RouteProtocol + 1,
		}))
	}
	return time.Since(began)
}

// countRows checks that the kernel really holds that many entries of peers.
func countRows(tb testing.TB, want int) {
	tb.Helper()
	link, err := netlink.LinkByName(plan.VXLANName(peersNetwork().VNI))
	must(tb, err)
	idx := link.Attrs().Index
	neighs, err := netlink.NeighList(idx, unix.AF_INET)
	must(tb, err)
	fdb, err := netlink.NeighList(idx, unix.AF_BRIDGE)
	must(tb, err)
	routes, err := netlink.RouteListFiltered(unix.AF_INET, &netlink.Route{LinkIndex: idx}, netlink.RT_FILTER_OIF)
	must(tb, err)
	if got := len(neighs) + len(fdb) + len(routes); got != want {
		tb.Fatalf("the kernel holds %d neighbours, %d FDB entries and %d routes; want %d in all", len(neighs), len(fdb), len(routes), want)
	}
}

func must(tb testing.TB, err error) {
	tb.Helper()
	if err != nil {
		tb.Fatal(err)
	}
}

func median(xs []float64) float64 {
	xs = slices.Sorted(slices.Values(xs))
	return xs[len(xs)/2]
}

// rssOf returns the resident memory of a process in MiB.
func rssOf(tb testing.TB, pid int) float64 {
	tb.Helper()
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	must(tb, err)
	for line := range strings.Lines(string(raw)) {
		if rest, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			kb, err := strconv.ParseFloat(strings.Fields(rest)[0], 64)
			must(tb, err)
			return kb / 1024
		}
	}
	tb.Fatal("no VmRSS")
	return 0
}
