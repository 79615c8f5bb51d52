package attach

import (
	"errors"
	"fmt"

	"github.com/ovlnet/ovl/internal/cluster"
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
	ended := make(map[dataplane.NS]bool, len(gone))
	for _, ns := range gone {
		ended[ns] = true
	}
	var ids []string
	var left []cluster.Attachment
	for _, att := range a.cfg.Journal.List() {
		if !ended[dataplane.NSOf(att)] {
			continue
		}
		unlock, free := a.ids.try(att.ID)
		if !free {
			continue
		}
		defer unlock()
		if now, ok := a.cfg.Journal.Get(att.ID); ok && errors.Is(a.present(now.NetNS, now.Pin), errNoNamespace) {
			ids, left = append(ids, now.ID), append(left, now)
		}
	}
	if len(left) == 0 {
		return
	}
	if err := a.cfg.Journal.Delete(ids...); err != nil {
		a.cfg.Log.Error("containers whose namespaces are gone could not be forgotten", "ids", ids, "err", err)
		return
	}
	for _, att := range left {
		a.release(att.ID)
		a.cfg.Log.Info("container forgotten: its namespace is gone", "container", att.Name, "id", att.ID, "netns", att.NetNS)
	}
	a.publish()
	a.Reconsider()
}

// present tells why the namespace at a path, the one that pin says, is not there to
// be attached, or nil.
func (a *Attachments) present(path, pin string) error {
	there, err := a.cfg.NetNS(path)
	if err == nil && pin != "" && there != pin {
		return fmt.Errorf("open network namespace %s: %w any more, but that of a later process", path, errNoNamespace)
	}
	return err
}
