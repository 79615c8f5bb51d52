package attach

import (
	"errors"
	"slices"

	"github.com/ovlnet/ovl/internal/dataplane"
)

// Vanished forgets the attachments whose namespaces no longer exist and gives
// their addresses back. The loop calls it between passes and plans without them
// in the next; it waits for no pass.
//
// What is being attached or detached just now is left alone, and so is what
// turns out to have a namespace after all: gone is old news, and a container may
// have been started anew at the same path since.
func (a *Attachments) Vanished(gone []dataplane.NS) {
	changed := false
	for _, att := range a.cfg.Journal.List() {
		if slices.Contains(gone, dataplane.NS(att.NetNS)) && a.forget(att.ID) {
			changed = true
		}
	}
	if changed {
		a.publish()
	}
}

func (a *Attachments) forget(id string) bool {
	unlock, free := a.ids.try(id)
	if !free {
		return false
	}
	defer unlock()
	att, ok := a.cfg.Journal.Get(id)
	if !ok || !errors.Is(a.cfg.NetNS(att.NetNS), errNoNamespace) {
		return false
	}
	if err := a.cfg.Journal.Delete(id); err != nil {
		a.cfg.Log.Error("a container whose namespace is gone could not be forgotten", "container", att.Name, "id", id, "err", err)
		return false
	}
	a.release(id)
	a.cfg.Log.Info("container forgotten: its namespace is gone", "container", att.Name, "id", id, "netns", att.NetNS)
	return true
}
