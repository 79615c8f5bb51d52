package bench

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/ovlnet/ovl/internal/cluster"
	ovlv1 "github.com/ovlnet/ovl/proto/ovl/v1"
)

// crowd is the most containers that a round attaches at once.
const crowd = 100

// BenchmarkAttach attaches containers to a network that this host holds a subnet
// of, while that many others are there already: one by one, ten at once and a
// hundred at once; and, in turns with it, makes the same with plain netlink
// calls. Reported, in milliseconds: of one by one the median and the 99th of a
// hundred, of several at once the median over the rounds of the time until the
// last one is done. The namespaces are there before the clock starts, on both
// sides.
func BenchmarkAttach(b *testing.B) {
	for _, present := range []int{0, 1000} {
		b.Run(strconv.Itoa(present)+"present", func(b *testing.B) {
			c := newCrowd(b, present)
			defer c.close(b)
			var f figures
			for b.Loop() {
				f.round(b, c)
			}
			f.report(b)
		})
	}
}

// figures are the timings of all rounds, in seconds.
type figures struct {
	one, oneBare, oneDetach             []float64
	ten, tenBare, ofTen                 []float64
	hundred, hundredBare, hundredDetach []float64
	ofHundred                           []float64
}

func (f *figures) round(b *testing.B, c *attachCrowd) {
	for i := range 20 {
		f.one = append(f.one, c.attachAll(b, i, i+1))
		f.oneDetach = append(f.oneDetach, c.detachAll(b, i, i+1))
		f.oneBare = append(f.oneBare, c.bareAll(b, i, i+1))
		c.clearBare(b, i, i+1)
	}
	ten := c.attachAll(b, 0, 10)
	c.detachAll(b, 0, 10)
	tenBare := c.bareAll(b, 0, 10)
	c.clearBare(b, 0, 10)
	f.ten, f.tenBare, f.ofTen = append(f.ten, ten), append(f.tenBare, tenBare), append(f.ofTen, ten/tenBare)

	hundred := c.attachAll(b, 0, crowd)
	f.hundredDetach = append(f.hundredDetach, c.detachAll(b, 0, crowd))
	hundredBare := c.bareAll(b, 0, crowd)
	c.clearBare(b, 0, crowd)
	f.hundred, f.hundredBare, f.ofHundred = append(f.hundred, hundred), append(f.hundredBare, hundredBare), append(f.ofHundred, hundred/hundredBare)
}

func (f *figures) report(b *testing.B) {
	b.ReportMetric(median(f.one)*1e3, "p50-ms")
	b.ReportMetric(percentile(f.one, 99)*1e3, "p99-ms")
	b.ReportMetric(median(f.oneBare)*1e3, "bare-p50-ms")
	b.ReportMetric(median(f.oneDetach)*1e3, "detach-p50-ms")
	b.ReportMetric(median(f.ten)*1e3, "last-of-10-ms")
	b.ReportMetric(median(f.tenBare)*1e3, "bare-10-ms")
	b.ReportMetric(median(f.ofTen), "10/bare")
	b.ReportMetric(median(f.hundred)*1e3, "last-of-100-ms")
	b.ReportMetric(median(f.hundredBare)*1e3, "bare-100-ms")
	b.ReportMetric(median(f.ofHundred), "100/bare")
	b.ReportMetric(median(f.hundredDetach)*1e3, "detach-100-ms")
	b.ReportMetric(0, "ns/op")
}

func percentile(xs []float64, p int) float64 {
	xs = slices.Sorted(slices.Values(xs))
	return xs[min(len(xs)*p/100, len(xs)-1)]
}

// attachCrowd is an agent, the containers that it has, and the namespaces of
// those to come.
type attachCrowd struct {
	world  *world
	agent  *agent
	conn   *grpc.ClientConn
	client ovlv1.AttachmentServiceClient
	bridge int // index of the bare calls' own
	ports  func(i int) []*ovlv1.Port
}

func newCrowd(b *testing.B, present int) *attachCrowd {
	b.Helper()
	c := &attachCrowd{world: newWorld(b)}
	for _, n := range []cluster.Network{peersNetwork(), crowdNetwork()} {
		putNetwork(b, c.world.kv, n)
	}
	c.agent = c.world.startAgent(b)
	c.agent.attach(b, "c0")
	conn, err := grpc.NewClient("unix://"+c.agent.socket, grpc.WithTransportCredentials(insecure.NewCredentials()))
	must(b, err)
	c.conn, c.client = conn, ovlv1.NewAttachmentServiceClient(conn)

	for i := range present {
		makeNamespace(b, "p"+strconv.Itoa(i))
	}
	for i := range crowd {
		makeNamespace(b, "a"+strconv.Itoa(i))
		makeNamespace(b, "b"+strconv.Itoa(i))
	}
	atOnce(b, 0, present, func(i int) error {
		network := peersNetwork().Name
		if i%2 == 1 {
			network = crowdNetwork().Name // a bridge has at most 1,023 ports
		}
		return c.attach(b.Context(), "p"+strconv.Itoa(i), network, nil)
	})
	c.bridge = bareBridge(b)
	return c
}

// crowdNetwork is a second network, for some of those who are there already.
func crowdNetwork() cluster.Network {
	n := peersNetwork()
	n.Name, n.VNI, n.Pools = "green", 101, []cluster.Pool{{Prefix: netip.MustParsePrefix("172.16.0.0/12"), HostPrefix: 20}}
	return n
}

func (c *attachCrowd) close(b *testing.B) {
	b.Helper()
	must(b, c.conn.Close())
	c.agent.stop(b)
	c.agent.cleanup(b)
	c.world.close(b)
	link, err := netlink.LinkByIndex(c.bridge)
	must(b, err)
	must(b, netlink.LinkDel(link))
	entries, err := os.ReadDir("/run/netns")
	must(b, err)
	for _, e := range entries {
		must(b, netns.DeleteNamed(e.Name()))
	}
}

func (c *attachCrowd) attach(ctx context.Context, name, network string, ports []*ovlv1.Port) error {
	_, err := c.client.Attach(ctx, &ovlv1.AttachRequest{
		Id: name, Name: name, Netns: "/run/netns/" + name, Ports: ports, Interfaces: []*ovlv1.InterfaceRequest{{Network: network}},
	})
	return err
}

// attachAll attaches the containers from, included, up to the last at once, and returns the
// seconds until the last one is.
func (c *attachCrowd) attachAll(b *testing.B, from, to int) float64 {
	b.Helper()
	return atOnce(b, from, to, func(i int) error {
		var ports []*ovlv1.Port
		if c.ports != nil {
			ports = c.ports(i)
		}
		return c.attach(b.Context(), "a"+strconv.Itoa(i), peersNetwork().Name, ports)
	})
}

func (c *attachCrowd) detachAll(b *testing.B, from, to int) float64 {
	b.Helper()
	return atOnce(b, from, to, func(i int) error {
		_, err := c.client.Detach(b.Context(), &ovlv1.DetachRequest{Id: "a" + strconv.Itoa(i)})
		return err
	})
}

// bareAll makes what an attachment makes, with plain netlink calls.
func (c *attachCrowd) bareAll(b *testing.B, from, to int) float64 {
	b.Helper()
	return atOnce(b, from, to, func(i int) error { return bareAttach(c.bridge, i) })
}

func (c *attachCrowd) clearBare(b *testing.B, from, to int) {
	b.Helper()
	for i := from; i < to; i++ {
		link, err := netlink.LinkByName("bare" + strconv.Itoa(i))
		must(b, err)
		must(b, netlink.LinkDel(link))
	}
}

// atOnce does f for each number, each in a goroutine, and returns the seconds
// until the last one was done.
func atOnce(b *testing.B, from, to int, f func(i int) error) float64 {
	b.Helper()
	errs := make([]error, to-from)
	var wg sync.WaitGroup
	began := time.Now()
	for i := from; i < to; i++ {
		wg.Go(func() { errs[i-from] = f(i) })
	}
	wg.Wait()
	took := time.Since(began).Seconds()
	for _, err := range errs {
		must(b, err)
	}
	return took
}

// makeNamespace makes a named network namespace.
func makeNamespace(tb testing.TB, name string) {
	tb.Helper()
	result := make(chan error)
	go func() {
		runtime.LockOSThread() // and the thread ends with the goroutine
		h, err := netns.NewNamed(name)
		if err == nil {
			err = h.Close()
		}
		result <- err
	}()
	must(tb, <-result)
}

func bareBridge(tb testing.TB) (index int) {
	tb.Helper()
	attrs := netlink.NewLinkAttrs()
	attrs.Name = "bareb"
	must(tb, netlink.LinkAdd(&netlink.Bridge{LinkAttrs: attrs}))
	link, err := netlink.LinkByName("bareb")
	must(tb, err)
	must(tb, netlink.LinkSetUp(link))
	return link.Attrs().Index
}

// bareAttach is the least that a container's interface takes: a pair of veths,
// one in the bridge and one with an address and a default route.
func bareAttach(bridge, i int) error {
	ns, err := netns.GetFromName("b" + strconv.Itoa(i))
	if err != nil {
		return err
	}
	defer ns.Close()
	inside, err := netlink.NewHandleAt(ns, unix.NETLINK_ROUTE)
	if err != nil {
		return err
	}
	defer inside.Close()
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.MasterIndex, attrs.MTU, attrs.Flags = "bare"+strconv.Itoa(i), bridge, 1450, net.FlagUp
	err = netlink.LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: "eth0", PeerNamespace: netlink.NsFd(ns), PeerMTU: 1450})
	if err != nil {
		return fmt.Errorf("make veth: %w", err)
	}
	link, err := inside.LinkByName("eth0")
	if err != nil {
		return err
	}
	addr := &netlink.Addr{IPNet: &net.IPNet{IP: net.IPv4(192, 0, 2, byte(2+i)), Mask: net.CIDRMask(24, 32)}}
	if err := inside.AddrAdd(link, addr); err != nil {
		return fmt.Errorf("add address: %w", err)
	}
	if err := inside.LinkSetUp(link); err != nil {
		return err
	}
	return inside.RouteAdd(&netlink.Route{LinkIndex: link.Attrs().Index, Gw: net.IPv4(192, 0, 2, 1)})
}
