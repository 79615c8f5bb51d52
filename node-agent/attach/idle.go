package attach

import (
	"context"
	"errors"
	"fmt"
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
// needed for rest, given when each was last seen used; and when each was last seen
// used as of now. One seen for the first time counts as used now. A static address
// is idle as soon as nobody has it, and also if it is lost.
func findIdle(held []lease.Held, atts []cluster.Attachment, seen map[leaseKey]time.Time, now time.Time, rest time.Duration) (idle []cluster.Lease, next map[leaseKey]time.Time) {
	used := map[leaseKey]bool{}
	for _, att := range atts {
		for _, i := range att.Interfaces {
			for _, p := range i.Addrs {
				used[leaseKey{i.Network, p.Masked()}] = true
				used[leaseKey{i.Network, i.SubnetFor(p)}] = true
			}
		}
	}
	next = make(map[leaseKey]time.Time, len(held))
	for _, h := range held {
		k := leaseKey{h.Network, h.Prefix}
		if h.Prefix.IsSingleIP() {
			if !used[k] {
				idle = append(idle, h.Lease)
			}
			continue
		}
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

// Reconsider makes GiveBack look again whether there is something to give back
// at once. It is a wake, and does not block.
func (a *Attachments) Reconsider() {
	select {
	case a.tidy <- struct{}{}:
	default:
	}
}

// Tidy is to be called after every pass of the loop, one of which is the first to
// know of a network, or that this host is draining: then it is Reconsider. It is a
// wake, and does not block.
func (a *Attachments) Tidy() {
	select {
	case a.passed <- struct{}{}:
	default:
	}
	if _, draining := a.draining(); draining {
		a.Reconsider()
	}
}

// GiveBack runs until ctx is done. It gives back the subnets that have been idle
// for [Rest], on a draining host at once; and at once, too, the static addresses
// that nobody has.
func (a *Attachments) GiveBack(ctx context.Context) error {
	tick := time.NewTicker(Rest / 10)
	defer tick.Stop()
	var seen map[leaseKey]time.Time
	var pause time.Duration // after a failure
	for {
		var idle []cluster.Lease
		rest := Rest
		if _, draining := a.draining(); draining {
			rest = 0 // nobody comes back for an address
		}
		held := a.cfg.Subnets.Held()
		idle, seen = findIdle(held, a.spokenFor(), seen, time.Now(), rest)
		err := a.giveAllBack(ctx, a.notHome(idle, held))
		if ctx.Err() != nil {
			return nil
		}
		tidy := a.tidy
		var again <-chan time.Time
		if err != nil {
			if pause == 0 {
				a.cfg.Log.Warn("what no container needs could not be given back: trying again", "err", err)
			}
			pause = min(max(2*pause, firstPause), Rest/10)
			again = time.After(pause)
			tidy = nil // each try is a pass, after each of which it is called
		} else {
			pause = 0
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		case <-tidy:
		case <-again:
		}
	}
}

// draining reports whether the operator wants this host empty, and its name.
func (a *Attachments) draining() (name string, draining bool) {
	h, ok := a.cfg.Loop.Snapshot().Host(a.cfg.Self)
	return h.Name, ok && h.Draining
}

// firstPause is how soon giving back is tried again after a failure; each further
// pause is twice as long.
const firstPause = 250 * time.Millisecond

func (a *Attachments) giveAllBack(ctx context.Context, idle []cluster.Lease) error {
	var errs []error
	var alone []cluster.Lease
	for _, l := range idle {
		if l.Prefix.IsSingleIP() {
			alone = append(alone, l)
			continue
		}
		if err := a.giveBack(ctx, l, a.cfg.Subnets.Release); err != nil {
			errs = append(errs, fmt.Errorf("subnet %s of network %s: %w", l.Prefix, l.Network, err))
		}
	}
	return errors.Join(append(errs, a.leftover(ctx, alone))...)
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
