package reconcile_test

import (
	"testing"
	"time"

	"github.com/ovlnet/ovl/internal/cluster"
	"github.com/ovlnet/ovl/internal/dataplane"
	"github.com/ovlnet/ovl/internal/kernel/fake"
	"github.com/ovlnet/ovl/internal/reconcile"
)

const sandbox = dataplane.NS("/run/docker/netns/0123")

// pair is the rows of a veth whose container's end waits on the host.
func pair(alias string) dataplane.State {
	return dataplane.NewState(
		dataplane.Link{LinkKey: dataplane.LinkKey{Name: "ovp1"}, Kind: dataplane.Veth, MAC: cluster.MAC{2, 1}, MTU: 1450, Alias: alias, Peer: "ove1"},
		dataplane.Link{LinkKey: dataplane.LinkKey{Name: "ove1"}, Kind: dataplane.Veth, MAC: cluster.MAC{2, 2}, MTU: 1450, Up: true, Alias: alias},
	)
}

// TestLend: what somebody else moves is neither made again nor taken away, also in the
// later rounds of a pass; and when it is given back, it counts as it is by then.
func TestLend(t *testing.T) {
	const alias = dataplane.AliasPrefix + "blue/web"
	k := fake.New()
	k.AddNamespace(sandbox)
	rec := reconcile.New(k)
	scope := dataplane.FullScope(sandbox)
	pass := func(want dataplane.State) reconcile.Report {
		t.Helper()
		if _, err := rec.Observe(t.Context(), scope); err != nil {
			t.Fatal(err)
		}
		rep := rec.Apply(t.Context(), want, time.Now)
		if rep.Err != nil || len(rep.Outcomes) > 0 {
			t.Fatalf("%v %v", rep.Err, rep.Outcomes)
		}
		return rep
	}
	offered := pair(alias)
	pass(offered)

	rec.Lend(map[string]bool{alias: true})
	if rep := pass(dataplane.State{}); rep.Applied != 0 || len(rec.Have().Links) != 0 || len(rec.Lent().Links) != 2 {
		t.Fatalf("%d operations; have %s lent %s", rep.Applied, rec.Have(), rec.Lent())
	}
	// In the middle of a pass with other work, the engine moves it.
	if err := k.Move(dataplane.LinkKey{Name: "ovp1"}, dataplane.LinkKey{NS: sandbox, Name: "eth0"}); err != nil {
		t.Fatal(err)
	}
	other := dataplane.NewState(dataplane.Link{LinkKey: dataplane.LinkKey{Name: "ovb1"}, Kind: dataplane.Bridge, MAC: cluster.MAC{2, 3}, MTU: 1450, Up: true, Alias: dataplane.AliasPrefix + "blue/gateway"})
	if rep := pass(other); rep.Applied != 1 {
		t.Errorf("%d operations: want the bridge alone", rep.Applied)
	}
	moved := dataplane.LinkKey{NS: sandbox, Name: "eth0"}
	if _, ok := rec.Lent().Links[moved]; !ok {
		t.Errorf("lent: %s", rec.Lent())
	}
	for _, l := range k.State().Links {
		if l.Name == "ovp1" {
			t.Error("it was made again")
		}
	}

	rec.Lend(nil)
	if _, ok := rec.Have().Links[moved]; !ok || len(rec.Lent().Links) != 0 {
		t.Errorf("have %s, lent %s", rec.Have(), rec.Lent())
	}
	pass(dataplane.State{}) // unwanted now, like anything
	if left := k.State().Links; len(left) != 0 {
		t.Errorf("left: %v", left)
	}
}
