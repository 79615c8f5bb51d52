package reconcile

import (
	"context"

	"github.com/ovlnet/ovl/internal/dataplane"
)

// Sweeper is a [Kernel] that can delete many links in the time of one. Linux waits
// for all its processors after each deletion (unregister_netdevice_many and
// rcu_barrier in net/core/dev.c): 10 ms and more, a quarter of a minute for a
// thousand containers, and 0.1 s if they go together.
type Sweeper interface {
	// Sweep deletes the host's ends of veths, as far as they are there and ours. It
	// promises nothing: each link has an operation of its own, which follows, and
	// which finds it gone.
	Sweep(ctx context.Context, links []dataplane.Link)
}

// minSweep is how many links are worth a sweep, which reads all links.
const minSweep = 4

// sweep has the veths at the head of ops deleted together, if they are the first of
// several.
func (p *pass) sweep(ctx context.Context, ops []dataplane.Op) {
	s, ok := p.r.kernel.(Sweeper)
	if !ok || p.swept || !sweepable(ops[0]) {
		return
	}
	var links []dataplane.Link
	for _, op := range ops {
		if !sweepable(op) {
			break
		}
		links = append(links, op.Row.(dataplane.Link))
	}
	if p.swept = true; len(links) >= minSweep {
		s.Sweep(ctx, links)
	}
}

func sweepable(op dataplane.Op) bool {
	l, ok := op.Row.(dataplane.Link)
	return ok && op.Verb == dataplane.Delete && l.NS == dataplane.Host && l.Kind == dataplane.Veth
}
