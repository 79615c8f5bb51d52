package kerneltest

import (
	"net/netip"
	"testing"

	"github.com/ovlnet/ovl/internal/dataplane"
	"github.com/ovlnet/ovl/internal/reconcile"
)

// testSweep: links that are deleted together are those that were named, as far as
// they are there and ours.
func testSweep(t *testing.T, h Harness) {
	s, ok := h.Kernel().(reconcile.Sweeper)
	if !ok {
		t.Fatal("it deletes links one by one")
	}
	spaces := make([]dataplane.NS, 6)
	for i := range spaces {
		spaces[i] = h.Namespace(t)
	}
	want := world(spaces...)
	settle(t, h, want, spaces...)
	foreign(t, h)
	h.Set(t, dataplane.Link{LinkKey: dataplane.LinkKey{Name: "ovetheirs"}, Kind: dataplane.Bridge, MAC: mac(0xa4), MTU: 1500, Alias: "somebody's"})
	before := h.Foreign(t)

	rest := world(spaces[:1]...)
	links := []dataplane.Link{
		{LinkKey: dataplane.LinkKey{Name: "ovetheirs"}, Kind: dataplane.Veth},
		{LinkKey: dataplane.LinkKey{Name: "ovemissing"}, Kind: dataplane.Veth},
	}
	for k, l := range want.Links {
		if _, stays := rest.Links[k]; !stays && k.NS == dataplane.Host && l.Kind == dataplane.Veth {
			links = append(links, l)
		}
	}
	if len(links) != 2+5 {
		t.Fatalf("the world has %d links to sweep, want 5", len(links)-2)
	}
	s.Sweep(t.Context(), links)
	if after := h.Foreign(t); after != before {
		t.Errorf("the sweep touched theirs:\nbefore\n%s\nafter\n%s", before, after)
	}
	got := observe(t, h, spaces...)
	for _, l := range links {
		if _, there := got.Links[l.LinkKey]; there {
			t.Errorf("still there: %s", l)
		}
	}
	for _, l := range links[2:] {
		apply(t, h, dataplane.Delete, l) // its own operation finds it gone
	}
	settle(t, h, rest, spaces...)
	settle(t, h, want, spaces...)
}

// testMovedAddress: an address that moves from a link that goes to another one takes
// no route along, neither one that stays nor, unasked, one that goes.
func testMovedAddress(t *testing.T, h Harness) {
	want := world()
	second := want.Links[dataplane.LinkKey{Name: bridge}]
	second.Name, second.MAC = bridge+".1", mac(0x71)
	apart := want.Clone()
	apart.Add(second,
		address("", second.Name, "10.64.9.1/24"), address("", second.Name, "fd64:0:0:9::1/64"),
		route("", "10.64.9.0/24", second.Name, "", "10.64.9.1"), route("", "fd64:0:0:9::/64", second.Name, "", "fd64:0:0:9::1"),
		route("", "10.64.8.0/24", bridge, "", "10.64.9.1"), route("", "fd64:0:0:8::/64", bridge, "", "fd64:0:0:9::1"),
	)
	settle(t, h, apart)

	together := apart.Clone()
	for _, k := range []dataplane.Key{
		second.LinkKey,
		dataplane.AddrKey{Link: second.Name, Prefix: netip.MustParsePrefix("10.64.9.1/24")},
		dataplane.AddrKey{Link: second.Name, Prefix: netip.MustParsePrefix("fd64:0:0:9::1/64")},
	} {
		together.Delete(k)
	}
	together.Add(
		address("", bridge, "10.64.9.1/24"), address("", bridge, "fd64:0:0:9::1/64"),
		route("", "10.64.9.0/24", bridge, "", "10.64.9.1"), route("", "fd64:0:0:9::/64", bridge, "", "fd64:0:0:9::1"),
	)
	pass(t, h, together, -1) // once
	equal(t, together, observe(t, h))
	pass(t, h, apart, -1)
	equal(t, apart, observe(t, h))

	together.Delete(dataplane.RouteKey{Dst: netip.MustParsePrefix("10.64.8.0/24")})
	together.Delete(dataplane.RouteKey{Dst: netip.MustParsePrefix("fd64:0:0:8::/64")})
	pass(t, h, together, -1)
	equal(t, together, observe(t, h))
}
