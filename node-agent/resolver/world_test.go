package resolver

import (
	"fmt"
	"net/netip"
	"strings"

	"github.com/miekg/dns"

	"github.com/ovlnet/ovl/internal/cluster"
)

const (
	here  = cluster.HostID("00000000000000000000000000000001")
	there = cluster.HostID("00000000000000000000000000000002")
)

func addrs(texts ...string) []netip.Addr {
	var out []netip.Addr
	for _, t := range texts {
		out = append(out, netip.MustParseAddr(t))
	}
	return out
}

func network(name string, vni cluster.VNI, pools ...string) cluster.Network {
	n := cluster.Network{Name: name, VNI: vni, Driver: cluster.DriverOverlay, Masquerade: true}
	for _, p := range pools {
		prefix := netip.MustParsePrefix(p)
		n.Pools = append(n.Pools, cluster.Pool{Prefix: prefix, HostPrefix: prefix.Bits() + 8})
	}
	return n
}

func endpoint(network, name string, aliases []string, addresses ...string) cluster.Endpoint {
	return cluster.Endpoint{Network: network, Host: there, ID: network + name, Name: name, Aliases: aliases, Addrs: addrs(addresses...)}
}

func attachment(name string, interfaces ...cluster.Interface) cluster.Attachment {
	return cluster.Attachment{ID: name, Name: name, NetNS: "/run/netns/" + name, Interfaces: interfaces}
}

func on(network, addr string, aliases ...string) cluster.Interface {
	return cluster.Interface{Network: network, Addrs: []netip.Prefix{netip.MustParsePrefix(addr)}, Aliases: aliases}
}

// world is a host with four containers of its own on three networks, and some
// elsewhere.
func world() *Names {
	blue, red, dark := network("blue", 100, "10.64.0.0/16", "fd64::/48"), network("red", 101, "10.65.0.0/16"), network("dark", 102, "10.66.0.0/16")
	red.DNSDomain, dark.Internal = "lab.example", true
	networks := []cluster.Network{blue, red, dark}
	s := cluster.NewSnapshot(1, networks, nil, nil).WithEndpoints([]cluster.Endpoint{
		endpoint("blue", "db", []string{"data", "store"}, "10.64.2.2", "fd64:0:0:2::2"),
		endpoint("blue", "db2", []string{"data"}, "10.64.2.3", "fd64:0:0:2::3"),
		endpoint("blue", "old", nil, "10.64.2.9"),
		endpoint("blue", "liar", nil, "192.0.2.1"), // not of the network
		endpoint("red", "db", nil, "10.65.2.2"),
		endpoint("dark", "db", nil, "10.66.2.2"),
		// What the store says of this host's own containers is old.
		{Network: "blue", Host: here, ID: "web", Name: "web", Addrs: addrs("10.64.1.99")},
	})
	return Compile(here, networks, s, []cluster.Attachment{
		attachment("web", on("blue", "10.64.1.2/24", "www")),
		attachment("both", on("blue", "10.64.1.3/24"), on("red", "10.65.1.3/24")),
		attachment("half", on("dark", "10.66.1.4/24"), on("red", "10.65.1.4/24")),
		attachment("inner", on("dark", "10.66.1.5/24")),
	})
}

func query(name string, t uint16) *dns.Msg { return new(dns.Msg).SetQuestion(name, t) }

// summary is an answer in a word or two: its records' data, NODATA, or the code.
func summary(m *dns.Msg) string {
	if m == nil {
		return "forward"
	}
	var out []string
	for _, rr := range m.Answer {
		out = append(out, strings.TrimPrefix(rr.String(), rr.Header().String()))
	}
	switch {
	case m.Rcode != dns.RcodeSuccess:
		return dns.RcodeToString[m.Rcode]
	case len(out) == 0:
		return "NODATA"
	}
	return fmt.Sprint(strings.Join(out, " "))
}
