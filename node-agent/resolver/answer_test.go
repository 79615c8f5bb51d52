package resolver

import (
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/miekg/dns"
	"pgregory.net/rapid"

	"github.com/ovlnet/ovl/internal/cluster"
)

func TestAnswer(t *testing.T) {
	names := world()
	for _, c := range []struct {
		network, from, name string
		qtype               uint16
		want                string
	}{
		// All forms of a name.
		{"blue", "10.64.1.2", "db.", dns.TypeA, "10.64.2.2"},
		{"blue", "10.64.1.2", "db.blue.", dns.TypeA, "10.64.2.2"},
		{"blue", "10.64.1.2", "db.blue.ovl.internal.", dns.TypeA, "10.64.2.2"},
		{"blue", "10.64.1.2", "DB.Blue.OVL.internal.", dns.TypeA, "10.64.2.2"},
		{"red", "10.65.1.77", "db.red.lab.example.", dns.TypeA, "10.65.2.2"},
		{"blue", "10.64.1.2", "store.", dns.TypeA, "10.64.2.2"},
		{"blue", "10.64.1.2", "data.", dns.TypeA, "10.64.2.2 10.64.2.3"},
		{"blue", "10.64.1.2", "data.", dns.TypeAAAA, "fd64:0:0:2::2 fd64:0:0:2::3"},
		{"blue", "10.64.1.2", "db.", dns.TypeANY, "10.64.2.2 fd64:0:0:2::2"},
		// Its own, and a container's own name, come from the journal.
		{"blue", "10.64.1.2", "web.", dns.TypeA, "10.64.1.2"},
		{"blue", "10.64.1.2", "www.", dns.TypeA, "10.64.1.2"},
		// What exists without that type, and what does not exist.
		{"blue", "10.64.1.2", "web.", dns.TypeAAAA, "NODATA"},
		{"blue", "10.64.1.2", "db.blue.", dns.TypeMX, "NODATA"},
		{"blue", "10.64.1.2", "db.blue.", dns.TypeHTTPS, "NODATA"},
		{"blue", "10.64.1.2", "nope.", dns.TypeA, "NXDOMAIN"},
		{"blue", "10.64.1.2", "nope.blue.", dns.TypeA, "NXDOMAIN"},
		{"blue", "10.64.1.2", "nope.blue.ovl.internal.", dns.TypeA, "NXDOMAIN"},
		{"blue", "10.64.1.2", "x.db.blue.ovl.internal.", dns.TypeA, "NXDOMAIN"},
		{"blue", "10.64.1.2", "liar.", dns.TypeA, "NXDOMAIN"},
		{"blue", "10.64.1.2", "blue.ovl.internal.", dns.TypeA, "NODATA"},
		{"blue", "10.64.1.2", "ovl.internal.", dns.TypeA, "NODATA"},
		{"blue", "10.64.1.2", "blue.ovl.internal.", dns.TypeSOA, "ns.ovl.internal. hostmaster.ovl.internal. 1 3600 600 86400 0"},
		{"blue", "10.64.1.2", `db\.blue.ovl.internal.`, dns.TypeA, "NXDOMAIN"},
		// Reverse.
		{"blue", "10.64.1.2", "2.2.64.10.in-addr.arpa.", dns.TypePTR, "db.blue.ovl.internal."},
		{"blue", "10.64.1.2", "3.2.64.10.IN-ADDR.arpa.", dns.TypePTR, "db2.blue.ovl.internal."},
		{"blue", "10.64.1.2", "2.2.64.10.in-addr.arpa.", dns.TypeA, "NODATA"},
		{"blue", "10.64.1.2", "200.2.64.10.in-addr.arpa.", dns.TypePTR, "NXDOMAIN"},
		{"blue", "10.64.1.2", "99.1.64.10.in-addr.arpa.", dns.TypePTR, "NXDOMAIN"},
		{"blue", "10.64.1.2", "64.10.in-addr.arpa.", dns.TypePTR, "NODATA"},
		{"blue", "10.64.1.2", "10.in-addr.arpa.", dns.TypePTR, "forward"},
		{"blue", "10.64.1.2", "1.2.0.192.in-addr.arpa.", dns.TypePTR, "forward"},
		{"blue", "10.64.1.2", "2." + strings.Repeat("0.", 15) + "2.0.0.0.0.0.0.0.0.0.0.0.4.6.d.f.ip6.arpa.", dns.TypePTR, "db.blue.ovl.internal."},
		// Nothing of a network that the asker is not on.
		{"blue", "10.64.1.2", "db.red.", dns.TypeA, "forward"},
		{"blue", "10.64.1.2", "db.red.lab.example.", dns.TypeA, "forward"},
		{"blue", "10.64.1.2", "db.dark.ovl.internal.", dns.TypeA, "NXDOMAIN"},
		{"blue", "10.64.1.2", "2.2.65.10.in-addr.arpa.", dns.TypePTR, "forward"},
		{"red", "10.65.1.77", "store.", dns.TypeA, "NXDOMAIN"},
		{"red", "10.65.1.77", "db.blue.ovl.internal.", dns.TypeA, "NXDOMAIN"},
		// A container on two networks sees both, wherever it asks, its first first.
		{"blue", "10.64.1.3", "db.red.", dns.TypeA, "10.65.2.2"},
		{"blue", "10.64.1.3", "db.", dns.TypeA, "10.64.2.2"},
		{"red", "10.65.1.3", "db.", dns.TypeA, "10.65.2.2"},
		{"red", "10.65.1.3", "store.", dns.TypeA, "10.64.2.2"},
		{"red", "10.65.1.3", "2.2.64.10.in-addr.arpa.", dns.TypePTR, "db.blue.ovl.internal."},
		{"blue", "10.64.1.3", "db.dark.ovl.internal.", dns.TypeA, "NXDOMAIN"},
		// An address of its on another network is nobody there.
		{"red", "10.64.1.3", "db.blue.", dns.TypeA, "forward"},
		// The rest of the world.
		{"blue", "10.64.1.2", "example.com.", dns.TypeA, "forward"},
		{"blue", "10.64.1.2", ".", dns.TypeNS, "forward"},
		{"blue", "10.64.1.2", "com.", dns.TypeDS, "forward"},
		{"blue", "10.64.1.2", "com.", dns.TypeA, "NXDOMAIN"},
		{"blue", "10.64.1.2", "a.b.blue.", dns.TypeA, "forward"},
		{"green", "10.64.1.2", "db.blue.ovl.internal.", dns.TypeA, "NXDOMAIN"},
	} {
		view := names.View(c.network, netip.MustParseAddr(c.from))
		if got := summary(view.Answer(query(c.name, c.qtype), 0)); got != c.want {
			t.Errorf("%s on %s asks for %s %s: %s, want %s", c.from, c.network, c.name, dns.TypeToString[c.qtype], got, c.want)
		}
	}
}

func TestForwardsOnlyWithAWayOut(t *testing.T) {
	names := world()
	for _, c := range []struct {
		network, from string
		want          bool
	}{
		{"blue", "10.64.1.2", true}, {"dark", "10.66.1.5", false}, {"dark", "10.66.1.4", true}, {"dark", "10.66.9.9", false}, {"green", "10.64.1.2", false},
	} {
		if got := names.View(c.network, netip.MustParseAddr(c.from)).Forwards(); got != c.want {
			t.Errorf("questions of %s on %s are forwarded: %t", c.from, c.network, got)
		}
	}
}

// TestNegativeAnswersAreNotRemembered holds that whoever asked too early finds
// the name when it is there.
func TestNegativeAnswersAreNotRemembered(t *testing.T) {
	view := world().View("blue", netip.MustParseAddr("10.64.1.2"))
	for _, q := range []*dns.Msg{query("nope.blue.", dns.TypeA), query("web.blue.ovl.internal.", dns.TypeAAAA)} {
		m := view.Answer(q, 0)
		if len(m.Ns) != 1 || m.Ns[0].Header().Ttl != 0 || m.Ns[0].(*dns.SOA).Minttl != 0 {
			t.Errorf("%s: authority %v, want an SOA with TTL 0", q.Question[0].Name, m.Ns)
		}
		if lifetime(m) != 0 {
			t.Errorf("%s may be remembered for %v", q.Question[0].Name, lifetime(m))
		}
	}
}

func drawEndpoints(rt *rapid.T) []cluster.Endpoint {
	label := rapid.SampledFrom([]string{"a", "b", "c", "d"})
	return rapid.SliceOfN(rapid.Custom(func(rt *rapid.T) cluster.Endpoint {
		e := cluster.Endpoint{Network: "blue", Host: there, ID: rapid.StringMatching("[a-z]{8}").Draw(rt, "id")}
		if rapid.Bool().Draw(rt, "named") {
			e.Name = label.Draw(rt, "name")
		}
		e.Aliases = rapid.SliceOfN(label, 0, 2).Draw(rt, "aliases")
		e.Addrs = append(e.Addrs, netip.AddrFrom4([4]byte{10, rapid.SampledFrom([]byte{64, 65}).Draw(rt, "net"), 0, byte(rapid.IntRange(1, 9).Draw(rt, "v4"))}))
		if rapid.Bool().Draw(rt, "dual") {
			e.Addrs = append(e.Addrs, netip.MustParseAddr(fmt.Sprintf("fd64::%d", rapid.IntRange(1, 9).Draw(rt, "v6"))))
		}
		return e
	}), 0, 12).Draw(rt, "endpoints")
}

// TestZoneLaw: in whatever order the facts came, a zone says the same; a name
// leads to exactly the addresses of who bears it; an address leads to a name
// that leads to it.
func TestZoneLaw(t *testing.T) {
	n := network("blue", 100, "10.64.0.0/16", "fd64::/48")
	rapid.Check(t, func(rt *rapid.T) {
		endpoints := drawEndpoints(rt)
		shuffled := rapid.Permutation(endpoints).Draw(rt, "shuffled")
		one, two := View{Build(n, endpoints)}, View{Build(n, shuffled)}
		for _, label := range []string{"a", "b", "c", "d"} {
			var want []string
			for _, e := range endpoints {
				for _, a := range e.Addrs {
					if (e.Name == label || slices.Contains(e.Aliases, label)) && one[0].holds(a) {
						want = append(want, a.String())
					}
				}
			}
			slices.Sort(want)
			want = slices.Compact(want)
			got := one.Answer(query(label+".blue.", dns.TypeANY), 0)
			if again := two.Answer(query(label+".blue.", dns.TypeANY), 0); summary(got) != summary(again) {
				rt.Fatalf("%s is %s, and in another order %s", label, summary(got), summary(again))
			}
			have := strings.Fields(strings.NewReplacer("NXDOMAIN", "").Replace(summary(got)))
			slices.Sort(have)
			if !slices.Equal(have, want) {
				rt.Fatalf("%s is %v, want %v", label, have, want)
			}
		}
		for a, label := range one[0].labels {
			if !slices.Contains(one[0].addrs[label], a) || two[0].labels[a] != label {
				rt.Fatalf("%s is called %s, which is %v; in another order %s", a, label, one[0].addrs[label], two[0].labels[a])
			}
		}
	})
}

// TestNextLaw: names that take over what has not changed are those that are made
// anew.
func TestNextLaw(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		names := &Names{}
		var endpoints []cluster.Endpoint
		nets := []cluster.Network{network("blue", 100, "10.64.0.0/16", "fd64::/48")}
		var own []cluster.Attachment
		for range rapid.IntRange(1, 6).Draw(rt, "steps") {
			switch rapid.SampledFrom([]string{"endpoints", "network", "own", "other"}).Draw(rt, "change") {
			case "endpoints":
				endpoints = drawEndpoints(rt)
			case "network":
				nets[0].DNSDomain = rapid.SampledFrom([]string{"", "lab.example"}).Draw(rt, "domain")
			case "own":
				own = []cluster.Attachment{attachment("web", on("blue", fmt.Sprintf("10.64.0.%d/24", rapid.IntRange(1, 9).Draw(rt, "own"))))}
			case "other":
			}
			s := cluster.NewSnapshot(1, slices.Clone(nets), nil, nil).WithEndpoints(slices.Clone(endpoints))
			names = names.next(here, s.Networks, s, own)
			if anew := Compile(here, s.Networks, s, own); !reflect.DeepEqual(names.zones, anew.zones) || !reflect.DeepEqual(names.views, anew.views) {
				rt.Fatalf("taken over: %+v, made anew: %+v", names.zones["blue"], anew.zones["blue"])
			}
			if again := names.next(here, s.Networks, s, own); again.zones["blue"] != names.zones["blue"] {
				rt.Fatalf("nothing changed, and the zone was built again")
			}
		}
	})
}

// TestRotationLaw: over as many turns as there are addresses each is first
// once, and each answer has all of them.
func TestRotationLaw(t *testing.T) {
	n := network("blue", 100, "10.64.0.0/16", "fd64::/48")
	rapid.Check(t, func(rt *rapid.T) {
		four, six := rapid.IntRange(1, 9).Draw(rt, "IPv4"), rapid.IntRange(1, 9).Draw(rt, "IPv6")
		var endpoints []cluster.Endpoint
		for i := range four {
			endpoints = append(endpoints, endpoint("blue", fmt.Sprintf("v4-%d", i), []string{"all"}, fmt.Sprintf("10.64.0.%d", i+1)))
		}
		for i := range six {
			endpoints = append(endpoints, endpoint("blue", fmt.Sprintf("v6-%d", i), []string{"all"}, fmt.Sprintf("fd64::%d", i+1)))
		}
		view, turns := View{Build(n, endpoints)}, newTurns()
		for range rapid.IntRange(0, 50).Draw(rt, "earlier") {
			turns.next(dns.Question{Name: "all.", Qtype: dns.TypeA})
		}
		for qtype, count := range map[uint16]int{dns.TypeA: four, dns.TypeAAAA: six} {
			first := map[string]bool{}
			for range count {
				q := query("all.", qtype)
				got := strings.Fields(summary(view.Answer(q, turns.next(q.Question[0]))))
				if len(got) != count {
					rt.Fatalf("%d of %d addresses", len(got), count)
				}
				first[got[0]] = true
			}
			if len(first) != count {
				rt.Fatalf("in %d turns only %d were first", count, len(first))
			}
		}
	})
}

// FuzzReply: whatever a packet asks, the answer is one to it, and fits.
func FuzzReply(f *testing.F) {
	names := world()
	for _, q := range []string{"db.", "db.blue.", "data.blue.ovl.internal.", "2.2.64.10.in-addr.arpa.", "nope.dark.ovl.internal.", "example.com."} {
		m := query(q, dns.TypeA).SetEdns0(4096, true)
		b, err := m.Pack()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b, uint32(3), false)
	}
	f.Fuzz(func(t *testing.T, packet []byte, turn uint32, stream bool) {
		req := new(dns.Msg)
		if req.Unpack(packet) != nil || len(req.Question) != 1 {
			return // the server answers those itself
		}
		for _, from := range addrs("10.64.1.2", "10.64.1.3") {
			m := names.View("blue", from).Answer(req, turn)
			if m == nil {
				m = refuse(req, dns.RcodeRefused)
			}
			b, err := finish(req, m, stream).Pack()
			if err != nil {
				t.Fatalf("answer to %v: %v", req.Question, err)
			}
			limit := dns.MinMsgSize
			if stream {
				limit = dns.MaxMsgSize
			} else if req.IsEdns0() != nil {
				limit = udpSize
			}
			back := new(dns.Msg)
			if err := back.Unpack(b); err != nil || !back.Response || back.Id != req.Id || len(back.Question) != 1 || len(b) > limit {
				t.Fatalf("answer of %d bytes to %v: %v, %v", len(b), req.Question, back, err)
			}
		}
	})
}

func FuzzParseReverse(f *testing.F) {
	f.Add("2.2.64.10.in-addr.arpa.")
	f.Add("1.0.0.0.d.f.ip6.arpa.")
	f.Add(".0.0.0.0.in-addr.arpa.")
	f.Fuzz(func(t *testing.T, name string) {
		p, ok := parseReverse(name)
		if !ok {
			return
		}
		if p != p.Masked() {
			t.Fatalf("%q is %v, which has host bits", name, p)
		}
		if p.IsSingleIP() {
			if back, err := dns.ReverseAddr(p.Addr().String()); err != nil || back != strings.ToLower(name) && !p.Addr().Is4In6() {
				t.Fatalf("%q is %v, whose name is %q, %v", name, p, back, err)
			}
		}
	})
}
