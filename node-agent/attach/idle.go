package attach

import (
	"context"
	"net/netip"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/ovlnet/ovl/internal/cluster"
	"github.com/ovlnet/ovl/node-agent/lease"
)

// Rest is how long a subnet stays without a container before it is given back:
// long enough that a container which restarts finds its address again.
const Rest = 10 * time.Minute

// leaseKey identifies a subnet of a network. (A prefix alone would do, were it
// not for networks that are made anew.)
type leaseKey struct {
	network string
	prefix  netip.Prefix
}

// findIdle returns the subnets, of those held and not lost, that no attachment has
// had an address of for rest, given when each was last seen used; and when each
// was last seen used as of now. One seen for the first time counts as used now.
func findIdle(held []lease.Held, atts []cluster.Attachment, seen map[leaseKey]time.Time, now time.Time, rest time.Duration) (idle []cluster.Lease, next map[leaseKey]time.Time) {
	used := map[leaseKey]bool{}
	for _, att := range atts {
		for _, i := range att.Interfaces {
			for _, p := range i.Addrs {
				used[leaseKey{i.Network, p.Masked()}] = true
			}
		}
	}
	next = make(map[leaseKey]time.Time, len(held))
	for _, h := range held {
		k := leaseKey{h.Network, h.Prefix}
		last, known := seen[k]
		if !known || used[k] {
			last = now
		}
		next[k] = last
		if h.State != lease.Lost && !used[k] && now.Sub(last) >= rest {
			idle = append(idle, h.Lease)
		}
	}
	return idle, next
}

// GiveBack runs until ctx is done and gives back, through release, the subnets
// that have been idle for [Rest]; on a draining host, at once.
func (a *Attachments) GiveBack(ctx context.Context, release func(context.Context, cluster.Lease) error) error {
	tick := time.NewTicker(Rest / 10)
	defer tick.Stop()
	var seen map[leaseKey]time.Time
	for {
		var idle []cluster.Lease
		rest := Rest
		if _, draining := a.draining(); draining {
			rest = 0 // nobody comes back for an address
		}
		idle, seen = findIdle(a.cfg.Subnets.Held(), a.spokenFor(), seen, time.Now(), rest)
		for _, l := range idle {
			if err := a.giveBack(ctx, l, release); err != nil && ctx.Err() == nil {
				a.cfg.Log.Warn("an idle subnet could not be given back: trying again", "network", l.Network, "subnet", l.Prefix, "err", err)
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		case <-a.tidy:
		}
	}
}

// Tidy has [Attachments.GiveBack] look at once on a host that is draining. It is to
// be called after every pass of the loop: one of them is the first to know of it.
func (a *Attachments) Tidy() {
	if _, draining := a.draining(); draining {
		select {
		case a.tidy <- struct{}{}:
		default:
		}
	}
}

// draining reports whether the operator wants this host empty, and its name.
func (a *Attachments) draining() (name string, draining bool) {
	h, ok := a.cfg.Loop.Snapshot().Host(a.cfg.Self)
	return h.Name, ok && h.Draining
}

// giveBack releases a subnet if it is still unused. While it does, none of its
// addresses is chosen: it is retired under the same lock under which choices
// are claimed.
func (a *Attachments) giveBack(ctx context.Context, l cluster.Lease, release func(context.Context, cluster.Lease) error) error {
	unlock, err := a.networks.lock(ctx, l.Network)
	if err != nil {
		return because("give back "+l.Prefix.String(), err, codes.Unavailable)
	}
	defer unlock()
	a.mu.Lock()
	free := a.index.retire(l.Network, l.Prefix)
	a.mu.Unlock()
	if !free {
		return nil
	}
	defer func() {
		a.mu.Lock()
		defer a.mu.Unlock()
		delete(a.index.retired, l.Prefix)
	}()
	if err := release(ctx, l); err != nil {
		return err
	}
	a.cfg.Log.Info("idle subnet given back", "network", l.Network, "subnet", l.Prefix)
	return nil
}

// spokenFor returns all attachments, those included that are being made.
func (a *Attachments) spokenFor() []cluster.Attachment {
	a.mu.Lock()
	defer a.mu.Unlock()
	atts := make([]cluster.Attachment, 0, len(a.index.claims))
	for _, att := range a.index.claims {
		atts = append(atts, att)
	}
	return atts
}
