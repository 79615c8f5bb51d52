package bench

import (
	"net"
	"net/netip"
	"strconv"
	"testing"
	"time"

	ovlv1 "github.com/ovlnet/ovl/proto/ovl/v1"
)

// portsEach is how many ports each of the containers publishes that are there
// already.
const portsEach = 1000

// BenchmarkAttachWithPort attaches a container that publishes a port while that
// many are published already, by containers with a thousand each. Reported, in
// milliseconds: the median and the 99th of a hundred of attaching and the median of
// detaching, and beside them those of a container without a port on the same host.
// And, in microseconds, what the first packet of a connection of the host's own to
// a published port takes to be sent, as a median: it is then that the rules are
// passed.
func BenchmarkAttachWithPort(b *testing.B) {
	for _, published := range []int{0, 1000, 5000} {
		b.Run(strconv.Itoa(published)+"published", func(b *testing.B) {
			c := newCrowd(b, 0)
			defer c.close(b)
			for i := range published / portsEach {
				name := "many" + strconv.Itoa(i)
				makeNamespace(b, name)
				must(b, c.attach(b.Context(), name, peersNetwork().Name, hostPorts(10000+i*portsEach, portsEach)))
			}
			var with, withDetach, without, first []float64
			for b.Loop() {
				for i := range 20 {
					c.ports = nil
					without = append(without, c.attachAll(b, i, i+1))
					c.detachAll(b, i, i+1)
					c.ports = func(i int) []*ovlv1.Port { return hostPorts(20000+i, 1) }
					with = append(with, c.attachAll(b, i, i+1))
					first = append(first, firstPacket(b, 20000+i))
					withDetach = append(withDetach, c.detachAll(b, i, i+1))
				}
			}
			b.ReportMetric(median(with)*1e3, "p50-ms")
			b.ReportMetric(percentile(with, 99)*1e3, "p99-ms")
			b.ReportMetric(median(withDetach)*1e3, "detach-p50-ms")
			b.ReportMetric(median(without)*1e3, "without-port-p50-ms")
			b.ReportMetric(median(first)*1e6, "first-packet-us")
			b.ReportMetric(0, "ns/op")
		})
	}
}

// hostPorts are n ports of the host over UDP, beginning with first.
func hostPorts(first, n int) []*ovlv1.Port {
	ports := make([]*ovlv1.Port, n)
	for i := range ports {
		ports[i] = &ovlv1.Port{Protocol: "udp", HostPort: uint32(first + i), ContainerPort: 80}
	}
	return ports
}

// firstPacket returns the seconds that it takes to send a datagram from a port that
// sent none before.
func firstPacket(b *testing.B, port int) float64 {
	b.Helper()
	var took []float64
	for range 20 {
		s, err := net.DialUDP("udp4", nil, net.UDPAddrFromAddrPort(netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, 168, 77, 1}), uint16(port))))
		must(b, err)
		began := time.Now()
		_, err = s.Write([]byte("x"))
		took = append(took, time.Since(began).Seconds())
		must(b, err)
		must(b, s.Close())
	}
	return median(took)
}
