package reconcile

import (
	"context"
	"strings"

	"github.com/ovlnet/ovl/internal/dataplane"
)

// Grouper is a [Kernel] that can write several chains of one table in one go: one
// program is started, and one transaction done, instead of several.
type Grouper interface {
	// WriteChains does the operations, each of which makes or updates a chain of
	// the same table and family, all or none of them.
	WriteChains(ctx context.Context, ops []dataplane.Op) error
}

// chains has the chains at the head of ops written together and returns how many
// were. If they cannot be, it returns none: one by one it will be seen which of
// them it is.
func (p *pass) chains(ctx context.Context, ops []dataplane.Op) int {
	g, ok := p.r.kernel.(Grouper)
	if !ok {
		return 0
	}
	n := 0
	for n < len(ops) && p.groups(ops[0], ops[n]) {
		n++
	}
	if n < 2 || g.WriteChains(ctx, ops[:n]) != nil {
		return 0
	}
	for _, op := range ops[:n] {
		p.sure(op)
	}
	return n
}

// groups reports whether an operation can be done together with the first one.
func (p *pass) groups(first, op dataplane.Op) bool {
	a, ok := first.Row.(dataplane.Chain)
	b, is := op.Row.(dataplane.Chain)
	if !ok || !is || first.Verb == dataplane.Delete || op.Verb == dataplane.Delete || a.Family != b.Family || a.FirewallOf != b.FirewallOf {
		return false
	}
	h := p.r.rows[b.ChainKey]
	return h == nil || !h.outcome.Next.After(p.now())
}

// sure records an operation of which it is known for sure what it left: nothing
// else goes with the row or takes it along, it was written in a transaction, and
// whoever else writes there is announced. So it is believed, whatever else the
// pass does, until everything is read.
func (p *pass) sure(op dataplane.Op) {
	if c, ok := op.Row.(dataplane.Chain); ok && p.translates(c) {
		p.flows = true
	}
	p.r.believe([]dataplane.Op{op}, dataplane.Scope{})
	p.applied++
	p.r.repaired(op, p.now())
}

// translates reports whether a chain, as it is to be or as it was, translates UDP:
// then flows may be left that it does not lead where they go.
func (p *pass) translates(c dataplane.Chain) bool {
	return c.FirewallOf == "nat" && (strings.Contains(c.Rules, "-p udp ") || strings.Contains(p.r.have.Chains[c.ChainKey].Rules, "-p udp "))
}
