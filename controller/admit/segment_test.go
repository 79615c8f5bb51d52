package admit_test

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/ovlnet/ovl/controller/admit"
	"github.com/ovlnet/ovl/internal/cluster"
	"github.com/ovlnet/ovl/internal/store"
	ovlv1 "github.com/ovlnet/ovl/proto/ovl/v1"
)

// lan is a request for a macvlan network.
func lan(change func(*ovlv1.CreateNetworkRequest)) *ovlv1.CreateNetworkRequest {
	req := &ovlv1.CreateNetworkRequest{Name: "lan", Driver: ovlv1.Driver_macvlan, Parent: "eth1", Subnets: []string{"192.168.1.0/24"}}
	change(req)
	return req
}

func TestMacvlanRefuses(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(*ovlv1.CreateNetworkRequest)
		field  string
		words  []string
	}{
		{"no parent", func(r *ovlv1.CreateNetworkRequest) { r.Parent = "" }, "parent", []string{"missing", "eth1.100"}},
		{"long parent", func(r *ovlv1.CreateNetworkRequest) { r.Parent = "enp0s31f6-and-so" }, "parent", []string{"1 to 15"}},
		{"odd parent", func(r *ovlv1.CreateNetworkRequest) { r.Parent = "eth0;\x1b" }, "parent", nil},
		{"loopback", func(r *ovlv1.CreateNetworkRequest) { r.Parent = "lo" }, "parent", nil},
		{"no subnet", func(r *ovlv1.CreateNetworkRequest) { r.Subnets = nil }, "subnets", []string{"segment that eth1 is on"}},
		{"bad subnet", func(r *ovlv1.CreateNetworkRequest) { r.Subnets = []string{"x"} }, "subnets[0]", nil},
		{"gateway elsewhere", func(r *ovlv1.CreateNetworkRequest) { r.Gateways = []string{"192.168.2.1"} }, "gateways[0]", []string{"not in 192.168.1.0/24"}},
		{"gateway of all", func(r *ovlv1.CreateNetworkRequest) { r.Gateways = []string{"192.168.1.0"} }, "gateways[0]", []string{"network address"}},
		{"gateway to all", func(r *ovlv1.CreateNetworkRequest) { r.Gateways = []string{"192.168.1.255"} }, "gateways[0]", []string{"broadcast"}},
		{"no gateway", func(r *ovlv1.CreateNetworkRequest) { r.Gateways = []string{"router"} }, "gateways[0]", []string{`"router"`}},
		{"gateway with zone", func(r *ovlv1.CreateNetworkRequest) { r.Gateways = []string{"fe80::1%eth0"} }, "gateways[0]", nil},
		{"gateway twice", func(r *ovlv1.CreateNetworkRequest) { r.Gateways = []string{"192.168.1.1", "192.168.1.2"} }, "gateways[1]", []string{"second"}},
		{"gateways", func(r *ovlv1.CreateNetworkRequest) { r.Gateways = make([]string, 3) }, "gateways", []string{"too many"}},
		{"gateway of an internal network", func(r *ovlv1.CreateNetworkRequest) { r.Internal, r.Gateways = true, []string{"192.168.1.1"} }, "gateways", []string{"internal"}},
		{"range elsewhere", func(r *ovlv1.CreateNetworkRequest) { r.IpRanges = []string{"192.168.2.0/25"} }, "ip_ranges[0]", []string{"not within 192.168.1.0/24"}},
		{"range too wide", func(r *ovlv1.CreateNetworkRequest) { r.IpRanges = []string{"192.168.0.0/16"} }, "ip_ranges[0]", []string{"not within"}},
		{"range twice", func(r *ovlv1.CreateNetworkRequest) { r.IpRanges = []string{"192.168.1.0/25", "192.168.1.128/25"} }, "ip_ranges[1]", []string{"second"}},
		{"range with host bits", func(r *ovlv1.CreateNetworkRequest) { r.IpRanges = []string{"192.168.1.1/25"} }, "ip_ranges[0]", []string{"write 192.168.1.0/25"}},
		{"range without room", func(r *ovlv1.CreateNetworkRequest) { r.IpRanges = []string{"192.168.1.128/30"} }, "ip_ranges[0]", []string{"no room"}},
		{"short pieces", func(r *ovlv1.CreateNetworkRequest) { r.HostPrefixes = []uint32{23} }, "host_prefixes[0]", []string{"24 to 29"}},
		{"long pieces", func(r *ovlv1.CreateNetworkRequest) { r.HostPrefixes = []uint32{30} }, "host_prefixes[0]", []string{"24 to 29"}},
		{"huge pieces", func(r *ovlv1.CreateNetworkRequest) { r.HostPrefixes = []uint32{1 << 31} }, "host_prefixes[0]", nil},
		{"one piece with the gateway", func(r *ovlv1.CreateNetworkRequest) { r.HostPrefixes = []uint32{24} }, "host_prefixes[0]", []string{"gateway 192.168.1.1"}},
		{"services", func(r *ovlv1.CreateNetworkRequest) { r.Services = true }, "services", []string{"segment"}},
		{"NAT66", func(r *ovlv1.CreateNetworkRequest) { r.Nat66 = true }, "nat66", []string{"segment"}},
		{"static range", func(r *ovlv1.CreateNetworkRequest) { r.StaticRanges = []string{"192.168.1.128/25"} }, "static_ranges", []string{"macvlan"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, vs := admit.Create(lan(c.change))
			expect(t, vs, c.field, c.words...)
		})
	}
}

// What belongs to macvlan is refused elsewhere, not ignored.
func TestOnlyMacvlanHasASegment(t *testing.T) {
	for _, d := range []ovlv1.Driver{ovlv1.Driver_overlay, ovlv1.Driver_bridge} {
		_, vs := admit.Create(request(func(r *ovlv1.CreateNetworkRequest) {
			r.Driver, r.Parent, r.Gateways, r.IpRanges = d, "eth1", []string{"10.64.0.1"}, []string{"10.64.1.0/24"}
		}))
		var fields []string
		for _, v := range vs {
			fields = append(fields, v.Field)
			if !strings.Contains(v.Description, "macvlan") || !strings.Contains(v.Description, d.String()) {
				t.Errorf("%q does not name both drivers", v)
			}
		}
		if want := []string{"parent", "gateways", "ip_ranges"}; !slices.Equal(fields, want) {
			t.Errorf("%s: violations of %v, want %v", d, fields, want)
		}
	}
}

func TestMacvlanAccepts(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(*ovlv1.CreateNetworkRequest)
		want   string
	}{
		{"no more than it needs", func(*ovlv1.CreateNetworkRequest) {}, "192.168.1.0/24/28 invalid Prefix 192.168.1.1"},
		{"range and gateway", func(r *ovlv1.CreateNetworkRequest) {
			r.IpRanges, r.Gateways = []string{"192.168.1.128/26"}, []string{"192.168.1.254"}
		}, "192.168.1.0/24/28 192.168.1.128/26 192.168.1.254"},
		{"a range that is one host's", func(r *ovlv1.CreateNetworkRequest) {
			r.IpRanges, r.HostPrefixes = []string{"192.168.1.128/25"}, []uint32{25}
		}, "192.168.1.0/24/25 192.168.1.128/25 192.168.1.1"},
		{"a range that is all", func(r *ovlv1.CreateNetworkRequest) { r.IpRanges = []string{"192.168.1.0/24"} }, "192.168.1.0/24/28 invalid Prefix 192.168.1.1"},
		{"both families, in any order", func(r *ovlv1.CreateNetworkRequest) {
			r.Subnets, r.Gateways, r.IpRanges = append(r.Subnets, "2001:db8:1::/64"), []string{"2001:db8:1::ff"}, []string{"2001:db8:1:0:1::/80", "192.168.1.64/26"}
		}, "192.168.1.0/24/28 192.168.1.64/26 192.168.1.1; 2001:db8:1::/64/96 2001:db8:1:0:1::/80 2001:db8:1::ff"},
		{"a large segment", func(r *ovlv1.CreateNetworkRequest) { r.Subnets = []string{"10.0.0.0/8"} }, "10.0.0.0/8/24 invalid Prefix 10.0.0.1"},
		{"a small segment", func(r *ovlv1.CreateNetworkRequest) { r.Subnets = []string{"10.0.0.0/28"} }, "10.0.0.0/28/29 invalid Prefix 10.0.0.1"},
		{"an internal one", func(r *ovlv1.CreateNetworkRequest) { r.Internal, r.Parent = true, "eth0.100" }, "192.168.1.0/24/28 invalid Prefix 192.168.1.1"},
	} {
		t.Run(c.name, func(t *testing.T) {
			n, vs := admit.Create(lan(c.change))
			if len(vs) > 0 {
				t.Fatal(vs)
			}
			var texts []string
			for _, p := range n.Pools {
				texts = append(texts, fmt.Sprintf("%s/%d %s %s", p.Prefix, p.HostPrefix, p.Range, p.Gateway))
			}
			if got := strings.Join(texts, "; "); got != c.want || n.Masquerade {
				t.Errorf("pools %s, masquerade %v; want %s and none", got, n.Masquerade, c.want)
			}
			n.VNI = 100
			if _, err := store.EncodeNetwork(n); err != nil {
				t.Errorf("it cannot be stored: %v", err)
			}
		})
	}
}

// TestMacvlanIsOnTheHostsSegment: that hosts have addresses and a route there is
// no collision, but all else is.
func TestMacvlanIsOnTheHostsSegment(t *testing.T) {
	n, _ := admit.Create(lan(func(*ovlv1.CreateNetworkRequest) {}))
	host := cluster.Host{Name: "h1", Underlay: []netip.Addr{netip.MustParseAddr("192.168.1.5")}, Routes: []netip.Prefix{
		netip.MustParsePrefix("192.168.1.0/24"), netip.MustParsePrefix("192.168.1.1/32"),
	}}
	if vs := admit.Collisions(n, admit.Facts{Hosts: []cluster.Host{host}}); len(vs) > 0 {
		t.Error(vs)
	}
	for _, r := range []string{"192.168.0.0/16", "192.168.1.0/25"} {
		other := host
		other.Routes = []netip.Prefix{netip.MustParsePrefix(r)}
		expect(t, admit.Collisions(n, admit.Facts{Hosts: []cluster.Host{other}}), "subnets[0]", r, "h1")
	}
	twin := n
	twin.Name, twin.Parent = "twin", "eth2"
	expect(t, admit.Collisions(n, admit.Facts{Networks: []cluster.Network{twin}}), "subnets[0]", "network twin")
	twin.Parent, twin.Pools = n.Parent, nil
	expect(t, admit.Collisions(n, admit.Facts{Networks: []cluster.Network{twin}}), "parent", "eth1", "network twin")
	overlay, _ := admit.Create(request(func(r *ovlv1.CreateNetworkRequest) { r.Subnets = []string{"192.168.0.0/16"} }))
	expect(t, admit.Collisions(overlay, admit.Facts{Networks: []cluster.Network{n}}), "subnets[0]", "network lan")
}

func TestMacvlanDiffers(t *testing.T) {
	have, _ := admit.Create(lan(func(*ovlv1.CreateNetworkRequest) {}))
	for word, change := range map[string]func(*ovlv1.CreateNetworkRequest){
		"parent":   func(r *ovlv1.CreateNetworkRequest) { r.Parent = "eth2" },
		"gateway":  func(r *ovlv1.CreateNetworkRequest) { r.Gateways = []string{"192.168.1.9"} },
		"IP range": func(r *ovlv1.CreateNetworkRequest) { r.IpRanges = []string{"192.168.1.128/25"} },
	} {
		want, vs := admit.Create(lan(change))
		if got := admit.Differences(have, want, nil); len(vs) > 0 || len(got) != 1 || !strings.Contains(got[0], word) {
			t.Errorf("%s: differences %q, %v", word, got, vs)
		}
	}
	on := true
	_, vs := admit.Update(have, &ovlv1.UpdateNetworkRequest{Name: "lan", Masquerade: &on})
	expect(t, vs, "masquerade", "segment")
}
