package kerneltest

import (
	"testing"

	"github.com/ovlnet/ovl/internal/dataplane"
	"github.com/ovlnet/ovl/internal/reconcile"
)

// testChainsTogether: chains that are written together are there as they would be
// one by one, all or none, whatever was there before.
func testChainsTogether(t *testing.T, h Harness) {
	g, ok := h.Kernel().(reconcile.Grouper)
	if !ok {
		t.Fatal("it writes chains one by one")
	}
	chain := func(name string, rules ...string) dataplane.Chain {
		return dataplane.NewChain(dataplane.ChainKey{Family: dataplane.IPv4, FirewallOf: "nat", Name: name}, rules...)
	}
	leaf, other := chain("OVL-A", "-p tcp -m tcp --dport 80 -j DNAT --to-destination 10.64.1.2:80"), chain("OVL-B", "-p tcp -m tcp --dport 81 -j RETURN")
	root := chain("OVL-C", "-p tcp -m tcp --dport 80 -j OVL-A", "-p tcp -m tcp --dport 81 -j OVL-B")
	write := func(rows ...dataplane.Chain) error {
		var ops []dataplane.Op
		for _, r := range rows {
			ops = append(ops, dataplane.Op{Verb: dataplane.Create, Row: r})
		}
		return g.WriteChains(t.Context(), ops)
	}
	expect := func(rows ...dataplane.Chain) {
		t.Helper()
		want := dataplane.State{}
		for _, r := range rows {
			want.Add(r)
		}
		got := dataplane.State{Chains: observe(t, h).Chains}
		equal(t, want, got)
	}
	if err := write(leaf, other, root); err != nil {
		t.Fatal(err)
	}
	expect(leaf, other, root)
	changed := chain("OVL-A", "-p tcp -m tcp --dport 82 -j RETURN")
	if err := write(changed, chain("OVL-D", "-j OVL-NOWHERE")); err == nil {
		t.Error("a chain that leads nowhere was written")
	}
	expect(leaf, other, root)
	if err := write(changed, root); err != nil {
		t.Fatal(err)
	}
	expect(changed, other, root)
	apply(t, h, dataplane.Delete, root) // by itself: nothing leads to it
	apply(t, h, dataplane.Delete, root)
	expect(changed, other)
}
