package bench

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"
	"golang.org/x/sys/unix"

	"github.com/ovlnet/ovl/internal/cluster"
	"github.com/ovlnet/ovl/internal/ipam"
	"github.com/ovlnet/ovl/internal/store"
)

const (
	namesKnown   = 5000   // containers on the network
	questions    = 40_000 // in one turn
	askers       = 16     // that wait for an answer each
	lost         = 2 * time.Second
	benchEcho    = 5300 // port
	questionPort = 53
)

// BenchmarkNames: a container asks its gateway for the addresses of 5,000
// containers elsewhere, sixteen questions at a time, in turns with a plain
// miekg/dns server that answers all the same, at the same address. Both servers
// have one core. Reported: answers per second of each, and the ratio.
func BenchmarkNames(b *testing.B) {
	echoBin := filepath.Join(b.TempDir(), "dnsecho")
	out, err := exec.Command("go", "build", "-o", echoBin, "./dnsecho").CombinedOutput()
	if err != nil {
		b.Fatalf("build dnsecho: %v: %s", err, out)
	}
	b.Setenv("GOMAXPROCS", "1") // of the servers
	w := newWorld(b)
	defer w.close(b)
	writeNetwork(b, w.kv)
	a := w.startAgent(b)
	gateway := ipam.Gateway(a.attach(b, "c0")[0])
	echo := exec.Command(echoBin, netip.AddrPortFrom(gateway, benchEcho).String())
	echo.Stderr = os.Stderr
	must(b, echo.Start())
	defer func() { _ = echo.Process.Kill(); _ = echo.Wait() }()
	pin(b, a.cmd.Process.Pid)
	pin(b, echo.Process.Pid)
	writeEndpoints(b, w.kv, namesKnown)
	ask := newAsker(b, "/run/netns/c0")
	ask.until(b, netip.AddrPortFrom(gateway, questionPort), nameOf(namesKnown-1))
	ask.until(b, netip.AddrPortFrom(gateway, benchEcho), nameOf(0))

	var own, plain, ratio []float64
	for b.Loop() {
		for range 3 {
			o := ask.rate(b, netip.AddrPortFrom(gateway, questionPort))
			p := ask.rate(b, netip.AddrPortFrom(gateway, benchEcho))
			own, plain, ratio = append(own, o), append(plain, p), append(ratio, o/p)
		}
	}
	b.ReportMetric(median(own), "answers/s")
	b.ReportMetric(median(plain), "plain-answers/s")
	b.ReportMetric(median(ratio), "ratio")
	b.ReportMetric(a.rss(b), "RSS-MiB")
	b.ReportMetric(0, "ns/op")
	a.stop(b)
	a.cleanup(b)
}

func nameOf(i int) string { return fmt.Sprintf("c-%d.%s.", i, peersNetwork().Domain()) }

// writeEndpoints puts n containers of another host into the store.
func writeEndpoints(tb testing.TB, kv store.KV, n int) {
	tb.Helper()
	var writes []store.Write
	for i := range n {
		e := cluster.Endpoint{
			Network: peersNetwork().Name, Host: peerHost(i / 250).ID, ID: fmt.Sprintf("c-%d", i), Name: fmt.Sprintf("c-%d", i),
			Addrs: []netip.Addr{netip.AddrFrom4([4]byte{10, 200, byte(i >> 8), byte(i)})},
		}
		v, err := store.EncodeEndpoint(e)
		must(tb, err)
		writes = append(writes, store.Put(store.EndpointKey(e.Network, e.Host, e.ID), v, 0))
		if len(writes) == 100 || i == n-1 {
			_, err := kv.Txn(tb.Context(), nil, writes)
			must(tb, err)
			writes = nil
		}
	}
}

// pin keeps all threads of a process on the first CPU.
func pin(tb testing.TB, pid int) {
	tb.Helper()
	tasks, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
	must(tb, err)
	var first unix.CPUSet
	first.Set(0)
	for _, t := range tasks {
		tid, err := strconv.Atoi(t.Name())
		must(tb, err)
		must(tb, unix.SchedSetaffinity(tid, &first)) // threads to come inherit it
	}
}

// asker asks from within a namespace.
type asker struct {
	conns []*net.UDPConn
	next  atomic.Int64
}

// newAsker opens its sockets on a thread in the namespace at path.
func newAsker(tb testing.TB, path string) *asker {
	tb.Helper()
	a := &asker{}
	errs := make(chan error)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends with this
		fd, err := os.Open(path)
		if err == nil {
			err = errors.Join(unix.Setns(int(fd.Fd()), unix.CLONE_NEWNET), fd.Close())
		}
		for range askers {
			if err == nil {
				var c *net.UDPConn
				if c, err = net.ListenUDP("udp4", nil); err == nil {
					a.conns = append(a.conns, c)
				}
			}
		}
		errs <- err
	}()
	must(tb, <-errs)
	tb.Cleanup(func() {
		for _, c := range a.conns {
			_ = c.Close()
		}
	})
	return a
}

// one asks once and returns the answer.
func (a *asker) one(c *net.UDPConn, to netip.AddrPort, packet, buf []byte) (int, error) {
	id := uint16(a.next.Add(1))
	binary.BigEndian.PutUint16(packet, id)
	if _, err := c.WriteToUDPAddrPort(packet, to); err != nil {
		return 0, err
	}
	if err := c.SetReadDeadline(time.Now().Add(lost)); err != nil {
		return 0, err
	}
	for {
		n, _, err := c.ReadFromUDPAddrPort(buf)
		if err != nil || n >= 12 && binary.BigEndian.Uint16(buf) == id {
			return n, err
		}
	}
}

func pack(tb testing.TB, name string) []byte {
	tb.Helper()
	b, err := new(dns.Msg).SetQuestion(name, dns.TypeA).Pack()
	must(tb, err)
	return b
}

// until waits for a server to know a name.
func (a *asker) until(tb testing.TB, to netip.AddrPort, name string) {
	tb.Helper()
	buf := make([]byte, 1500)
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for limit := time.Now().Add(time.Minute); ; <-tick.C {
		n, err := a.one(a.conns[0], to, pack(tb, name), buf)
		if m := new(dns.Msg); err == nil && m.Unpack(buf[:n]) == nil && len(m.Answer) == 1 {
			return
		}
		if time.Now().After(limit) {
			tb.Fatalf("%s does not know %s: %v", to, name, err)
		}
	}
}

// rate asks all the questions and returns how many were answered in a second.
// Each must be answered, with one record.
func (a *asker) rate(tb testing.TB, to netip.AddrPort) float64 {
	tb.Helper()
	var wg sync.WaitGroup
	failures := make([]error, askers)
	began := time.Now()
	for i, c := range a.conns {
		packets := make([][]byte, 0, 100)
		for j := range 100 {
			packets = append(packets, pack(tb, nameOf((i*311+j*47)%namesKnown)))
		}
		wg.Go(func() {
			buf := make([]byte, 1500)
			for j := range questions / askers {
				n, err := a.one(c, to, packets[j%len(packets)], buf)
				if err == nil && (n < 12 || buf[3]&0xf != 0 || binary.BigEndian.Uint16(buf[6:]) != 1) {
					err = fmt.Errorf("no answer: % x", buf[:n])
				}
				if err != nil {
					failures[i] = err
					return
				}
			}
		})
	}
	wg.Wait()
	took := time.Since(began)
	if err := errors.Join(failures...); err != nil {
		tb.Fatal(strings.SplitN(err.Error(), "\n", 2)[0])
	}
	return questions / took.Seconds()
}
