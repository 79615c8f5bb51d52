package kerneltest

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/ovlnet/ovl/internal/dataplane"
	"github.com/ovlnet/ovl/internal/reconcile"
)

// testHalfMade: links that an agent left without their alias.
func testHalfMade(t *testing.T, h Harness) {
	a := h.Namespace(t)
	want := world(a)
	for _, l := range want.Links {
		if l.Kind == dataplane.Veth && l.Peer == "" {
			continue // made by the other end
		}
		half := dataplane.Link{LinkKey: l.LinkKey, Kind: l.Kind, MAC: mac(0x55), MTU: 1400, VXLAN: l.VXLAN, Peer: l.Peer, Parent: l.Parent}
		if l.Kind == dataplane.Macvlan {
			half.MAC = l.MAC // it is made with it, and known by it
		}
		h.Set(t, half)
	}
	if got := observe(t, h, a); len(got.Links) != 0 {
		t.Fatalf("links without an alias are seen:\n%s", got)
	}
	settle(t, h, want, a)
}

// testReplacedLinks: what cannot change while a link lives, and a link that
// somebody else made anew under its name.
func testReplacedLinks(t *testing.T, h Harness) {
	a, b := h.Namespace(t), h.Namespace(t)
	want := world(a, b)
	settle(t, h, want, a, b)

	next := want.Clone()
	l := next.Links[dataplane.LinkKey{Name: vxlan}]
	l.VXLAN.Port = 8472
	next.Add(l)
	pass(t, h, next, -1, a, b)
	equal(t, next, observe(t, h, a, b))

	h.Remove(t, l.LinkKey)
	h.Set(t, l) // another index
	settle(t, h, want, a, b)

	// Rows of a link that was made anew since it was last seen still arrive.
	h.Remove(t, l.LinkKey)
	h.Set(t, want.Links[l.LinkKey])
	for _, r := range want.Rows() {
		if k := r.Key(); k.Table() >= dataplane.TableAddr && k.Namespace() == dataplane.Host {
			apply(t, h, dataplane.Create, r)
		}
	}
	equal(t, want, observe(t, h, a, b))
}

// foreign puts objects of others beside ours: on the host, a bridge with an
// address, whose name or alias alone looks like ours; routes; chains.
func foreign(t *testing.T, h Harness) {
	t.Helper()
	for _, l := range []dataplane.Link{
		{LinkKey: dataplane.LinkKey{Name: "br-theirs"}, Kind: dataplane.Bridge, MAC: mac(0xa1), MTU: 1500, Up: true},
		{LinkKey: dataplane.LinkKey{Name: "br-alias"}, Kind: dataplane.Bridge, MAC: mac(0xa2), MTU: 1500, Up: true, Alias: "ovl/1/blue/bridge"},
		{LinkKey: dataplane.LinkKey{Name: "ovbtheirs"}, Kind: dataplane.Bridge, MAC: mac(0xa3), MTU: 1500, Up: true, Alias: "somebody's"},
	} {
		h.Set(t, l)
	}
	h.Set(t, address("", "br-theirs", "198.51.100.1/24"))
	h.SetForeignRoute(t, route("", "203.0.113.0/24", "br-theirs", "", ""))
	h.SetForeignRoute(t, route("", "2001:db8:77::/48", "br-theirs", "", ""))
	h.Set(t, dataplane.Chain{ChainKey: dataplane.ChainKey{Family: dataplane.IPv4, FirewallOf: "filter", Name: "THEIRS"}, Rules: "-s 198.51.100.7/32 -j ACCEPT"})
}

func testModesty(t *testing.T, h Harness) {
	a := h.Namespace(t)
	foreign(t, h)
	equal(t, zero(t, h), observe(t, h, a))
	before := h.Foreign(t)
	want := world(a)
	settle(t, h, want, a)
	if after := h.Foreign(t); after != before {
		t.Errorf("making ours touched theirs:\nbefore\n%s\nafter\n%s", before, after)
	}
	pass(t, h, zero(t, h), -1, a)
	if after := h.Foreign(t); after != before {
		t.Errorf("deleting ours touched theirs:\nbefore\n%s\nafter\n%s", before, after)
	}
}

func testRefusals(t *testing.T, h Harness) {
	a := h.Namespace(t)
	foreign(t, h)
	want := world(a)
	settle(t, h, want, a)
	h.SetForeignRoute(t, route("", "10.64.50.0/24", "br-theirs", "", ""))
	h.SetForeignRoute(t, route("", "fd64:0:0:50::/64", "br-theirs", "", ""))
	h.Set(t, dataplane.Link{LinkKey: dataplane.LinkKey{NS: a, Name: "eth1"}, Kind: dataplane.Bridge, MAC: mac(0xb1), MTU: 1500})
	before := h.Foreign(t)

	theirs := want.Links[dataplane.LinkKey{Name: bridge}]
	theirs.Name = "ovbtheirs"
	eth1 := want.Links[dataplane.LinkKey{NS: a, Name: "eth0"}]
	eth1.Name, eth1.Peer = "eth1", "ove00000000eth1"
	twin := want.Links[dataplane.LinkKey{Name: vxlan}]
	twin.Name = "ovxtwin"
	for _, r := range []dataplane.Row{
		theirs, eth1, twin,
		address("", "br-theirs", "10.64.51.1/24"),
		route("", "10.64.50.0/24", bridge, "", ""),
		route("", "fd64:0:0:50::/64", bridge, "", ""),
		route("", "10.64.52.0/24", bridge, "", "10.77.77.77"), // no such source
	} {
		refuse(t, h, reconcile.Refused, dataplane.Create, r)
	}
	refuse(t, h, reconcile.Refused, dataplane.Delete, theirs)
	for _, dst := range []string{"10.64.50.0/24", "fd64:0:0:50::/64"} {
		apply(t, h, dataplane.Delete, route("", dst, bridge, "", "")) // ours is gone; theirs is not meant
	}
	if after := h.Foreign(t); after != before {
		t.Errorf("a refused operation touched theirs:\nbefore\n%s\nafter\n%s", before, after)
	}
	equal(t, want, observe(t, h, a))
}

func testMissing(t *testing.T, h Harness) {
	a := h.Namespace(t)
	none := zero(t, h)
	refuse(t, h, reconcile.Gone, dataplane.Create, peer("192.0.2.77", "10.64.77.0/24"))
	equal(t, none, observe(t, h, a))
	before := world(a)
	for k := range before.Elements {
		if k.Set.In() == dataplane.NFInet {
			before.Delete(k)
		}
	}
	before.Delete(dataplane.GuardKey{In: dataplane.NFInet})
	for k := range before.Sets {
		if k.Kind == dataplane.Peers {
			before.Delete(k)
		}
	}
	settle(t, h, before, a)
	end := world(a).Links[dataplane.LinkKey{Name: "ove00000000000a"}]
	end.Name = "ove0000missing"
	inGone := address("/run/netns/ovl-test-none", "eth0", "10.64.1.9/24")
	for _, r := range []dataplane.Row{
		end, inGone, peer("192.0.2.77", "10.64.77.0/24"),
		dataplane.NewGuard(dataplane.NFInet, "chain begin", "meta nfproto ipv6 ip6 saddr . @th,96,24 . @th,304,128 @peers_ipv6_128_over_ipv6 accept"),
		address("", "ovb77", "10.64.77.1/24"), neigh("ovx77", "10.64.77.0", 1), fdb("ovx77", 1, "192.0.2.7"),
		route("", "10.64.77.0/24", "ovx77", "", ""),
		route("", "10.64.77.0/24", vxlan, "10.77.0.1", ""), // a gateway that nothing leads to
		jump(dataplane.IPv4, "filter", "FORWARD", "OVL-NONE"),
		jump(dataplane.IPv4, "filter", "NO-SUCH-CHAIN", "OVL-FORWARD"),
	} {
		refuse(t, h, reconcile.Gone, dataplane.Create, r)
	}
}

func testNamespaceVanishes(t *testing.T, h Harness) {
	a, b := h.Namespace(t), h.Namespace(t)
	want := world(a, b)
	settle(t, h, want, a, b)
	h.RemoveNamespace(t, a)
	got, facts, err := h.Kernel().Observe(t.Context(), dataplane.FullScope(a, b))
	if err != nil {
		t.Fatalf("observe: %v", err)
	}
	if !slices.Equal(facts.Gone, []dataplane.NS{a}) {
		t.Errorf("gone namespaces are %q; want %q", facts.Gone, a)
	}
	for _, r := range got.Rows() {
		if r.Key().Namespace() == a {
			t.Errorf("row of a namespace that is gone: %s", r)
		}
	}
	refuse(t, h, reconcile.Gone, dataplane.Create, container(a, 0)[0])
}

func testFacts(t *testing.T, h Harness) {
	a := h.Namespace(t)
	settle(t, h, world(a), a)
	h.Set(t, dataplane.Link{LinkKey: dataplane.LinkKey{Name: "br-theirs"}, Kind: dataplane.Bridge, MAC: mac(0xa1), MTU: 1400, Up: true})
	h.Set(t, address("", "br-theirs", "198.51.100.1/24"))
	h.Set(t, dataplane.Link{LinkKey: dataplane.LinkKey{Name: "br-bare"}, Kind: dataplane.Bridge, MAC: mac(0xa2), MTU: 1500})
	h.SetForeignRoute(t, route("", "203.0.113.0/24", "br-theirs", "", ""))
	h.Set(t, dataplane.Chain{ChainKey: dataplane.ChainKey{Family: dataplane.IPv4, FirewallOf: "filter", Name: "DOCKER-USER"}})
	_, facts, err := h.Kernel().Observe(t.Context(), dataplane.FullScope(a))
	if err != nil {
		t.Fatalf("observe: %v", err)
	}
	f := facts.Host
	if f == nil {
		t.Fatal("a full observation has no facts of the host")
	}
	if f.DefaultLink != Uplink {
		t.Errorf("default link is %q; want %q", f.DefaultLink, Uplink)
	}
	if f.DockerUser != [2]bool{true, false} {
		t.Errorf("DOCKER-USER is %v; want it in IPv4 alone", f.DockerUser)
	}
	links := map[string]dataplane.HostLink{}
	for _, l := range f.Links {
		if links[l.Name] = l; dataplane.OwnsName(l.Name) {
			t.Errorf("link %s is ours", l.Name)
		}
	}
	if !slices.IsSortedFunc(f.Links, func(a, b dataplane.HostLink) int { return strings.Compare(a.Name, b.Name) }) {
		t.Errorf("links are not sorted: %+v", f.Links)
	}
	if l := links["br-theirs"]; l.MTU != 1400 || !l.Up || l.Kind != "bridge" || !slices.Equal(l.Addrs, []netip.Prefix{netip.MustParsePrefix("198.51.100.1/24")}) {
		t.Errorf("br-theirs is %+v", l)
	}
	if l, ok := links["br-bare"]; !ok || l.Up || len(l.Addrs) > 0 {
		t.Errorf("br-bare is %+v, %v", l, ok)
	}
	// Ours are on that link, and lead to gateways: neither is on link.
	want := []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24"), netip.MustParsePrefix("2001:db8::/64")}
	if l := links[Uplink]; len(l.Addrs) != 2 || !slices.Equal(l.OnLink, want) {
		t.Errorf("%s is %+v; want %v on link", Uplink, l, want)
	}
	for _, p := range []string{"203.0.113.0/24", "192.0.2.0/24"} {
		if !slices.Contains(f.Routes, netip.MustParsePrefix(p)) {
			t.Errorf("foreign route %s is missing in %v", p, f.Routes)
		}
	}
	for _, p := range f.Routes {
		if p.Bits() == 0 || p.Contains(ip("10.64.2.1")) {
			t.Errorf("route %s is the default route or ours", p)
		}
	}
}

// testLinkSysctl: a parameter of a link is seen where it is on, and comes and
// goes with its link.
func testLinkSysctl(t *testing.T, h Harness) {
	want := world()
	settle(t, h, want)
	key := dataplane.RouteLocalnet(bridge)
	if _, there := observe(t, h).Get(key); there {
		t.Errorf("%s is seen on a new link", key)
	}
	bare := want.Clone()
	want.Add(dataplane.Sysctl{SysctlKey: key, Value: "1"})
	pass(t, h, want, -1)
	equal(t, want, observe(t, h))

	h.Remove(t, dataplane.LinkKey{Name: bridge})
	if _, there := observe(t, h).Get(key); there {
		t.Errorf("%s outlives its link", key)
	}
	err := h.Kernel().Apply(t.Context(), dataplane.Op{Verb: dataplane.Create, Row: want.Sysctls[key]})
	if err == nil || reconcile.ClassOf(err) != reconcile.Gone {
		t.Errorf("write %s: %v; want class %s", key, err, reconcile.Gone)
	}
	settle(t, h, want)
	h.Remove(t, dataplane.LinkKey{Name: bridge})
	settle(t, h, bare)
}
