package agent

import (
	"slices"

	"github.com/ovlnet/ovl/internal/cluster"
	"github.com/ovlnet/ovl/internal/dataplane"
	"github.com/ovlnet/ovl/internal/plan"
)

// planned is the last plan and what it was made from. Half of all passes are woken
// by the kernel, or read again what was believed: from the same facts the same rows
// follow, which are 7,000 among a thousand containers.
type planned struct {
	snapshot *cluster.Snapshot
	local    plan.Local
	host     *dataplane.HostFacts
	result   plan.Result
}

// of returns the plan for those facts; host is where l has what it says of the host
// from, but for the underlay, which may be older. Nobody changes a snapshot, a list of attachments, or facts: who has
// others has made new ones, so that it suffices to compare where they are.
func (p *planned) of(s *cluster.Snapshot, l plan.Local, host *dataplane.HostFacts) plan.Result {
	same := p.snapshot == s && p.host == host && host != nil && slices.Equal(p.local.Held, l.Held) &&
		sameList(p.local.Attachments, l.Attachments) && sameUnderlay(p.local.Underlay, l.Underlay)
	if !same {
		*p = planned{s, l, host, plan.Plan(s, l)}
	}
	return p.result
}

// sameList reports whether two lists of attachments are one.
func sameList(a, b []cluster.Attachment) bool {
	return len(a) == len(b) && (len(a) == 0 || &a[0] == &b[0])
}

func sameUnderlay(a, b plan.Underlay) bool {
	return a.Link == b.Link && a.MTU == b.MTU && slices.Equal(a.Addrs, b.Addrs) && slices.Equal(a.OnLink, b.OnLink)
}
