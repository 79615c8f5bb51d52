package agent

import (
	"slices"

	"github.com/ovlnet/ovl/internal/cluster"
	"github.com/ovlnet/ovl/node-agent/lease"
)

// forgetGone lets go of the subnets of networks that were deleted, once no container is
// on them: as long as one is, that it has lost its network is told.
func (a *Agent) forgetGone(s *cluster.Snapshot, held []lease.Held, atts []cluster.Attachment) {
	if !a.proven() {
		return
	}
	for _, h := range held {
		if h.State != lease.Lost || h.NetworkCreated == 0 {
			continue
		}
		if n, ok := s.Network(h.Network); ok && n.CreateRevision == h.NetworkCreated {
			continue // another host has it
		}
		on := func(i cluster.Interface) bool {
			return i.Network == h.Network && (i.NetworkCreated == 0 || i.NetworkCreated == h.NetworkCreated)
		}
		if !slices.ContainsFunc(atts, func(att cluster.Attachment) bool { return slices.ContainsFunc(att.Interfaces, on) }) {
			a.cfg.Subnets.Forget(h.Network, h.NetworkCreated)
		}
	}
}
