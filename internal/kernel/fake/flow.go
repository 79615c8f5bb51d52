package fake

import (
	"maps"

	"github.com/ovlnet/ovl/internal/dataplane"
)

// SetFlow has a flow of UDP go where no rule leads it, as traffic might.
func (k *Kernel) SetFlow(f dataplane.Flow) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.flows == nil {
		k.flows = map[dataplane.FlowKey]dataplane.Flow{}
	}
	k.flows[f.FlowKey] = f
}

func (k *Kernel) applyFlow(verb dataplane.Verb, r dataplane.Flow) error {
	if verb != dataplane.Delete {
		return errForeign
	}
	delete(k.flows, r.FlowKey)
	return nil
}

func (k *Kernel) observeFlows(tables dataplane.Tables, state *dataplane.State) {
	if tables.Has(dataplane.TableFlow) {
		state.Flows = maps.Clone(k.flows)
	}
}
