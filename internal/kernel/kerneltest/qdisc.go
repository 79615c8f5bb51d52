package kerneltest

import (
	"testing"

	"github.com/ovlnet/ovl/internal/dataplane"
	"github.com/ovlnet/ovl/internal/reconcile"
)

// testQdisc: the fields of a token bucket read back from its smallest to its
// largest; somebody else's is neither seen nor replaced nor removed, and goes with
// its link.
func testQdisc(t *testing.T, h Harness) {
	a := h.Namespace(t)
	want := world(a)
	settle(t, h, want, a)
	inside := dataplane.QdiscKey{NS: a, Link: "eth0"}
	for _, r := range []dataplane.Qdisc{
		dataplane.NewQdisc(inside, 8_000, 1_500), dataplane.NewQdisc(inside, 8_000, 1<<40), dataplane.NewQdisc(inside, 1_250_000_000, 1),
		dataplane.NewQdisc(inside, 1<<32-1, 1<<40), dataplane.NewQdisc(inside, 123_457, 9_999),
	} {
		next := want.Clone()
		next.Add(r)
		pass(t, h, next, -1, a)
		equal(t, next, observe(t, h, a))
	}

	h.Remove(t, inside)
	h.SetForeignQdisc(t, inside)
	if got, ok := observe(t, h, a).Get(inside); ok {
		t.Errorf("somebody else's is seen as ours: %s", got)
	}
	mine := want.Qdiscs[inside]
	refuse(t, h, reconcile.Refused, dataplane.Create, mine)
	apply(t, h, dataplane.Delete, mine)
	refuse(t, h, reconcile.Refused, dataplane.Create, mine) // it was left where it is
	h.Remove(t, inside)
	settle(t, h, want, a)

	link := want.Links[dataplane.LinkKey{NS: a, Name: "eth0"}]
	apply(t, h, dataplane.Delete, link)
	refuse(t, h, reconcile.Gone, dataplane.Create, mine)
	settle(t, h, want, a)
}
