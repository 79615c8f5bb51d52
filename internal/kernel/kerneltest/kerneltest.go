// Package kerneltest is the suite that every [reconcile.Kernel] must pass: the
// laws of docs/design on real rows of every table, in both families, with
// objects of others beside them. The fake passes it and so does Linux, so that
// a test over the fake means something.
//
// It must never look at a kernel but through what [Harness] offers. Its
// invariant: it compares states and never asks Diff whether a pass is done.
package kerneltest

import (
	"fmt"
	"testing"

	"github.com/ovlnet/ovl/internal/dataplane"
	"github.com/ovlnet/ovl/internal/reconcile"
)

// Uplink is the link that a new harness's host has besides a loopback: up, with
// the addresses 192.0.2.1/24 and 2001:db8::1/64 and an IPv4 default route.
const Uplink = "uplink0"

// Harness is one host whose kernel is under test, and the hands of an operator
// on it: these work by other means than the kernel under test. They fail the
// test if they cannot.
type Harness interface {
	Kernel() reconcile.Kernel
	// Can reports whether the kernel has links of that kind. The suite then holds
	// it either to what they do, or to the refusal.
	Can(dataplane.LinkKind) bool
	// Namespace makes an empty network namespace, with its loopback up.
	Namespace(t testing.TB) dataplane.NS
	RemoveNamespace(t testing.TB, ns dataplane.NS)
	// Set makes or changes a row as an operator would, whoever's it is. A link
	// that is made so has the row's alias, perhaps none; a chain's rules have no
	// comment.
	Set(t testing.TB, r dataplane.Row)
	// SetForeignRoute makes a route of another protocol number than ours.
	SetForeignRoute(t testing.TB, r dataplane.Route)
	// SetForeignQdisc puts something that is not ours at the root of a link.
	SetForeignQdisc(t testing.TB, k dataplane.QdiscKey)
	// Remove deletes a row as an operator would.
	Remove(t testing.TB, k dataplane.Key)
	// Foreign describes all that is not ours on the host, for comparison.
	Foreign(t testing.TB) string
}

// Run runs the suite; open makes a new host for each of its tests.
func Run(t *testing.T, open func(t *testing.T) Harness) {
	t.Helper()
	for _, c := range []struct {
		name string
		test func(*testing.T, Harness)
	}{
		{"empty host has no rows", testEmpty},
		{"rows read back equal and at rest", testRoundTrip},
		{"parts of a scope", testScope},
		{"uninstall leaves nothing", testUninstall},
		{"update of every table", testUpdate},
		{"hand deletes", testHandDeletes},
		{"hand alters", testHandAlters},
		{"hand adds", testHandAdds},
		{"deleting what is gone", testDeleteGone},
		{"half-made links", testHalfMade},
		{"many elements at once", testFill},
		{"links made anew", testReplacedLinks},
		{"parameters of a link", testLinkSysctl},
		{"what shapes a link", testQdisc},
		{"many links go together", testSweep},
		{"chains are written together", testChainsTogether},
		{"an address that moves to another link", testMovedAddress},
		{"links on a link", testParents},
		{"links on a VLAN", testVLAN},
		{"foreign objects are not seen nor touched", testModesty},
		{"foreign objects in the way are refused", testRefusals},
		{"what is missing is gone", testMissing},
		{"namespace vanishes", testNamespaceVanishes},
		{"facts of the host", testFacts},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel() // Linux waits more than it works
			c.test(t, open(t))
		})
	}
	for shard := range crashShards {
		t.Run(fmt.Sprintf("crash anywhere, %d of %d", shard+1, crashShards), func(t *testing.T) {
			t.Parallel()
			testCrash(t, open(t), shard)
		})
	}
}

// observe returns the rows of the host and of namespaces.
func observe(t testing.TB, h Harness, namespaces ...dataplane.NS) dataplane.State {
	t.Helper()
	s, _, err := h.Kernel().Observe(t.Context(), dataplane.FullScope(namespaces...))
	if err != nil {
		t.Fatalf("observe: %v", err)
	}
	return s
}

// pass does one pass: observe, diff, apply. It stops after limit operations if
// that is not negative, and returns how many there were to do.
func pass(t testing.TB, h Harness, want dataplane.State, limit int, namespaces ...dataplane.NS) int {
	t.Helper()
	ops := dataplane.Diff(want, observe(t, h, namespaces...))
	for i, op := range ops {
		if limit >= 0 && i == limit {
			break
		}
		if err := h.Kernel().Apply(t.Context(), op); err != nil {
			t.Fatalf("operation %d of %d (%s): %v", i+1, len(ops), op, err)
		}
	}
	return len(ops)
}

// settle passes until the state is want, at most twice: what a hand did to a
// link may take along rows that the first observation still saw.
func settle(t testing.TB, h Harness, want dataplane.State, namespaces ...dataplane.NS) {
	t.Helper()
	pass(t, h, want, -1, namespaces...)
	if same(want, observe(t, h, namespaces...)) {
		return
	}
	pass(t, h, want, -1, namespaces...)
	equal(t, want, observe(t, h, namespaces...))
}

// same compares two states row by row.
func same(want, got dataplane.State) bool {
	if want.Len() != got.Len() {
		return false
	}
	for _, w := range want.Rows() {
		if g, ok := got.Get(w.Key()); !ok || !w.Same(g) {
			return false
		}
	}
	return true
}

// equal fails the test, naming the rows, if two states differ.
func equal(t testing.TB, want, got dataplane.State) {
	t.Helper()
	for _, w := range want.Rows() {
		g, ok := got.Get(w.Key())
		switch {
		case !ok:
			t.Errorf("row is missing: %s", w)
		case !w.Same(g):
			t.Errorf("row differs:\n got %s\nwant %s", g, w)
		}
	}
	for _, g := range got.Rows() {
		if _, ok := want.Get(g.Key()); !ok {
			t.Errorf("row is there that is not wanted: %s", g)
		}
	}
	if t.Failed() {
		t.FailNow()
	}
}

// apply does one operation that must succeed.
func apply(t testing.TB, h Harness, verb dataplane.Verb, r dataplane.Row) {
	t.Helper()
	if err := h.Kernel().Apply(t.Context(), dataplane.Op{Verb: verb, Row: r, Why: "test"}); err != nil {
		t.Fatalf("%s %s: %v", verb, r, err)
	}
}

// refuse does one operation that must fail with a class.
func refuse(t testing.TB, h Harness, class reconcile.Class, verb dataplane.Verb, r dataplane.Row) {
	t.Helper()
	err := h.Kernel().Apply(t.Context(), dataplane.Op{Verb: verb, Row: r, Why: "test"})
	if err == nil {
		t.Errorf("%s %s succeeded; want it %s", verb, r, class)
	} else if got := reconcile.ClassOf(err); got != class {
		t.Errorf("%s %s: class %s, want %s: %v", verb, r, got, class, err)
	}
}
