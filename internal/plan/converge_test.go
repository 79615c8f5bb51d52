package plan_test

import (
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/ovlnet/ovl/internal/dataplane"
	"github.com/ovlnet/ovl/internal/kernel/fake"
	"github.com/ovlnet/ovl/internal/plan"
	"github.com/ovlnet/ovl/internal/reconcile"
)

func wants(w world) dataplane.State {
	return plan.Plan(w.shuffled(rand.New(rand.NewPCG(1, 1)))).State
}

// newKernel is a host with an uplink and the namespaces of the given worlds'
// containers.
func newKernel(ws ...world) *fake.Kernel {
	k := fake.New(hostLinks...)
	for _, w := range ws {
		for _, att := range w.local.Attachments {
			k.AddNamespace(dataplane.NS(att.NetNS))
		}
	}
	return k
}

func full(ws ...world) dataplane.Scope {
	s := dataplane.FullScope()
	for _, w := range ws {
		for _, att := range w.local.Attachments {
			s.Add(dataplane.NS(att.NetNS), dataplane.NSTables)
		}
	}
	return s
}

// sameButSysctls compares states; a sysctl that is no longer wanted stays.
func sameButSysctls(t *rapid.T, when string, want, have dataplane.State) {
	have = have.Clone()
	for k := range have.Sysctls {
		if _, ok := want.Sysctls[k]; !ok {
			delete(have.Sysctls, k)
		}
	}
	for _, r := range want.Rows() {
		if h, ok := have.Get(r.Key()); !ok || !r.Same(h) {
			t.Fatalf("%s: want %s, have %v", when, r, h)
		}
	}
	if have.Len() != want.Len() {
		t.Fatalf("%s: more than is wanted:\n%s\nwant\n%s", when, have, want)
	}
}

// TestConvergence is the second and third law, from any cluster to any other:
// one pass arrives, and the next finds nothing to do.
func TestConvergence(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		before, after := drawWorld(t), drawWorld(t)
		k := newKernel(before, after)
		rec := reconcile.New(k)
		scope := full(before, after)
		for i := range rapid.IntRange(0, 3).Draw(t, "flows") {
			to := netip.AddrPortFrom(netip.MustParseAddr("192.168.77.1"), uint16(80+i))
			k.SetFlow(dataplane.Flow{FlowKey: dataplane.FlowKey{From: netip.MustParseAddrPort("192.168.77.9:4000"), To: to}, Via: to})
		}
		for i, w := range []world{before, after} {
			if _, err := rec.Observe(t.Context(), scope); err != nil {
				t.Fatal(err)
			}
			rep := rec.Apply(t.Context(), wants(w), time.Now)
			if rep.Err != nil || len(rep.Outcomes) > 0 {
				t.Fatalf("world %d: %v %v", i, rep.Err, rep.Outcomes)
			}
			sameButSysctls(t, "after a pass", wants(w), k.State())
			if believed, read := rec.Have().String(), k.State().String(); believed != read {
				t.Fatalf("world %d: believed\n%s\nbut a reading finds\n%s", i, believed, read)
			}
			if _, err := rec.Observe(t.Context(), scope); err != nil {
				t.Fatal(err)
			}
			if rep := rec.Apply(t.Context(), wants(w), time.Now); rep.Applied != 0 {
				t.Fatalf("a second pass did %d operations", rep.Applied)
			}
		}
	})
}

// TestCrashAnywhere is the fourth law: after any prefix of the operations, a
// process that knows nothing still arrives in one pass.
func TestCrashAnywhere(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		before, after := drawWorld(t), drawWorld(t)
		k := newKernel(before, after)
		scope := full(before, after)
		run := func(kernel reconcile.Kernel, w world) reconcile.Report {
			rec := reconcile.New(kernel)
			if _, err := rec.Observe(t.Context(), scope); err != nil {
				t.Fatal(err)
			}
			return rec.Apply(t.Context(), wants(w), time.Now)
		}
		run(k, before)
		run(&fake.Faults{Kernel: k, StopAfter: rapid.IntRange(1, 60).Draw(t, "operations")}, after)
		if rep := run(k, after); rep.Err != nil || len(rep.Outcomes) > 0 {
			t.Fatalf("after the crash: %v %v", rep.Err, rep.Outcomes)
		}
		sameButSysctls(t, "after the crash", wants(after), k.State())
	})
}

// TestModesty is the fifth law: what is not ours is never touched.
func TestModesty(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := drawWorld(t)
		k := newKernel(w)
		foreign := dataplane.Route{RouteKey: dataplane.RouteKey{Dst: netip.MustParsePrefix("203.0.113.0/24")}, Link: "eth0"}
		if err := k.SetForeignRoute(foreign); err != nil {
			t.Fatal(err)
		}
		for _, state := range []dataplane.State{wants(w), {}} {
			rec := reconcile.New(k)
			if _, err := rec.Observe(t.Context(), full(w)); err != nil {
				t.Fatal(err)
			}
			rec.Apply(t.Context(), state, time.Now)
		}
		sameButSysctls(t, "after all of ours went", dataplane.State{}, k.State())
		_, facts, err := k.Observe(t.Context(), dataplane.FullScope())
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Contains(facts.Host.Routes, foreign.Dst) || len(facts.Host.Links) != 2 || len(facts.Host.Links[0].Addrs) != 2 {
			t.Fatalf("what is not ours was touched: %+v", facts.Host)
		}
	})
}
