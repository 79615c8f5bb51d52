package reconcile_test

import (
	"context"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ovlnet/ovl/internal/cluster"
	"github.com/ovlnet/ovl/internal/dataplane"
	"github.com/ovlnet/ovl/internal/kernel/fake"
	"github.com/ovlnet/ovl/internal/reconcile"
)

const web = dataplane.NS("/run/netns/web")

func segment(bridge, vxlan string, vni cluster.VNI, gateway string) []dataplane.Row {
	own := netip.MustParsePrefix(gateway)
	return []dataplane.Row{
		dataplane.Link{
			LinkKey: dataplane.LinkKey{Name: bridge}, Kind: dataplane.Bridge, MAC: cluster.MAC{2, 1, byte(vni)},
			MTU: 1450, Up: true, Alias: dataplane.AliasPrefix + bridge,
		},
		dataplane.Link{
			LinkKey: dataplane.LinkKey{Name: vxlan}, Kind: dataplane.VXLAN, MAC: cluster.MAC{2, 2, byte(vni)}, MTU: 1450, Up: true,
			Alias: dataplane.AliasPrefix + vxlan, VXLAN: dataplane.VXLANAttrs{VNI: vni, Port: 4789, Local: netip.MustParseAddr("192.168.77.1")},
		},
		dataplane.Addr{AddrKey: dataplane.AddrKey{Link: bridge, Prefix: own}},
		dataplane.Route{RouteKey: dataplane.RouteKey{Dst: own.Masked()}, Link: bridge, Src: own.Addr()},
	}
}

func peer(vxlan string, n byte) []dataplane.Row {
	via := netip.AddrFrom4([4]byte{10, 64, n, 0})
	mac := cluster.MAC{2, 9, n}
	return []dataplane.Row{
		dataplane.Neigh{NeighKey: dataplane.NeighKey{Link: vxlan, IP: via}, MAC: mac},
		dataplane.FDB{FDBKey: dataplane.FDBKey{Link: vxlan, MAC: mac}, Dst: netip.AddrFrom4([4]byte{192, 168, 77, n})},
		dataplane.Route{RouteKey: dataplane.RouteKey{Dst: netip.PrefixFrom(via, 24)}, Link: vxlan, Via: via, OnLink: true},
	}
}

func wanted() dataplane.State {
	s := dataplane.NewState(segment("ovb5", "ovx5", 5, "10.64.1.1/24")...)
	s.Add(peer("ovx5", 2)...)
	s.Add(peer("ovx5", 3)...)
	return s
}

func newKernel() *fake.Kernel {
	return fake.New(dataplane.HostLink{Name: "eth0", MTU: 1500, Up: true, Addrs: []netip.Prefix{netip.MustParsePrefix("192.168.77.1/24")}})
}

func pass(t *testing.T, r *reconcile.Reconciler, want dataplane.State) reconcile.Report {
	t.Helper()
	if _, err := r.Observe(t.Context(), dataplane.FullScope()); err != nil {
		t.Fatal(err)
	}
	return r.Apply(t.Context(), want, time.Now)
}

// TestOneFailureDelaysNoOther: a row that cannot be written costs only itself
// and what requires it.
func TestOneFailureDelaysNoOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bad := dataplane.NeighKey{Link: "ovx5", IP: netip.MustParseAddr("10.64.2.0")}
		k := newKernel()
		faults := &fake.Faults{Kernel: k, Keys: map[dataplane.Key]reconcile.Class{bad: reconcile.Refused}}
		r := reconcile.New(faults)
		rep := pass(t, r, wanted())

		got := map[string]reconcile.Condition{}
		for _, o := range rep.Outcomes {
			got[o.Row.Key().String()] = o.Condition
		}
		want := map[string]reconcile.Condition{bad.String(): reconcile.Failed, "route 10.64.2.0/24": reconcile.Blocked}
		if len(got) != len(want) || got[bad.String()] != reconcile.Failed || got["route 10.64.2.0/24"] != reconcile.Blocked {
			t.Fatalf("outcomes %v, want %v", got, want)
		}
		if _, ok := k.State().Routes[dataplane.RouteKey{Dst: netip.MustParsePrefix("10.64.3.0/24")}]; !ok {
			t.Error("the other peer was delayed")
		}
		if rep.Failure(func(r dataplane.Row) bool { return r.Key() == bad }) == nil {
			t.Error("Failure does not tell of the row")
		}

		// It waits for its back-off, then heals when the cause is gone.
		tried := faults.Applied()
		pass(t, r, wanted())
		if n := faults.Applied() - tried; n != 0 {
			t.Errorf("%d operations tried during the back-off", n)
		}
		time.Sleep(time.Until(r.NextTry())) // synctest's clock: no time passes
		delete(faults.Keys, bad)
		if rep := pass(t, r, wanted()); len(rep.Outcomes) != 0 {
			t.Errorf("after the cause has gone: %v", rep.Outcomes)
		}
		if !r.NextTry().IsZero() {
			t.Error("a healed row still has a back-off")
		}
	})
}

// TestBackoffGrows: a row that stays refused is tried ever more slowly.
func TestBackoffGrows(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bad := dataplane.LinkKey{Name: "ovx5"}
		faults := &fake.Faults{Kernel: newKernel(), Keys: map[dataplane.Key]reconcile.Class{bad: reconcile.Refused}}
		r := reconcile.New(faults)
		start := time.Now()
		for range 12 {
			pass(t, r, wanted())
			time.Sleep(time.Until(r.NextTry()))
		}
		if d := time.Since(start); d < 100*time.Second || d > 10*time.Minute {
			t.Errorf("12 tries took %v", d)
		}
	})
}

// TestGoneIsLookedAtAgain: an operation that finds the world changed makes the
// same pass look again and arrive.
func TestGoneIsLookedAtAgain(t *testing.T) {
	k := newKernel()
	faults := &fake.Faults{Kernel: k, Nth: map[int]reconcile.Class{2: reconcile.Gone}}
	r := reconcile.New(faults)
	if rep := pass(t, r, wanted()); len(rep.Outcomes) != 0 {
		t.Fatalf("outcomes %v", rep.Outcomes)
	}
	if ops := dataplane.Diff(wanted(), k.State()); len(ops) != 0 {
		t.Errorf("left to do: %v", ops)
	}
}

// TestContended: a row that somebody else keeps undoing is reported and put
// back more slowly; left in peace, it is forgotten.
func TestContended(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newKernel()
		r := reconcile.New(k)
		pass(t, r, wanted())
		key := dataplane.RouteKey{Dst: netip.MustParsePrefix("10.64.2.0/24")}
		var rep reconcile.Report
		undone := 0
		for range 100 {
			if k.Remove(key) == nil {
				undone++
			}
			rep = pass(t, r, wanted())
			time.Sleep(50 * time.Millisecond)
		}
		if len(rep.Outcomes) != 1 || rep.Outcomes[0].Condition != reconcile.Contended {
			t.Fatalf("outcomes %v, want the route contended", rep.Outcomes)
		}
		if rep.Failure(func(dataplane.Row) bool { return true }) != nil {
			t.Error("a contended row counts as a failure")
		}
		time.Sleep(time.Minute)
		pass(t, r, wanted())
		time.Sleep(time.Minute)
		if rep := pass(t, r, wanted()); len(rep.Outcomes) != 0 {
			t.Errorf("left in peace: %v", rep.Outcomes)
		}
		if _, ok := k.State().Routes[key]; !ok {
			t.Error("the route is not back")
		}
	})
}

// TestBlindPassChangesNothing: what could not be read whole is not acted on.
func TestBlindPassChangesNothing(t *testing.T) {
	faults := &fake.Faults{Kernel: newKernel(), Blind: context.DeadlineExceeded}
	r := reconcile.New(faults)
	if _, err := r.Observe(t.Context(), dataplane.FullScope()); err == nil {
		t.Fatal("Observe hides the error")
	}
	if faults.Applied() != 0 {
		t.Error("something was applied")
	}
}

// TestVanishedNamespaceIsTold: a namespace that goes between planning and
// applying is named in the report.
func TestVanishedNamespaceIsTold(t *testing.T) {
	k := newKernel()
	r := reconcile.New(k)
	want := wanted()
	want.Add(
		dataplane.Link{LinkKey: dataplane.LinkKey{NS: web, Name: "eth0"}, Kind: dataplane.Veth, MAC: cluster.MAC{2, 3}, MTU: 1450, Up: true, Alias: "ovl/1/blue/web", Peer: "ove1"},
		dataplane.Link{LinkKey: dataplane.LinkKey{Name: "ove1"}, Kind: dataplane.Veth, MAC: cluster.MAC{0xfe}, MTU: 1450, Up: true, Alias: "ovl/1/blue/web", Master: "ovb5"},
	)
	rep := pass(t, r, want)
	if len(rep.Gone) == 0 || rep.Gone[0] != web {
		t.Errorf("Gone = %v, want %s; outcomes %v", rep.Gone, web, rep.Outcomes)
	}
	if len(k.State().Routes) != 3 {
		t.Errorf("the rest was delayed: %s", k.State())
	}
}

// TestRestDoesNothing: at rest a pass is no work for the kernel.
func TestRestDoesNothing(t *testing.T) {
	k := newKernel()
	faults := &fake.Faults{Kernel: k}
	r := reconcile.New(faults)
	pass(t, r, wanted())
	n := faults.Applied()
	pass(t, r, wanted())
	if faults.Applied() != n {
		t.Errorf("%d operations at rest", faults.Applied()-n)
	}
}
