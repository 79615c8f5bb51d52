package attach

import (
	"context"
	"slices"
	"strings"

	"google.golang.org/grpc/codes"

	"github.com/ovlnet/ovl/internal/cluster"
	"github.com/ovlnet/ovl/internal/dataplane"
	"github.com/ovlnet/ovl/internal/plan"
)

// A container engine moves interfaces into its containers by itself, so an attachment of
// its goes through the stages of [cluster.Stage]: Offer, HandOver, adopted when the loop
// finds the interface in the container, TakeBack, Dismiss. Each change of stage that gives
// something out of hand waits for a pass, so that none that was under way still has the
// old one in mind.

// checkPlace checks where the interfaces are to be, which depends on the stage.
func (r Request) checkPlace(bad *violations) {
	needsNS := r.stage == cluster.Placed || r.stage == cluster.Adopted
	if why := checkPath(r.NetNS); needsNS && why != "" {
		bad.add("netns", "%s", why)
	}
	if !needsNS && r.NetNS != "" {
		bad.add("netns", "%s: the container engine has not moved the interface there", quote(r.NetNS))
	}
	needsSandbox := r.stage != cluster.Placed && r.stage != cluster.Offered
	if why := checkPath(r.sandbox); needsSandbox && why != "" {
		bad.add("sandbox", "%s", why)
	}
	switch {
	case !r.stage.Valid():
		bad.add("stage", "%d: want at most %d", r.stage, cluster.TakenBack)
	case r.stage == cluster.Adopted && r.sandbox != r.NetNS:
		bad.add("sandbox", "%s: it is in %s", quote(r.sandbox), quote(r.NetNS))
	case r.stage != cluster.Placed && len(r.Interfaces) != 1:
		bad.add("interfaces", "%d of them: want one, as a container engine's endpoint has", len(r.Interfaces))
	}
}

// Offer attaches an interface that waits on the host for a container engine: the one of
// r, which is named here. Asking for the same again is answered with what there is.
func (a *Attachments) Offer(ctx context.Context, r Request) (cluster.Attachment, error) {
	r.stage, r.NetNS = cluster.Offered, ""
	r.Interfaces = slices.Clone(r.Interfaces)
	for i := range r.Interfaces {
		r.Interfaces[i].Name = plan.OfferName(r.ID)
	}
	if bad := r.check(); len(bad) > 0 {
		return cluster.Attachment{}, bad.err(r.verb())
	}
	return a.Attach(ctx, r)
}

// HandOver leaves an offered interface to the engine, which will move it into the sandbox.
// onward says that the container's default route is not to lead here. It
// returns when no pass can come between any more.
func (a *Attachments) HandOver(ctx context.Context, id, sandbox string, onward bool) (cluster.Attachment, error) {
	ctx, cancel := a.bound(ctx)
	defer cancel()
	verb := "hand " + quote(short(id)) + " over to the container engine"
	if why := checkPath(sandbox); why != "" {
		return cluster.Attachment{}, violations{{"sandbox", why}}.err(verb)
	}
	att, unlock, err := a.hold(ctx, verb, id)
	if err != nil {
		return att, err
	}
	defer unlock()
	switch {
	case att.Stage == cluster.HandedOver && att.Sandbox == sandbox:
		return att, nil // the engine did not hear the answer
	case att.Stage == cluster.TakenBack:
		// Its container's end may have ended with the container.
		if att, err = a.restage(att, cluster.Offered, ""); err != nil {
			return att, because(verb, err, codes.Internal)
		}
		if err := a.settle(ctx, verb, att); err != nil {
			return att, err
		}
	case att.Stage != cluster.Offered:
		return att, refuse(codes.FailedPrecondition, "%s: it is in %s already", verb, whereabouts(att))
	}
	att.Onward = onward
	handed, err := a.restage(att, cluster.HandedOver, sandbox)
	if err != nil {
		return att, because(verb, err, codes.Internal)
	}
	if _, err := a.cfg.Loop.Settle(ctx, nil); err != nil {
		_, _ = a.restage(att, cluster.Offered, "") // the engine is told that it failed
		return att, because(verb, err, codes.Unavailable)
	}
	return handed, nil
}

// TakeBack leaves an interface to the engine once more, which will move it back to the
// host. It returns when no pass can come between any more. NOT_FOUND if there is none.
func (a *Attachments) TakeBack(ctx context.Context, id string) error {
	ctx, cancel := a.bound(ctx)
	defer cancel()
	verb := "take " + quote(short(id)) + " back from the container engine"
	att, unlock, err := a.hold(ctx, verb, id)
	if err != nil {
		return err
	}
	defer unlock()
	switch att.Stage {
	case cluster.Placed:
		return refuse(codes.FailedPrecondition, "%s: it is no endpoint of a container engine", verb)
	case cluster.Offered, cluster.TakenBack:
		return nil
	case cluster.HandedOver, cluster.Adopted:
	}
	if _, err := a.restage(att, cluster.TakenBack, att.Sandbox); err != nil {
		return because(verb, err, codes.Internal)
	}
	if _, err := a.cfg.Loop.Settle(ctx, nil); err != nil {
		return because(verb, err, codes.Unavailable)
	}
	return nil
}

// restage writes an attachment down in another stage, in which its interface has the name
// that it has on the host.
func (a *Attachments) restage(att cluster.Attachment, stage cluster.Stage, sandbox string) (cluster.Attachment, error) {
	att = clone(att)
	att.Stage, att.Sandbox, att.NetNS = stage, sandbox, ""
	for i := range att.Interfaces {
		att.Interfaces[i].Name = plan.OfferName(att.ID)
	}
	return att, a.rewrite(att)
}

// rewrite writes an attachment down that has changed, and claims anew what it has.
func (a *Attachments) rewrite(att cluster.Attachment) error {
	if err := a.cfg.Journal.Put(att); err != nil {
		return err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.index.remove(att.ID)
	a.index.add(att)
	return nil
}

// Lent is told by the loop what it sees of the interfaces that the engine has in hand,
// between passes. What has arrived in its container is adopted; what has ended without a
// word of the engine is forgotten. It reports whether the attachments have changed.
func (a *Attachments) Lent(seen dataplane.State) (changed bool) {
	for _, att := range a.cfg.Journal.List() {
		if !att.Stage.Lent() {
			continue
		}
		unlock, free := a.ids.try(att.ID)
		if !free {
			continue // it is being changed just now, and the next pass looks again
		}
		if now, ok := a.cfg.Journal.Get(att.ID); ok && now.Stage == att.Stage {
			changed = a.lookAt(now, seen) || changed
		}
		unlock()
	}
	return changed
}

// lookAt takes note of where an interface is.
func (a *Attachments) lookAt(att cluster.Attachment, seen dataplane.State) bool {
	if _, ok := seen.Links[dataplane.LinkKey{Name: plan.HostEnd(att, att.Interfaces[0])}]; !ok {
		return a.forgetLent(att)
	}
	arrived, ok := adopted(att, seen)
	if !ok {
		return false
	}
	if err := a.rewrite(arrived); err != nil {
		a.cfg.Log.Error("an interface that the container engine has moved could not be taken note of", "id", att.ID, "err", err)
		return false
	}
	a.cfg.Log.Info("container attached by its engine", "container", att.Name, "id", att.ID, "netns", arrived.NetNS, "interface", arrived.Interfaces[0].Name, "addresses", addresses(arrived))
	return true
}

// adopted returns an attachment as it is once the engine has done its part: the interface
// is in the sandbox, has its name and addresses, and is up, which is what engines do last
// (AddInterface in libnetwork/osl/interface_linux.go). An address that the engine has left
// out, such as one of IPv6 where the container has none, is none of the interface's.
func adopted(att cluster.Attachment, seen dataplane.State) (cluster.Attachment, bool) {
	if att.Stage != cluster.HandedOver {
		return att, false
	}
	ns := dataplane.NS(att.Sandbox)
	for k, l := range seen.Links {
		if k.NS != ns || !l.Up || strings.HasPrefix(k.Name, dataplane.OfferPrefix) || l.Alias != plan.Alias(att.Interfaces[0].Network, att.ID) {
			continue
		}
		out := clone(att)
		i := &out.Interfaces[0]
		i.Name = k.Name
		has := i.Addrs[:0]
		for _, p := range i.Addrs {
			if _, ok := seen.Addrs[dataplane.AddrKey{NS: ns, Link: k.Name, Prefix: p}]; ok {
				has = append(has, p)
			}
		}
		i.Addrs = has
		out.Stage, out.NetNS = cluster.Adopted, att.Sandbox
		return out, len(has) > 0
	}
	return att, false
}

// forgetLent forgets an attachment whose interface has ended: with the container's
// namespace, or with the host's uptime. The engine says so later, or not at all.
func (a *Attachments) forgetLent(att cluster.Attachment) bool {
	if err := a.cfg.Journal.Delete(att.ID); err != nil {
		a.cfg.Log.Error("a container whose interface is gone could not be forgotten", "id", att.ID, "err", err)
		return false
	}
	a.release(att.ID)
	a.cfg.Log.Info("container forgotten: its interface is gone", "container", att.Name, "id", att.ID, "sandbox", att.Sandbox)
	a.publish()
	a.Reconsider()
	return true
}

// Get returns the attachment of that ID.
func (a *Attachments) Get(id string) (cluster.Attachment, bool) { return a.cfg.Journal.Get(id) }

// short is an engine's ID as people see it.
func short(id string) string { return id[:min(len(id), 12)] }
