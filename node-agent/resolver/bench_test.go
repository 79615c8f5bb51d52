package resolver

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/miekg/dns"

	"github.com/ovlnet/ovl/internal/cluster"
)

// many returns a network with n containers, all with one alias in tens.
func many(n int) (cluster.Network, *cluster.Snapshot) {
	blue := network("blue", 100, "10.64.0.0/10")
	var endpoints []cluster.Endpoint
	for i := range n {
		endpoints = append(endpoints, cluster.Endpoint{
			Network: "blue", Host: there, ID: fmt.Sprintf("c%d", i), Name: fmt.Sprintf("c%d", i), Aliases: []string{fmt.Sprintf("a%d", i/10)},
			Addrs: []netip.Addr{netip.AddrFrom4([4]byte{10, 64 + byte(i>>16), byte(i >> 8), byte(i)})},
		})
	}
	return blue, cluster.NewSnapshot(1, []cluster.Network{blue}, nil, nil).WithEndpoints(endpoints)
}

// BenchmarkCompile is what one changed endpoint among so many costs.
func BenchmarkCompile(b *testing.B) {
	for _, n := range []int{100, 5000, 50000} {
		blue, s := many(n)
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				Compile(here, []cluster.Network{blue}, s, nil)
			}
		})
	}
}

// BenchmarkUnchanged is what any other change of the cluster costs.
func BenchmarkUnchanged(b *testing.B) {
	blue, s := many(5000)
	names := Compile(here, []cluster.Network{blue}, s, nil)
	for b.Loop() {
		names = names.next(here, []cluster.Network{blue}, s, nil)
	}
}

func BenchmarkAnswer(b *testing.B) {
	blue, s := many(5000)
	view := Compile(here, []cluster.Network{blue}, s, nil).View("blue", netip.MustParseAddr("10.64.0.1"))
	for _, name := range []string{"c1234.blue.ovl.internal.", "a12.blue.ovl.internal.", "nope."} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			req := query(name, dns.TypeA)
			for b.Loop() {
				view.Answer(req, 0)
			}
		})
	}
}
