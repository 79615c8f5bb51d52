package dataplane

import (
	"cmp"
	"fmt"
	"net/netip"
)

// FlowKey identifies a flow of UDP that connection tracking knows: the way of its
// first packet.
type FlowKey struct {
	From, To netip.AddrPort
}

// Flow is a flow of UDP that goes where our rules for published ports do not lead
// it any more, or not yet: a translation lasts as long as packets come, whatever
// becomes of the rule that it was made by. None is ever wanted. TCP needs none of
// this: its ends notice.
type Flow struct {
	FlowKey
	Via netip.AddrPort // where it goes now
}

// Table implements [Key].
func (k FlowKey) Table() Table { return TableFlow }

// Namespace implements [Key].
func (k FlowKey) Namespace() NS { return Host }

func (k FlowKey) String() string { return fmt.Sprintf("flow udp %s -> %s", k.From, k.To) }

// Key implements [Row].
func (r Flow) Key() Key { return r.FlowKey }

// Same implements [Row].
func (r Flow) Same(o Row) bool { return Row(r) == o }

func (r Flow) String() string { return fmt.Sprintf("%s via %s", r.FlowKey, r.Via) }

func compareFlow(a, b Flow) int {
	return cmp.Or(a.To.Compare(b.To), a.From.Compare(b.From))
}

// staleFlows returns the operations that take away the flows of have: what is not
// tracked any more is translated anew.
func staleFlows(have State) []Op {
	ops := make([]Op, 0, len(have.Flows))
	for _, f := range sorted(have.Flows, compareFlow) {
		ops = append(ops, Op{Delete, f, "not where the rules lead it"})
	}
	return ops
}
