package admit_test

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/ovlnet/ovl/controller/admit"
	"github.com/ovlnet/ovl/internal/cluster"
	"github.com/ovlnet/ovl/internal/store"
	ovlv1 "github.com/ovlnet/ovl/proto/ovl/v1"
)

func request(change func(*ovlv1.CreateNetworkRequest)) *ovlv1.CreateNetworkRequest {
	req := &ovlv1.CreateNetworkRequest{Name: "blue", Subnets: []string{"10.64.0.0/16"}}
	change(req)
	return req
}

// expect fails unless there is exactly one violation, of that field, whose text
// holds all of words.
func expect(t *testing.T, vs []admit.Violation, field string, words ...string) {
	t.Helper()
	if len(vs) != 1 || vs[0].Field != field {
		t.Fatalf("got %v, want one violation of %s", vs, field)
	}
	for _, w := range words {
		if !strings.Contains(vs[0].Description, w) {
			t.Errorf("%q does not say %q", vs[0], w)
		}
	}
	if strings.ContainsAny(vs[0].Description, "\n\r\x1b") {
		t.Errorf("%q is not one clean line", vs[0])
	}
}

func TestCreateRefuses(t *testing.T) {
	many := map[string]string{}
	for i := range cluster.MaxLabels + 1 {
		many[fmt.Sprint("k", i)] = ""
	}
	heavy := map[string]string{}
	for i := range cluster.MaxLabels {
		heavy[fmt.Sprint("k", i)] = strings.Repeat("x", 200)
	}
	for _, c := range []struct {
		name   string
		change func(*ovlv1.CreateNetworkRequest)
		field  string
		words  []string
	}{
		{"no name", func(r *ovlv1.CreateNetworkRequest) { r.Name = "" }, "name", []string{"empty"}},
		{"upper case", func(r *ovlv1.CreateNetworkRequest) { r.Name = "Blue" }, "name", []string{`"Blue"`, "a-z"}},
		{"long name", func(r *ovlv1.CreateNetworkRequest) { r.Name = strings.Repeat("a", 64) }, "name", []string{"1 to 63"}},
		{"slash", func(r *ovlv1.CreateNetworkRequest) { r.Name = "a/b" }, "name", nil},
		{"escape", func(r *ovlv1.CreateNetworkRequest) { r.Name = "\x1b[31m\n" }, "name", nil},
		{"dash", func(r *ovlv1.CreateNetworkRequest) { r.Name = "-a" }, "name", nil},

		{"not a subnet", func(r *ovlv1.CreateNetworkRequest) { r.Subnets = []string{"ten"} }, "subnets[0]", []string{`"ten"`, "10.64.0.0/16"}},
		{"an address", func(r *ovlv1.CreateNetworkRequest) { r.Subnets = []string{"10.64.0.0"} }, "subnets[0]", []string{"no prefix length", "10.64.0.0/24"}},
		{"an IPv6 address", func(r *ovlv1.CreateNetworkRequest) { r.Subnets = []string{"fd64::"} }, "subnets[0]", []string{"fd64::/64"}},
		{"empty subnet", func(r *ovlv1.CreateNetworkRequest) { r.Subnets = []string{""} }, "subnets[0]", nil},
		{"too long", func(r *ovlv1.CreateNetworkRequest) { r.Subnets = []string{"10.0.0.0/33"} }, "subnets[0]", nil},
		{"leading zero", func(r *ovlv1.CreateNetworkRequest) { r.Subnets = []string{"10.064.0.0/16"} }, "subnets[0]", nil},
		{"zone", func(r *ovlv1.CreateNetworkRequest) { r.Subnets = []string{"fd64::%eth0/64"} }, "subnets[0]", nil},
		{"host bits", func(r *ovlv1.CreateNetworkRequest) { r.Subnets = []string{"10.64.1.0/16"} }, "subnets[0]", []string{"host bits", "write 10.64.0.0/16"}},
		{"IPv6 host bits", func(r *ovlv1.CreateNetworkRequest) { r.Subnets = []string{"fd64::1/48"} }, "subnets[0]", []string{"write fd64::/48"}},
		{"mapped", func(r *ovlv1.CreateNetworkRequest) { r.Subnets = []string{"::ffff:10.0.0.0/104"} }, "subnets[0]", []string{"IPv4 written as IPv6"}},
		{"too large", func(r *ovlv1.CreateNetworkRequest) { r.Subnets = []string{"16.0.0.0/7"} }, "subnets[0]", []string{"too large", "/8"}},
		{"too small", func(r *ovlv1.CreateNetworkRequest) { r.Subnets = []string{"10.64.0.0/29"} }, "subnets[0]", []string{"too small", "/28"}},
		{"one address", func(r *ovlv1.CreateNetworkRequest) { r.Subnets = []string{"10.64.0.1/32"} }, "subnets[0]", []string{"too small"}},
		{"IPv6 too large", func(r *ovlv1.CreateNetworkRequest) { r.Subnets = []string{"fd00::/9"} }, "subnets[0]", []string{"too large"}},
		{"IPv6 too small", func(r *ovlv1.CreateNetworkRequest) { r.Subnets = []string{"fd64::/125"} }, "subnets[0]", []string{"too small"}},
		{"one host", func(r *ovlv1.CreateNetworkRequest) { r.Subnets = []string{"10.64.0.0/24"} }, "subnets[0]", []string{"one host", "25 to 29"}},
		{"IPv6 one host", func(r *ovlv1.CreateNetworkRequest) { r.Subnets = []string{"fd64::/64"} }, "subnets[0]", []string{"65 to 125"}},
		{"loopback", func(r *ovlv1.CreateNetworkRequest) { r.Subnets = []string{"127.0.0.0/8"} }, "subnets[0]", []string{"loopback"}},
		{"link-local", func(r *ovlv1.CreateNetworkRequest) { r.Subnets = []string{"169.254.0.0/16"} }, "subnets[0]", []string{"link-local"}},
		{"multicast", func(r *ovlv1.CreateNetworkRequest) { r.Subnets = []string{"239.0.0.0/16"} }, "subnets[0]", []string{"multicast"}},
		{"class E", func(r *ovlv1.CreateNetworkRequest) { r.Subnets = []string{"240.0.0.0/16"} }, "subnets[0]", []string{"reserved"}},
		{"this network", func(r *ovlv1.CreateNetworkRequest) { r.Subnets = []string{"0.0.0.0/8"} }, "subnets[0]", []string{"this network"}},
		{"everything", func(r *ovlv1.CreateNetworkRequest) { r.Subnets = []string{"0.0.0.0/0"} }, "subnets[0]", []string{"overlaps"}},
		{"IPv6 everything", func(r *ovlv1.CreateNetworkRequest) { r.Subnets = []string{"::/0"} }, "subnets[0]", []string{"overlaps"}},
		{"IPv6 loopback", func(r *ovlv1.CreateNetworkRequest) { r.Subnets = []string{"::/64"} }, "subnets[0]", []string{"loopback"}},
		{"IPv6 link-local", func(r *ovlv1.CreateNetworkRequest) { r.Subnets = []string{"fe80::/64"} }, "subnets[0]", []string{"link-local"}},
		{"IPv6 multicast", func(r *ovlv1.CreateNetworkRequest) { r.Subnets = []string{"ff02::/48"} }, "subnets[0]", []string{"multicast"}},
		{"NAT64", func(r *ovlv1.CreateNetworkRequest) { r.Subnets = []string{"64:ff9b::/96"} }, "subnets[0]", []string{"NAT64"}},
		{"two of a family", func(r *ovlv1.CreateNetworkRequest) { r.Subnets = []string{"10.64.0.0/16", "10.65.0.0/16"} }, "subnets[1]", []string{"second IPv4"}},
		{"three", func(r *ovlv1.CreateNetworkRequest) { r.Subnets = []string{"10.64.0.0/16", "fd64::/48", "fd65::/48"} }, "subnets", []string{"at most one"}},

		{"host prefix short", func(r *ovlv1.CreateNetworkRequest) { r.HostPrefixes = []uint32{16} }, "host_prefixes[0]", []string{"17 to 29"}},
		{"host prefix long", func(r *ovlv1.CreateNetworkRequest) { r.HostPrefixes = []uint32{30} }, "host_prefixes[0]", []string{"no room for containers", "29"}},
		{"host prefix huge", func(r *ovlv1.CreateNetworkRequest) { r.HostPrefixes = []uint32{1<<32 - 1} }, "host_prefixes[0]", nil},
		{"host prefixes too many", func(r *ovlv1.CreateNetworkRequest) { r.HostPrefixes = []uint32{24, 64} }, "host_prefixes", []string{"2 lengths for 1"}},
		{"IPv6 host prefix long", func(r *ovlv1.CreateNetworkRequest) {
			r.Subnets, r.HostPrefixes = []string{"fd64::/48"}, []uint32{126}
		}, "host_prefixes[0]", []string{"125"}},

		{"VNI", func(r *ovlv1.CreateNetworkRequest) { r.Vni = 1 << 24 }, "vni", []string{"16777215"}},
		{"small MTU", func(r *ovlv1.CreateNetworkRequest) { r.Mtu = 575 }, "mtu", []string{"576"}},
		{"large MTU", func(r *ovlv1.CreateNetworkRequest) { r.Mtu = 65536 }, "mtu", []string{"65535"}},
		{"NAT66 without IPv6", func(r *ovlv1.CreateNetworkRequest) { r.Nat66 = true }, "nat66", []string{"no IPv6 subnet"}},
		{"NAT66 of an internal network", func(r *ovlv1.CreateNetworkRequest) {
			r.Subnets, r.Nat66, r.Internal = []string{"fd64::/48"}, true, true
		}, "nat66", []string{"no way out"}},
		{"services of an internal network", func(r *ovlv1.CreateNetworkRequest) { r.Services, r.Internal = true, true }, "services", []string{"no way in"}},
		{"services by direct routes", func(r *ovlv1.CreateNetworkRequest) { r.Services, r.DirectRouting = true, true }, "services", []string{"direct_routing"}},
		{"IPv6 MTU", func(r *ovlv1.CreateNetworkRequest) { r.Subnets, r.Mtu = []string{"fd64::/48"}, 1279 }, "mtu", []string{"1280"}},
		{"domain", func(r *ovlv1.CreateNetworkRequest) { r.DnsDomain = "lab..example" }, "dns_domain", nil},
		{"domain dot", func(r *ovlv1.CreateNetworkRequest) { r.DnsDomain = "lab." }, "dns_domain", nil},
		{"domain long", func(r *ovlv1.CreateNetworkRequest) { r.DnsDomain = strings.Repeat("a.", 62) + "aa" }, "dns_domain", []string{"too long"}},

		{"labels", func(r *ovlv1.CreateNetworkRequest) { r.Labels = many }, "labels", []string{"65", "64"}},
		{"labels heavy", func(r *ovlv1.CreateNetworkRequest) { r.Labels = heavy }, "labels", []string{"together"}},
		{"label key", func(r *ovlv1.CreateNetworkRequest) { r.Labels = map[string]string{"": "v"} }, "labels", []string{"no key"}},
		{"label long key", func(r *ovlv1.CreateNetworkRequest) { r.Labels = map[string]string{strings.Repeat("k", 257): ""} }, "labels", []string{"256"}},
		{"label long value", func(r *ovlv1.CreateNetworkRequest) { r.Labels = map[string]string{"k": strings.Repeat("v", 257)} }, "labels", []string{"256"}},
		{"label text", func(r *ovlv1.CreateNetworkRequest) { r.Labels = map[string]string{"k": "\x1b[31m"} }, "labels", []string{"printable"}},

		{"unknown driver", func(r *ovlv1.CreateNetworkRequest) { r.Driver = 99 }, "driver", []string{"99", "overlay, bridge or macvlan"}},
		{"unknown driver", func(r *ovlv1.CreateNetworkRequest) { r.Driver = 42 }, "driver", []string{"42"}},
		{"direct routing", func(r *ovlv1.CreateNetworkRequest) {
			r.Driver, r.DirectRouting = ovlv1.Driver_bridge, true
		}, "direct_routing", []string{"driver bridge"}},
		{"static range outside", static("10.65.0.0/24"), "static_ranges[0]", []string{"not within 10.64.0.0/16"}},
		{"static range of all", static("10.64.0.0/16"), "static_ranges[0]", []string{"leaves too little of 10.64.0.0/16", "at least 2", "smaller"}},
		{"static range wider", static("10.0.0.0/8"), "static_ranges[0]", []string{"not within"}},
		{"static range of another family", static("fd64::/64"), "static_ranges[0]", []string{"not within"}},
		{"static range twice", static("10.64.1.0/24", "10.64.3.0/24"), "static_ranges[1]", []string{"second", "one in each"}},
		{"static ranges", static("10.64.1.0/24", "10.64.3.0/24", "10.64.4.0/24"), "static_ranges", []string{"too many"}},
		{"static range host bits", static("10.64.255.1/24"), "static_ranges[0]", []string{"write 10.64.255.0/24"}},
		{"static address", static("10.64.255.1"), "static_ranges[0]", []string{"no prefix length"}},
		{"static range that leaves one piece", func(r *ovlv1.CreateNetworkRequest) {
			r.HostPrefixes, r.StaticRanges = []uint32{17}, []string{"10.64.9.0/24"}
		}, "static_ranges[0]", []string{"length /17"}},
		{"static range of no subnet", func(r *ovlv1.CreateNetworkRequest) {
			r.Subnets, r.StaticRanges = nil, []string{"10.64.255.0/24"}
		}, "static_ranges[0]", []string{"give the subnet"}},
		{"parent", func(r *ovlv1.CreateNetworkRequest) { r.Parent = "eth0" }, "parent", []string{"macvlan"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, vs := admit.Create(request(c.change))
			expect(t, vs, c.field, c.words...)
		})
	}
}

func static(ranges ...string) func(*ovlv1.CreateNetworkRequest) {
	return func(r *ovlv1.CreateNetworkRequest) { r.StaticRanges = ranges }
}

func TestCreateAccepts(t *testing.T) {
	no := false
	for name, change := range map[string]func(*ovlv1.CreateNetworkRequest){
		"plain":   func(*ovlv1.CreateNetworkRequest) {},
		"largest": func(r *ovlv1.CreateNetworkRequest) { r.Subnets = []string{"10.0.0.0/8"} },
		"smallest": func(r *ovlv1.CreateNetworkRequest) {
			r.Subnets, r.HostPrefixes = []string{"10.64.0.0/28"}, []uint32{29}
		},
		"IPv6":      func(r *ovlv1.CreateNetworkRequest) { r.Subnets, r.Mtu = []string{"fd64::/48"}, 1280 },
		"IPv6 tiny": func(r *ovlv1.CreateNetworkRequest) { r.Subnets, r.HostPrefixes = []string{"fd64::/124"}, []uint32{125} },
		"dual, length of the first": func(r *ovlv1.CreateNetworkRequest) {
			r.Subnets, r.HostPrefixes = []string{"10.64.0.0/16", "fd64::/48"}, []uint32{26}
		},
		"dual, length of the second": func(r *ovlv1.CreateNetworkRequest) {
			r.Subnets, r.HostPrefixes = []string{"fd64::/48", "10.64.0.0/16"}, []uint32{0, 26}
		},
		"VNI":          func(r *ovlv1.CreateNetworkRequest) { r.Vni = uint32(cluster.MaxVNI) },
		"MTU":          func(r *ovlv1.CreateNetworkRequest) { r.Mtu = 576 },
		"labels":       func(r *ovlv1.CreateNetworkRequest) { r.Labels = map[string]string{"equipe": "réseau"} },
		"domain":       func(r *ovlv1.CreateNetworkRequest) { r.DnsDomain = strings.Repeat("a.", 62) + "a" },
		"static":       static("10.64.255.0/24"),
		"static /32":   static("10.64.255.9/32"),
		"static large": static("10.64.128.0/17"),
		"static ranges, in any order": func(r *ovlv1.CreateNetworkRequest) {
			r.Subnets, r.StaticRanges = []string{"10.64.0.0/16", "fd64::/48"}, []string{"fd64::/64", "10.64.255.0/24"}
		},
		"inside": func(r *ovlv1.CreateNetworkRequest) { r.Internal, r.Masquerade = true, &no },
	} {
		t.Run(name, func(t *testing.T) {
			n, vs := admit.Create(request(change))
			if len(vs) > 0 {
				t.Fatalf("refused: %v", vs)
			}
			// What is admitted can be stored.
			if n.VNI == 0 {
				n.VNI = 100
			}
			if _, err := store.EncodeNetwork(n); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestCreateDefaults(t *testing.T) {
	n, vs := admit.Create(&ovlv1.CreateNetworkRequest{Name: "blue", Subnets: []string{"10.64.0.0/16", "fd64::/48"}})
	if len(vs) > 0 {
		t.Fatal(vs)
	}
	if !n.Masquerade || n.Driver != cluster.DriverOverlay || n.Pools[0].HostPrefix != 24 || n.Pools[1].HostPrefix != 64 {
		t.Errorf("defaults are not those of the .proto file: %+v", n)
	}
}

func TestCreateNamesEveryViolation(t *testing.T) {
	_, vs := admit.Create(&ovlv1.CreateNetworkRequest{
		Name: "B", Subnets: []string{"10.0.0.1/16", "x"}, Vni: 1 << 30, Mtu: 1, DnsDomain: "_", Driver: 99,
	})
	var fields []string
	for _, v := range vs {
		fields = append(fields, v.Field)
	}
	if got, want := strings.Join(fields, " "), "name driver subnets[0] subnets[1] vni mtu dns_domain"; got != want {
		t.Errorf("violations of %s, want %s", got, want)
	}
	if line := admit.Join(vs); strings.Count(line, "; ") < len(vs)-1 || strings.Contains(line, "\n") {
		t.Errorf("not one line of all: %q", line)
	}
}

func TestDefaults(t *testing.T) {
	good := admit.Defaults{FirstVNI: 100, Pool: netip.MustParsePrefix("10.64.0.0/10"), Length: 16}
	if vs := good.Check(); len(vs) > 0 {
		t.Errorf("refused: %v", vs)
	}
	for field, change := range map[string]func(*admit.Defaults){
		"first-vni":           func(d *admit.Defaults) { d.FirstVNI = 0 },
		"default-pool":        func(d *admit.Defaults) { d.Pool = netip.MustParsePrefix("10.64.0.1/10") },
		"default-pool-length": func(d *admit.Defaults) { d.Length = 24 },
	} {
		d := good
		change(&d)
		expect(t, d.Check(), field)
	}
	expect(t, admit.Defaults{FirstVNI: 1, Pool: netip.MustParsePrefix("224.0.0.0/8"), Length: 16}.Check(), "default-pool", "multicast")
	expect(t, admit.Defaults{FirstVNI: 1}.Check(), "default-pool")
}

func FuzzCreate(f *testing.F) {
	f.Add("blue", "10.64.0.0/16", "fd64::/48", uint32(24), uint32(64), "lab", "k", "v")
	f.Add("", "::ffff:10.0.0.0/104", "fe80::1%eth0", uint32(0), uint32(1<<31), "a..b", "", "\x00")
	f.Add("a", "10.0.0.0/28", "", uint32(29), uint32(0), "", "\xff", "")
	f.Fuzz(func(t *testing.T, name, a, b string, ha, hb uint32, domain, key, value string) {
		n, vs := admit.Create(&ovlv1.CreateNetworkRequest{
			Name: name, Subnets: []string{a, b}, HostPrefixes: []uint32{ha, hb},
			DnsDomain: domain, Labels: map[string]string{key: value}, Vni: 100,
		})
		for _, v := range vs {
			if strings.ContainsAny(v.String(), "\n\r\x1b\x00") || v.Field == "" || v.Description == "" {
				t.Errorf("violation %q is not one clean line", v)
			}
		}
		if len(vs) > 0 {
			return
		}
		if _, err := store.EncodeNetwork(n); err != nil {
			t.Errorf("admitted, but the store refuses it: %v", err)
		}
	})
}
