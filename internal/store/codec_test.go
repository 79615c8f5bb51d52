package store_test

import (
	"errors"
	"fmt"
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/ovlnet/ovl/internal/cluster"
	"github.com/ovlnet/ovl/internal/store"
)

func blue() cluster.Network {
	return cluster.Network{
		Name: "blue", VNI: 4711, Driver: cluster.DriverOverlay,
		Pools: []cluster.Pool{
			{Prefix: netip.MustParsePrefix("10.64.0.0/16"), HostPrefix: 24},
			{Prefix: netip.MustParsePrefix("fd64::/48"), HostPrefix: 64},
		},
		Masquerade: true, NAT66: true, Services: true, MTU: 1400, StaticRanges: []netip.Prefix{netip.MustParsePrefix("10.64.255.0/24"), netip.MustParsePrefix("fd64:0:0:ff::/64")}, DNSDomain: "example.test",
		Labels: map[string]string{"team": "a<b>&c"}, Created: time.Date(2026, 11, 21, 0, 20, 0, 5, time.UTC),
	}
}

func host() cluster.Host {
	return cluster.Host{
		ID: hostA, Name: "h1", VXLANPort: 4789, Version: "v0.1.0",
		Underlay: []netip.Addr{netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8::1")},
		Routes:   []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0"), netip.MustParsePrefix("192.0.2.0/24")},
		OnLink:   []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24"), netip.MustParsePrefix("2001:db8::/64")},
	}
}

func lease() cluster.Lease {
	return cluster.Lease{Network: "blue", Prefix: netip.MustParsePrefix("10.64.1.0/24"), Host: hostA}
}

func endpoint() cluster.Endpoint {
	return cluster.Endpoint{
		Network: "blue", Host: hostA, ID: "web", Name: "web", Aliases: []string{"www"},
		Addrs: []netip.Addr{netip.MustParseAddr("10.64.1.2"), netip.MustParseAddr("fd64::2")},
		MAC:   cluster.MAC{2, 0, 0, 0, 0, 1}, Labels: map[string]string{"k": ""},
	}
}

func session() cluster.Session {
	return cluster.Session{
		Host: hostA, BootID: "b-1", Instance: "i-1", Started: time.Date(2026, 11, 21, 0, 20, 0, 0, time.UTC), AppliedRevision: 7,
		Problems: []cluster.Problem{{Severity: cluster.SeverityError, Subject: "host h1", What: "its clock is off", Hint: "set it"}},
	}
}

// checkCodec takes a fact to a record and back, then its broken variants, which
// neither direction may accept.
func checkCodec[T any](t *testing.T, key string, fact func() T, encode func(T) ([]byte, error), decode func(store.Record) (T, error), stamp func(*T), broken map[string]func(*T)) {
	t.Helper()
	value, err := encode(fact())
	if err != nil {
		t.Fatal(err)
	}
	got, err := decode(store.Record{Key: key, Value: value, CreateRev: 3, ModRev: 5})
	if err != nil {
		t.Fatal(err)
	}
	want := fact()
	stamp(&want)
	if !reflect.DeepEqual(got, want) {
		t.Errorf("decoded %+v, want %+v", got, want)
	}
	newer := strings.Replace(string(value), "{", `{"fieldOfTomorrow":{"x":[1]},`, 1)
	if got, err := decode(store.Record{Key: key, Value: []byte(newer), CreateRev: 3, ModRev: 5}); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("with a field of a newer version: %+v, %v", got, err)
	}
	for _, r := range []store.Record{
		{Key: key + "0", Value: value},
		{Key: "/ovl/v1/other", Value: value},
		{Key: key, Value: nil},
		{Key: key, Value: []byte("null")},
		{Key: key, Value: []byte("[]")},
		{Key: key, Value: append([]byte(strings.Repeat(" ", store.MaxValueLen)), value...)},
	} {
		if got, err := decode(r); err == nil {
			t.Errorf("decoded %.40q at %s: %+v", r.Value, r.Key, got)
		}
	}
	for name, breakIt := range broken {
		f := fact()
		breakIt(&f)
		if value, err := encode(f); err == nil {
			t.Errorf("%s: encoded as %s", name, value)
		} else if strings.ContainsAny(err.Error(), "\n\x1b") {
			t.Errorf("%s: error text %q", name, err)
		}
	}
}

func manyLabels(n int) map[string]string {
	m := map[string]string{}
	for i := range n {
		m[fmt.Sprint(i)] = ""
	}
	return m
}

func TestNetworkCodec(t *testing.T) {
	pool := func(prefix string, hostPrefix int) func(*cluster.Network) {
		return func(n *cluster.Network) {
			n.StaticRanges = nil
			n.Pools = []cluster.Pool{{Prefix: netip.MustParsePrefix(prefix), HostPrefix: hostPrefix}}
		}
	}
	static := func(ranges ...string) func(*cluster.Network) {
		return func(n *cluster.Network) {
			n.StaticRanges = nil
			for _, r := range ranges {
				n.StaticRanges = append(n.StaticRanges, netip.MustParsePrefix(r))
			}
		}
	}
	checkCodec(t, store.NetworkKey("blue"), blue, store.EncodeNetwork, store.DecodeNetwork,
		func(n *cluster.Network) { n.CreateRevision, n.Revision = 3, 5 },
		map[string]func(*cluster.Network){
			"name":             func(n *cluster.Network) { n.Name = "Blue\n" },
			"VNI 0":            func(n *cluster.Network) { n.VNI = 0 },
			"VNI 2^24":         func(n *cluster.Network) { n.VNI = 1 << 24 },
			"driver":           func(n *cluster.Network) { n.Driver = "x\x1b[31m" },
			"no pool":          func(n *cluster.Network) { n.Pools = nil },
			"two of a family":  func(n *cluster.Network) { n.Pools[1] = n.Pools[0] },
			"three pools":      func(n *cluster.Network) { n.Pools = append(n.Pools, n.Pools[0]) },
			"zero pool":        func(n *cluster.Network) { n.Pools[0] = cluster.Pool{} },
			"host bits":        pool("10.64.0.1/16", 24),
			"host prefix low":  pool("10.64.0.0/16", 15),
			"host prefix high": pool("10.64.0.0/16", 31),
			"host prefix -1":   pool("10.64.0.0/16", -1),
			"everything":       pool("0.0.0.0/0", 24),
			"loopback":         pool("127.0.0.0/16", 24),
			"multicast":        pool("224.0.0.0/16", 24),
			"link-local":       pool("fe80::/48", 64),
			"4in6":             pool("::ffff:10.0.0.0/112", 120),
			"MTU":              func(n *cluster.Network) { n.MTU = 575 },
			"MTU negative":     func(n *cluster.Network) { n.MTU = -1 },
			"MTU high":         func(n *cluster.Network) { n.MTU = 65536 },
			"static outside":   static("10.65.0.0/24"),
			"static unmasked":  static("10.64.0.1/24"),
			"static pool":      static("10.64.0.0/16"),
			"static wider":     static("10.0.0.0/8"),
			"static twice":     static("10.64.1.0/24", "10.64.3.0/24"),
			"static zero":      func(n *cluster.Network) { n.StaticRanges = []netip.Prefix{{}} },
			"domain":           func(n *cluster.Network) { n.DNSDomain = "a..b" },
			"domain long":      func(n *cluster.Network) { n.DNSDomain = strings.Repeat("a.", 127) + "a" },
			"parent":           func(n *cluster.Network) { n.Parent = "eth0;reboot x" },
			"parent of none":   func(n *cluster.Network) { n.Parent = "eth0" },
			"gateway of none":  func(n *cluster.Network) { n.Pools[0].Gateway = netip.MustParseAddr("10.64.0.1") },
			"range of none":    func(n *cluster.Network) { n.Pools[0].Range = netip.MustParsePrefix("10.64.1.0/24") },
			"no parent":        func(n *cluster.Network) { n.Driver, n.StaticRanges = cluster.DriverMacvlan, nil },
			"parent long":      func(n *cluster.Network) { n.Parent = strings.Repeat("e", 16) },
			"labels":           func(n *cluster.Network) { n.Labels = manyLabels(cluster.MaxLabels + 1) },
			"label key":        func(n *cluster.Network) { n.Labels = map[string]string{"": "x"} },
			"label value":      func(n *cluster.Network) { n.Labels["x"] = strings.Repeat("x", cluster.MaxLabelLen+1) },
			"label unprinted":  func(n *cluster.Network) { n.Labels["x"] = "\x1b[2J" },
			"label not UTF-8":  func(n *cluster.Network) { n.Labels["x"] = "\xff" },
			"year 10000":       func(n *cluster.Network) { n.Created = time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC) },
		})
}

func TestHostCodec(t *testing.T) {
	underlay := func(addrs ...string) func(*cluster.Host) {
		return func(h *cluster.Host) {
			h.Underlay = nil
			for _, a := range addrs {
				h.Underlay = append(h.Underlay, netip.MustParseAddr(a))
			}
		}
	}
	checkCodec(t, store.HostKey(hostA), host, store.EncodeHost, store.DecodeHost,
		func(h *cluster.Host) { h.Revision = 5 },
		map[string]func(*cluster.Host){
			"ID":              func(h *cluster.Host) { h.ID = "h1" },
			"name":            func(h *cluster.Host) { h.Name = "h_1" },
			"port":            func(h *cluster.Host) { h.VXLANPort = 0 },
			"version":         func(h *cluster.Host) { h.Version = strings.Repeat("v", 129) },
			"zero address":    func(h *cluster.Host) { h.Underlay[0] = netip.Addr{} },
			"two of a family": underlay("192.0.2.1", "192.0.2.2"),
			"three":           underlay("192.0.2.1", "2001:db8::1", "192.0.2.2"),
			"loopback":        underlay("127.0.0.1"),
			"loopback 6":      underlay("::1"),
			"unspecified":     underlay("0.0.0.0"),
			"multicast":       underlay("239.1.1.1"),
			"broadcast":       underlay("255.255.255.255"),
			"zone":            underlay("2001:db8::1%eth0"),
			"link-local 6":    underlay("fe80::1"),
			"4in6":            underlay("::ffff:192.0.2.1"),
			"routes":          func(h *cluster.Host) { h.Routes = make([]netip.Prefix, cluster.MaxHostRoutes+1) },
			"on link":         func(h *cluster.Host) { h.OnLink = make([]netip.Prefix, cluster.MaxHostRoutes+1) },
			"on link zero":    func(h *cluster.Host) { h.OnLink[0] = netip.Prefix{} },
			"route unmasked":  func(h *cluster.Host) { h.Routes[0] = netip.MustParsePrefix("10.0.0.1/8") },
			"route zero":      func(h *cluster.Host) { h.Routes[0] = netip.Prefix{} },
		})
}

func TestLeaseCodec(t *testing.T) {
	prefix := func(s string) func(*cluster.Lease) {
		return func(l *cluster.Lease) { l.Prefix = netip.MustParsePrefix(s) }
	}
	l := lease()
	checkCodec(t, store.SubnetKey(l.Network, l.Prefix), lease, store.EncodeLease, store.DecodeLease,
		func(l *cluster.Lease) { l.Revision = 5 },
		map[string]func(*cluster.Lease){
			"network":         func(l *cluster.Lease) { l.Network = "" },
			"host":            func(l *cluster.Lease) { l.Host = "" },
			"zero":            func(l *cluster.Lease) { l.Prefix = netip.Prefix{} },
			"unmasked":        prefix("10.64.1.1/24"),
			"no room":         prefix("10.64.1.0/31"),
			"no room, IPv6":   prefix("fd64::2/127"),
			"static loopback": prefix("127.0.0.1/32"),
			"loopback":        prefix("127.0.1.0/24"),
			"default":         prefix("::/0"),
		})
}

func TestEndpointCodec(t *testing.T) {
	checkCodec(t, store.EndpointKey("blue", hostA, "web"), endpoint, store.EncodeEndpoint, store.DecodeEndpoint,
		func(e *cluster.Endpoint) { e.Revision = 5 },
		map[string]func(*cluster.Endpoint){
			"network":   func(e *cluster.Endpoint) { e.Network = "a/b" },
			"host":      func(e *cluster.Endpoint) { e.Host = "x" },
			"ID":        func(e *cluster.Endpoint) { e.ID = "a/b" },
			"name":      func(e *cluster.Endpoint) { e.Name = "Web" },
			"alias":     func(e *cluster.Endpoint) { e.Aliases = []string{"a b"} },
			"aliases":   func(e *cluster.Endpoint) { e.Aliases = make([]string, cluster.MaxAliases+1) },
			"addresses": func(e *cluster.Endpoint) { e.Addrs[1] = e.Addrs[0] },
			"MAC":       func(e *cluster.Endpoint) { e.MAC = cluster.MAC{1} },
			"labels":    func(e *cluster.Endpoint) { e.Labels = manyLabels(cluster.MaxLabels + 1) },
		})
}

func TestSessionCodec(t *testing.T) {
	broken := map[string]func(*cluster.Session){
		"host":     func(s *cluster.Session) { s.Host = "" },
		"instance": func(s *cluster.Session) { s.Instance = "" },
		"boot ID":  func(s *cluster.Session) { s.BootID = "\n" },
		"revision": func(s *cluster.Session) { s.AppliedRevision = -1 },
		"started":  func(s *cluster.Session) { s.Started = time.Date(-1, 1, 1, 0, 0, 0, 0, time.UTC) },
	}
	stamp := func(s *cluster.Session) { s.Revision = 5 }
	checkCodec(t, store.SessionKey(hostA), session, store.EncodeSession, store.DecodeSession, stamp, broken)
	checkCodec(t, store.CloneKey(hostA, "i-1"), session, store.EncodeSession, store.DecodeClone, stamp, nil)
	for _, bad := range []string{`{"severity":"fatal"}`, `{"severity":"error","what":"\u001b[2J"}`} {
		value := fmt.Appendf(nil, `{"host":%q,"instance":"i","problems":[%s]}`, hostA, bad)
		if s, err := store.DecodeSession(store.Record{Key: store.SessionKey(hostA), Value: value}); err == nil {
			t.Errorf("decoded problem %s: %+v", bad, s)
		}
	}
}

// An agent with any problems can say so: what is too much is clipped.
func TestSessionClipsProblems(t *testing.T) {
	s := session()
	worst := strings.Repeat("\"\\\xff\x00\u2028", 200)
	s.Problems = nil
	for range cluster.MaxProblems + 10 {
		s.Problems = append(s.Problems, cluster.Problem{Severity: "?", Subject: worst, What: worst, Hint: strings.Repeat(`"`, 1000)})
	}
	value, err := store.EncodeSession(s)
	if err != nil {
		t.Fatal(err)
	}
	got, err := store.DecodeSession(store.Record{Key: store.SessionKey(hostA), Value: value})
	if err != nil || len(got.Problems) != cluster.MaxProblems {
		t.Fatalf("%d problems, error %v", len(got.Problems), err)
	}
}

func TestVNICodec(t *testing.T) {
	value, err := store.EncodeVNI("blue")
	if err != nil {
		t.Fatal(err)
	}
	vni, network, err := store.DecodeVNI(store.Record{Key: store.VNIKey(4711), Value: value})
	if err != nil || vni != 4711 || network != "blue" {
		t.Errorf("decoded %d of %q: %v", vni, network, err)
	}
	if _, err := store.EncodeVNI("Blue"); !errors.Is(err, cluster.ErrName) {
		t.Errorf("bad name: %v", err)
	}
}

// fuzzDecode: a decoder does not panic on anything, and what it takes it can
// write, and reads back as the same.
func fuzzDecode[T any](f *testing.F, key string, seed T, encode func(T) ([]byte, error), decode func(store.Record) (T, error)) {
	f.Helper()
	value, err := encode(seed)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(key, value)
	f.Fuzz(func(t *testing.T, key string, value []byte) {
		r := store.Record{Key: key, Value: value, CreateRev: 1, ModRev: 2}
		first, err := decode(r)
		if err != nil {
			return
		}
		if r.Value, err = encode(first); err != nil {
			t.Fatalf("decoded %+v, which does not encode: %v", first, err)
		}
		second, err := decode(r)
		if err != nil || !reflect.DeepEqual(first, second) {
			t.Fatalf("decoded %+v, then %+v: %v", first, second, err)
		}
	})
}

func FuzzDecodeNetwork(f *testing.F) {
	fuzzDecode(f, store.NetworkKey("blue"), blue(), store.EncodeNetwork, store.DecodeNetwork)
}

func FuzzDecodeHost(f *testing.F) {
	fuzzDecode(f, store.HostKey(hostA), host(), store.EncodeHost, store.DecodeHost)
}

func FuzzDecodeLease(f *testing.F) {
	l := lease()
	fuzzDecode(f, store.SubnetKey(l.Network, l.Prefix), l, store.EncodeLease, store.DecodeLease)
}

func FuzzDecodeEndpoint(f *testing.F) {
	fuzzDecode(f, store.EndpointKey("blue", hostA, "web"), endpoint(), store.EncodeEndpoint, store.DecodeEndpoint)
}

func FuzzDecodeSession(f *testing.F) {
	fuzzDecode(f, store.SessionKey(hostA), session(), store.EncodeSession, store.DecodeSession)
}

func FuzzDecodeVNI(f *testing.F) {
	value, err := store.EncodeVNI("blue")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(store.VNIKey(1), value)
	f.Fuzz(func(t *testing.T, key string, value []byte) {
		if _, network, err := store.DecodeVNI(store.Record{Key: key, Value: value}); err == nil {
			if _, err := store.EncodeVNI(network); err != nil {
				t.Fatal(err)
			}
		}
	})
}

func segment() cluster.Network {
	return cluster.Network{
		Name: "lan", VNI: 7, Driver: cluster.DriverMacvlan, Parent: "eth0.100",
		Pools: []cluster.Pool{
			{Prefix: netip.MustParsePrefix("192.0.2.0/24"), HostPrefix: 28, Range: netip.MustParsePrefix("192.0.2.128/26"), Gateway: netip.MustParseAddr("192.0.2.254")},
			{Prefix: netip.MustParsePrefix("2001:db8::/64"), HostPrefix: 80, Gateway: netip.MustParseAddr("2001:db8::1")},
		},
		Created: time.Date(2026, 11, 21, 0, 20, 0, 5, time.UTC),
	}
}

func TestSegmentCodec(t *testing.T) {
	change := func(f func(p *cluster.Pool)) func(*cluster.Network) {
		return func(n *cluster.Network) { f(&n.Pools[0]) }
	}
	checkCodec(t, store.NetworkKey("lan"), segment, store.EncodeNetwork, store.DecodeNetwork,
		func(n *cluster.Network) { n.CreateRevision, n.Revision = 3, 5 },
		map[string]func(*cluster.Network){
			"no parent":         func(n *cluster.Network) { n.Parent = "" },
			"no gateway":        change(func(p *cluster.Pool) { p.Gateway = netip.Addr{} }),
			"gateway elsewhere": change(func(p *cluster.Pool) { p.Gateway = netip.MustParseAddr("192.0.3.1") }),
			"range elsewhere":   change(func(p *cluster.Pool) { p.Range = netip.MustParsePrefix("192.0.3.0/26") }),
			"range wider":       change(func(p *cluster.Pool) { p.Range = netip.MustParsePrefix("192.0.0.0/16") }),
			"range unmasked":    change(func(p *cluster.Pool) { p.Range = netip.MustParsePrefix("192.0.2.129/26") }),
			"range of a piece":  change(func(p *cluster.Pool) { p.Range = netip.MustParsePrefix("192.0.2.128/29") }),
		})
}
