package attach

import (
	"context"

	"github.com/ovlnet/ovl/internal/cluster"
	"github.com/ovlnet/ovl/internal/dataplane"
)

// leaving is an attachment that has ended for whoever asked, and whose rows are still
// being taken away.
type leaving struct {
	att    cluster.Attachment
	unlock func()        // of its ID
	gone   chan struct{} // closed when what it had is free for others
}

// Dismiss is Detach for a container engine, which waits for its answer before it says that
// the container has ended, and would wait for the kernel: removing a veth takes it some
// 20 ms, most of them waiting for other CPUs. So it returns when the attachment is off
// the journal; SeeOff does the rest. Until then what it had is nobody else's, and
// whoever asks for it waits. NOT_FOUND if there is none.
func (a *Attachments) Dismiss(ctx context.Context, id string) error {
	ctx, cancel := a.bound(ctx)
	defer cancel()
	att, unlock, err := a.hold(ctx, "detach "+quote(short(id)), id)
	if err != nil {
		return err
	}
	if len(att.Ports) > 0 || len(statics(att.Interfaces)) > 0 { // others may be told that these are taken
		unlock()
		return a.Detach(ctx, id)
	}
	if err := a.cfg.Journal.Delete(att.ID); err != nil {
		unlock()
		return err
	}
	a.mu.Lock()
	a.index.remove(att.ID)
	nameless := att
	nameless.Name = "leaving " + att.ID // with a space, unlike any request's
	a.index.add(nameless)
	a.leaving = append(a.leaving, leaving{att, unlock, make(chan struct{})})
	a.mu.Unlock()
	a.publish()
	select {
	case a.left <- struct{}{}:
	default:
	}
	return nil
}

// SeeOff runs until ctx is done. It ends what Dismiss began: all that are leaving by then
// with one pass.
func (a *Attachments) SeeOff(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-a.left:
		}
		a.mu.Lock()
		batch := a.leaving
		a.mu.Unlock()
		scope := dataplane.Scope{}
		for _, l := range batch {
			scope.Merge(scopeOf(l.att))
		}
		rep, err := a.cfg.Loop.Settle(ctx, scope)
		if ctx.Err() != nil {
			return nil //nolint:nilerr // the end is no failure
		}
		if err != nil || rep.Err != nil {
			// They are off the journal: the loop takes the rows away when it can.
			a.cfg.Log.Warn("the interfaces of removed containers will go later", "containers", len(batch), "settle", err, "observe", rep.Err)
		}
		a.mu.Lock()
		a.leaving = a.leaving[len(batch):]
		for _, l := range batch {
			a.index.remove(l.att.ID)
		}
		a.mu.Unlock()
		for _, l := range batch {
			close(l.gone)
			l.unlock()
			a.cfg.Log.Info("container detached", "container", l.att.Name, "id", l.att.ID)
		}
		a.Tidy()
	}
}

// awaitLeaving waits until those are gone that are leaving any of the networks, and reports
// whether there were such: what was refused because of them may be had now.
func (a *Attachments) awaitLeaving(ctx context.Context, networks map[string]cluster.Network) (waited bool) {
	a.mu.Lock()
	var gone <-chan struct{}
	for _, l := range a.leaving {
		for _, i := range l.att.Interfaces {
			if _, ok := networks[i.Network]; ok {
				gone = l.gone // the last one: they go together
			}
		}
	}
	a.mu.Unlock()
	if gone == nil {
		return false
	}
	select {
	case <-gone:
		return true
	case <-ctx.Done():
		return false
	}
}
