package kerneltest

import (
	"strings"
	"testing"

	"github.com/ovlnet/ovl/internal/dataplane"
	"github.com/ovlnet/ovl/internal/reconcile"
)

// segment is a link of somebody else that ours are put on.
func segment(mtu int) dataplane.Link {
	return dataplane.Link{LinkKey: dataplane.LinkKey{Name: "seg0"}, Kind: dataplane.Bridge, MAC: mac(0xc1), MTU: mtu, Up: true}
}

// on is a macvlan on a parent, on the host and in a container.
func on(parent string, ns dataplane.NS, mtu int) dataplane.State {
	shim := dataplane.Link{LinkKey: dataplane.LinkKey{Name: "ovm5"}, Kind: dataplane.Macvlan, MAC: mac(5), MTU: mtu, Up: true, Alias: "ovl/1/lan/shim", Parent: parent}
	inside := dataplane.Link{LinkKey: dataplane.LinkKey{NS: ns, Name: "eth0"}, Kind: dataplane.Macvlan, MAC: mac(6), MTU: mtu, Up: true, Alias: "ovl/1/lan/web", Parent: parent}
	return dataplane.NewState(
		shim, address("", "ovm5", "198.51.100.129/28"), route("", "198.51.100.128/28", "ovm5", "", "198.51.100.129"),
		inside, address(ns, "eth0", "198.51.100.130/24"), route(ns, "198.51.100.0/24", "eth0", "", "198.51.100.130"),
		route(ns, "0.0.0.0/0", "eth0", "198.51.100.1", ""),
	)
}

// testParents: links that are on a link of somebody else, which changes, goes
// and comes back.
func testParents(t *testing.T, h Harness) {
	a := h.Namespace(t)
	none := zero(t, h)
	with := func(s dataplane.State) dataplane.State {
		s.Sysctls = none.Sysctls
		return s
	}
	want := with(on("seg0", a, 1500))
	inside := want.Links[dataplane.LinkKey{NS: a, Name: "eth0"}]
	refuse(t, h, reconcile.Gone, dataplane.Create, inside)

	h.Set(t, segment(1500))
	settle(t, h, want, a)

	h.Set(t, segment(1300)) // takes them along
	refuse(t, h, reconcile.Refused, dataplane.Update, inside)
	want = with(on("seg0", a, 1300))
	settle(t, h, want, a)
	h.Set(t, segment(1500)) // does not
	equal(t, want, observe(t, h, a))
	want = with(on("seg0", a, 1500))
	settle(t, h, want, a)

	moved := with(on(Uplink, a, 1500))
	pass(t, h, moved, -1, a)
	equal(t, moved, observe(t, h, a))
	pass(t, h, want, -1, a)
	equal(t, want, observe(t, h, a))

	h.Remove(t, dataplane.LinkKey{Name: "seg0"})
	equal(t, none, observe(t, h, a))
	refuse(t, h, reconcile.Gone, dataplane.Create, inside)
	h.Set(t, segment(1500))
	settle(t, h, want, a)

	h.Set(t, dataplane.Link{LinkKey: dataplane.LinkKey{Name: Uplink}, MAC: mac(0xc2), MTU: 1500, Up: true, Master: "seg0"})
	inside.Parent = Uplink
	refuse(t, h, reconcile.Again, dataplane.Create, inside) // taken by a bridge
	pass(t, h, want, -1, a)
	pass(t, h, none, -1, a)
	equal(t, none, observe(t, h, a))
}

// testVLAN: a VLAN of ours with macvlans on it; where the kernel has no VLANs,
// the refusal that says so.
func testVLAN(t *testing.T, h Harness) {
	a := h.Namespace(t)
	none := zero(t, h)
	want := on("ovv5", a, 1500)
	want.Sysctls = none.Sysctls
	vlan := dataplane.Link{LinkKey: dataplane.LinkKey{Name: "ovv5"}, Kind: dataplane.VLAN, MAC: mac(7), MTU: 1500, Up: true, Alias: "ovl/1/lan/vlan", Parent: Uplink, VLANID: 100}
	want.Add(vlan)
	if !h.Can(dataplane.VLAN) {
		err := h.Kernel().Apply(t.Context(), dataplane.Op{Verb: dataplane.Create, Row: vlan})
		if err == nil || reconcile.ClassOf(err) != reconcile.Refused || !strings.Contains(err.Error(), "no 802.1q (module 8021q)") {
			t.Errorf("make a VLAN where the kernel has none: %v; want a refusal that says so", err)
		}
		equal(t, none, observe(t, h, a))
		return
	}
	settle(t, h, want, a)
	if n := pass(t, h, want, -1, a); n != 0 {
		t.Errorf("a second pass had %d operations; want none", n)
	}
	other := want.Clone()
	vlan.VLANID = 200
	other.Add(vlan)
	pass(t, h, other, -1, a) // all that is on it is made anew in the same pass
	equal(t, other, observe(t, h, a))
	h.Remove(t, vlan.LinkKey)
	equal(t, none, observe(t, h, a))
	settle(t, h, other, a)
	pass(t, h, none, -1, a)
	equal(t, none, observe(t, h, a))
}
