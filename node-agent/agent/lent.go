package agent

import (
	"context"

	"github.com/ovlnet/ovl/internal/cluster"
	"github.com/ovlnet/ovl/internal/dataplane"
	"github.com/ovlnet/ovl/internal/plan"
)

// lentAliases returns the aliases of the links that a container engine has in hand.
func lentAliases(atts []cluster.Attachment) map[string]bool {
	var out map[string]bool
	for _, att := range atts {
		if !att.Stage.Lent() {
			continue
		}
		if out == nil {
			out = map[string]bool{}
		}
		for _, i := range att.Interfaces {
			out[plan.Alias(i.Network, att.ID)] = true
		}
	}
	return out
}

// lookAfterLent looks into the containers into which an engine is just moving interfaces:
// those that have left the host and have not been found elsewhere. The namespace may not
// have been there when it was first to be watched, so it is named again.
func (a *Agent) lookAfterLent(ctx context.Context, atts []cluster.Attachment) error {
	scope := dataplane.Scope{}
	for _, att := range atts {
		if att.Stage != cluster.HandedOver {
			continue
		}
		if _, waiting := a.rec.Lent().Links[dataplane.LinkKey{Name: plan.OfferName(att.ID)}]; !waiting {
			scope.Add(dataplane.NS(att.Sandbox), dataplane.NSTables)
		}
	}
	if len(scope) == 0 {
		return nil
	}
	a.cfg.Monitor.Watch(a.watched)
	_, err := a.rec.Observe(ctx, scope)
	return err
}
