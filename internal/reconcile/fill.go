package reconcile

import (
	"context"

	"github.com/ovlnet/ovl/internal/dataplane"
)

// Filler is a [Kernel] that can make many elements of sets in the time of few: each
// transaction of nf_tables costs ten times what an element does, and has every
// other program that reads it begin again.
type Filler interface {
	// Fill makes all of the elements. After an error each has an operation of its
	// own, which tells what is wrong with which.
	Fill(ctx context.Context, elements []dataplane.Element) error
}

// minFill is how many elements are made together.
const minFill = 8

// fill has the elements at the head of ops made together, if they are many. Their
// operations then have nothing to do.
func (p *pass) fill(ctx context.Context, ops []dataplane.Op) {
	f, ok := p.r.kernel.(Filler)
	if !ok || p.filled > 0 || len(p.stopped) > 0 || !fillable(ops[0]) {
		return
	}
	var elements []dataplane.Element
	for _, op := range ops {
		if h := p.r.rows[op.Row.Key()]; !fillable(op) || h != nil && h.outcome.Next.After(p.now()) {
			break
		}
		elements = append(elements, op.Row.(dataplane.Element))
	}
	if len(elements) >= minFill && f.Fill(ctx, elements) == nil {
		p.filled = len(elements)
	}
}

func fillable(op dataplane.Op) bool {
	_, ok := op.Row.(dataplane.Element)
	return ok && op.Verb == dataplane.Create
}

// apply does one operation, unless fill has.
func (p *pass) apply(ctx context.Context, op dataplane.Op) error {
	if p.filled > 0 {
		p.filled--
		return nil
	}
	return p.r.kernel.Apply(ctx, op)
}
