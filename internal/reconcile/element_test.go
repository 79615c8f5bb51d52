package reconcile_test

import (
	"context"
	"net/netip"
	"testing"
	"time"

	"github.com/ovlnet/ovl/internal/cluster"
	"github.com/ovlnet/ovl/internal/dataplane"
	"github.com/ovlnet/ovl/internal/kernel/fake"
	"github.com/ovlnet/ovl/internal/reconcile"
)

// watched is a kernel that repeers what was read of the host.
type watched struct {
	reconcile.Kernel
	read dataplane.Tables
}

func (w *watched) Observe(ctx context.Context, scope dataplane.Scope) (dataplane.State, dataplane.Facts, error) {
	w.read |= scope[dataplane.Host]
	return w.Kernel.Observe(ctx, scope)
}

// guarded is the state of wanted with a guard of its tunnel and one peer.
func guarded() dataplane.State {
	s := wanted()
	peer := dataplane.Peer(netip.MustParseAddr("192.168.77.2"), 5, netip.MustParsePrefix("10.64.2.0/24"))
	s.Add(dataplane.Set{SetKey: peer.Set}, peer, dataplane.NewGuard(dataplane.NFInet, "chain tunnel", "ip saddr . @th,96,24 . @th,336,32 & 0xffffff00 @peers_ipv4_24_over_ipv4 accept"))
	return s
}

// TestElementsAreBelieved: a pass that adds an element reads no set, whatever else it
// does, and owes the reading; a pass that makes sets reads them.
func TestElementsAreBelieved(t *testing.T) {
	k := &watched{Kernel: newKernel()}
	r := reconcile.New(k)
	want := guarded()
	if rep := pass(t, r, want); rep.Err != nil || len(rep.Outcomes) > 0 {
		t.Fatal(rep)
	}
	k.read = 0
	bridge := want.Links[dataplane.LinkKey{Name: "ovb5"}]
	bridge.MTU = 1400 // a change after which more is read
	want.Add(bridge, dataplane.Peer(netip.MustParseAddr("192.168.77.3"), 5, netip.MustParsePrefix("10.64.3.0/24")))
	if rep := r.Apply(t.Context(), want, time.Now); rep.Applied != 2 || len(rep.Outcomes) > 0 {
		t.Fatalf("%d operations, %v; want 2", rep.Applied, rep.Outcomes)
	}
	if k.read.Has(dataplane.TableElement) || !k.read.Has(dataplane.TableLink) {
		t.Errorf("read %b; want links, and no elements", k.read)
	}
	if !r.Owed()[dataplane.Host].Has(dataplane.TableElement) {
		t.Error("the reading of elements is not owed")
	}
	if rep := r.Apply(t.Context(), want, time.Now); rep.Applied != 0 {
		t.Errorf("a second pass did %d operations", rep.Applied)
	}
	if rep := pass(t, r, want); rep.Applied != 0 {
		t.Errorf("a pass that read everything did %d operations", rep.Applied)
	}
}

// TestRefusedElements: an element that cannot be made delays nothing but itself, and a
// guard that cannot be made delays what it would guard.
func TestRefusedElements(t *testing.T) {
	veth := dataplane.Link{LinkKey: dataplane.LinkKey{NS: web, Name: "eth0"}, Kind: dataplane.Veth, MAC: cluster.MAC{2, 3}, MTU: 1450, Up: true, Alias: dataplane.AliasPrefix + "blue/web", Peer: "ove1"}
	end := dataplane.Link{LinkKey: dataplane.LinkKey{Name: "ove1"}, Kind: dataplane.Veth, MAC: cluster.MAC{2, 4}, MTU: 1450, Up: true, Alias: dataplane.AliasPrefix + "blue/web", Master: "ovb5"}
	source := dataplane.Source("ove1", cluster.MAC{2, 3}, netip.MustParseAddr("10.64.1.2"))
	guard := dataplane.NewGuard(dataplane.NFBridge, "chain frames", "counter drop")
	for _, c := range []struct {
		name    string
		fails   dataplane.Key
		waiting []dataplane.Key
	}{
		{"element", source.Key(), nil},
		{"guard of the bridges", guard.Key(), []dataplane.Key{end.Key()}},
		{"set", source.Set, []dataplane.Key{source.Key(), guard.Key(), end.Key()}},
		{"guard of the tunnel", dataplane.GuardKey{In: dataplane.NFInet}, []dataplane.Key{dataplane.LinkKey{Name: "ovx5"}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			inner := newKernel()
			inner.AddNamespace(web)
			k := &fake.Faults{Kernel: inner, Keys: map[dataplane.Key]reconcile.Class{c.fails: reconcile.Refused}}
			want := guarded()
			want.Add(dataplane.Set{SetKey: source.Set}, source, guard, veth, end)
			rep := pass(t, reconcile.New(k), want)
			blocked := map[dataplane.Key]bool{}
			for _, o := range rep.Outcomes {
				blocked[o.Row.Key()] = true
			}
			for _, key := range append(c.waiting, c.fails) {
				if !blocked[key] {
					t.Errorf("%s is in place", key)
				}
			}
			if _, there := inner.State().Get(veth.Key()); !there {
				t.Error("the container's own end is not there")
			}
			if len(c.waiting) == 0 && len(rep.Outcomes) != 1 {
				t.Errorf("outcomes %v; want one", rep.Outcomes)
			}
		})
	}
}

// TestManyElements: many go together; where one is wrong the others arrive all the
// same, and it is named.
func TestManyElements(t *testing.T) {
	want := guarded()
	subnet := netip.MustParsePrefix("10.64.2.0/24")
	for i := range byte(20) {
		want.Add(dataplane.Peer(netip.AddrFrom4([4]byte{192, 168, 78, i}), 5, subnet))
	}
	wrong := dataplane.Element{ElementKey: dataplane.ElementKey{Set: dataplane.PeerSet(dataplane.IPv4, subnet), Addr: netip.MustParseAddr("fd77::1"), From: subnet.Addr()}}
	for _, broken := range []bool{false, true} {
		k := newKernel()
		r := reconcile.New(k)
		want := want.Clone()
		if broken {
			want.Add(wrong)
		}
		rep := pass(t, r, want)
		if broken != (len(rep.Outcomes) == 1) || rep.Applied+len(rep.Outcomes) != want.Len() {
			t.Errorf("%d of %d operations, %v", rep.Applied, want.Len(), rep.Outcomes)
		}
		want.Delete(wrong.ElementKey)
		if got := k.State(); len(got.Elements) != len(want.Elements) {
			t.Errorf("%d elements; want %d", len(got.Elements), len(want.Elements))
		}
		if broken && rep.Outcomes[0].Row.Key() != wrong.Key() {
			t.Errorf("%v; want %s", rep.Outcomes, wrong)
		}
	}
}
