package attach

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/ovlnet/ovl/internal/cluster"
	"github.com/ovlnet/ovl/internal/plan"
)

func TestWhois(t *testing.T) {
	blue, red := network("blue", 7, 8, "10.64.0.0/16"), network("red", 8, 8, "10.65.0.0/16")
	att := sample("web", 9)
	att.ID = "0123abcd"
	att.Interfaces[0].Addrs = pfxs("10.64.3.9/24")
	k := Known{
		Self: cluster.Host{ID: self, Name: "h1", Underlay: []netip.Addr{adr("192.0.2.1")}},
		Snapshot: cluster.NewSnapshot(1, []cluster.Network{blue, red},
			[]cluster.Host{{ID: peer, Name: "h2", Underlay: []netip.Addr{adr("192.0.2.2")}}},
			[]cluster.Lease{{Network: "blue", Prefix: pfx("10.64.5.0/24"), Host: peer}}),
		Held:        []cluster.Lease{{Network: "blue", Prefix: pfx("10.64.3.0/24"), Host: self}},
		Attachments: []cluster.Attachment{att},
	}
	container := "container h1 blue web 10.64.3.9/24 192.0.2.1 ovb7 ovx7"
	for query, want := range map[string]string{
		"web": container, "0123abcd": container, " 10.64.3.9 ": container, "::ffff:10.64.3.9": container, "02:00:00:00:00:09": container,
		plan.HostLink("0123abcd", "eth0"):       container,
		"10.64.3.1":                             "gateway h1 blue  10.64.3.1/24 192.0.2.1 ovb7 ovx7",
		"10.64.5.1":                             "gateway h2 blue  10.64.5.1/24 192.0.2.2 ovb7 ovx7",
		"10.64.5.77":                            "peer h2 blue   192.0.2.2 ovb7 ovx7",
		"192.0.2.2":                             "vtep h2   192.0.2.2 192.0.2.2  ",
		"192.0.2.1":                             "vtep h1   192.0.2.1 192.0.2.1  ",
		"ovb7":                                  "gateway h1 blue  10.64.3.1/24 192.0.2.1 ovb7 ovx7",
		"ovx7":                                  "vtep h1 blue   192.0.2.1 ovb7 ovx7",
		cluster.VTEPMAC(peer, 7).String():       "vtep h2 blue   192.0.2.2 ovb7 ovx7",
		cluster.VTEPMAC(self, 7).String():       "vtep h1 blue   192.0.2.1 ovb7 ovx7",
		cluster.GatewayMAC(peer, 7, 0).String(): "gateway h2 blue  10.64.5.1/24 192.0.2.2 ovb7 ovx7",
	} {
		t.Run(query, func(t *testing.T) {
			got, _ := k.Whois(query)
			if len(got) != 1 {
				t.Fatalf("%d matches, want 1: %v", len(got), got)
			}
			m := got[0]
			text := fmt.Sprintf("%s %s %s %s %s %s %s %s", m.GetKind(), m.GetHost(), m.GetNetwork(), m.GetContainer(), strings.Join(m.GetAddresses(), ","), m.GetUnderlay(), m.GetBridge(), m.GetVxlan())
			if text != want {
				t.Errorf("got  %s\nwant %s", text, want)
			}
		})
	}
	if m, _ := k.Whois("10.64.5.77"); m[0].GetMac() != cluster.VTEPMAC(peer, 7).String() || m[0].GetSubnet() != "10.64.5.0/24" {
		t.Errorf("peer %v: want its VTEP's MAC and its subnet", m[0])
	}
	for query, hint := range map[string]string{
		"nobody": "ovlctl ps", "10.64.3.200": "this host's subnet 10.64.3.0/24", "10.64.99.1": "no host holds", "10.65.0.9": "not on it",
		"198.51.100.1": "no network", "02:99:00:00:00:09": "endpoint inspect", "": "no container",
	} {
		if got, h := k.Whois(query); len(got) != 0 || !strings.Contains(h, hint) {
			t.Errorf("whois %q: %v, hint %q, want %q in it", query, got, h, hint)
		}
	}
}

func FuzzWhois(f *testing.F) {
	for _, s := range []string{"web", "10.64.3.9", "fe80::1%eth0", "02:00:00:00:00:09", "::ffff:1.2.3.4"} {
		f.Add(s)
	}
	k := Known{Snapshot: cluster.NewSnapshot(1, []cluster.Network{network("blue", 7, 8, "10.64.0.0/16")}, nil, nil), Attachments: []cluster.Attachment{sample("web", 9)}}
	f.Fuzz(func(t *testing.T, query string) {
		if matches, hint := k.Whois(query); len(matches) == 0 && (hint == "" || strings.Contains(hint, "\n")) {
			t.Errorf("whois %q: hint %q", query, hint)
		}
	})
}
