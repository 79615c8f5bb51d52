package kernel_test

import (
	"net/netip"
	"testing"

	"github.com/ovlnet/ovl/internal/cluster"
	"github.com/ovlnet/ovl/internal/dataplane"
)

// peers is how many peers a large network has: each is a neighbour, an FDB
// entry and a route.
const peers = 5000

func peerRows(link string) []dataplane.Row {
	rows := make([]dataplane.Row, 0, 3*peers)
	for i := range peers {
		hi, lo := byte(i>>8), byte(i)
		m := cluster.MAC{2, 0x4a, 0, 1, hi, lo}
		net := netip.AddrFrom4([4]byte{10, 64 + hi>>6, hi<<2 | lo>>6, lo << 2})
		rows = append(rows,
			dataplane.Neigh{NeighKey: dataplane.NeighKey{Link: link, IP: net}, MAC: m},
			dataplane.FDB{FDBKey: dataplane.FDBKey{Link: link, MAC: m}, Dst: netip.AddrFrom4([4]byte{192, 0, 2, 1 + lo%250})},
			dataplane.Route{RouteKey: dataplane.RouteKey{Dst: netip.PrefixFrom(net, 30)}, Link: link, Via: net, OnLink: true},
		)
	}
	return rows
}

// newTunnel returns a host with an empty VXLAN device.
func newTunnel(b *testing.B) (*host, dataplane.Link) {
	b.Helper()
	h := newHost(b)
	return h, h.newVXLAN(b)
}

// newVXLAN makes the VXLAN device ovx5.
func (h *host) newVXLAN(t testing.TB) dataplane.Link {
	t.Helper()
	l := dataplane.Link{
		LinkKey: dataplane.LinkKey{Name: "ovx5"}, Kind: dataplane.VXLAN, MAC: cluster.MAC{2, 0x4a, 0, 0, 0, 1}, MTU: 1450, Up: true, Alias: "ovl/1/blue/vxlan",
		VXLAN: dataplane.VXLANAttrs{VNI: 5, Port: 4789, Local: netip.MustParseAddr("192.0.2.1")},
	}
	h.apply(t, dataplane.Create, l)
	return l
}

func (h *host) apply(t testing.TB, verb dataplane.Verb, rows ...dataplane.Row) {
	t.Helper()
	for _, r := range rows {
		if err := h.linux.Apply(t.Context(), dataplane.Op{Verb: verb, Row: r}); err != nil {
			t.Fatal(err)
		}
	}
}

// BenchmarkApplyPeers programs 5,000 peers: 15,000 operations.
func BenchmarkApplyPeers(b *testing.B) {
	h, l := newTunnel(b)
	rows := peerRows(l.Name)
	for b.Loop() {
		b.StopTimer()
		h.apply(b, dataplane.Delete, l)
		h.apply(b, dataplane.Create, l)
		b.StartTimer()
		h.apply(b, dataplane.Create, rows...)
	}
	b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N*len(rows)), "µs/row")
}

// BenchmarkObservePeers reads 5,000 peers back.
func BenchmarkObservePeers(b *testing.B) {
	h, l := newTunnel(b)
	h.apply(b, dataplane.Create, peerRows(l.Name)...)
	for _, c := range []struct {
		name   string
		tables dataplane.Tables
	}{
		{"neigh", dataplane.Of(dataplane.TableNeigh)},
		{"fdb", dataplane.Of(dataplane.TableFDB)},
		{"route", dataplane.Of(dataplane.TableRoute)},
		{"all netlink", dataplane.NSTables | dataplane.Of(dataplane.TableNeigh, dataplane.TableFDB)},
	} {
		scope := dataplane.Scope{dataplane.Host: c.tables}
		b.Run(c.name, func(b *testing.B) {
			for b.Loop() {
				s, _, err := h.linux.Observe(b.Context(), scope)
				if err != nil {
					b.Fatal(err)
				}
				if s.Len() < peers {
					b.Fatalf("%d rows read; want at least %d", s.Len(), peers)
				}
			}
		})
	}
}

// BenchmarkObserveFirewall reads the chains of both families.
func BenchmarkObserveFirewall(b *testing.B) {
	h, _ := newTunnel(b)
	scope := dataplane.Scope{dataplane.Host: dataplane.Of(dataplane.TableChain, dataplane.TableJump)}
	for b.Loop() {
		if _, _, err := h.linux.Observe(b.Context(), scope); err != nil {
			b.Fatal(err)
		}
	}
}
