package attach

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/ovlnet/ovl/internal/cluster"
	"github.com/ovlnet/ovl/internal/plan"
	"github.com/ovlnet/ovl/internal/store"
	"github.com/ovlnet/ovl/node-agent/lease"
)

// KeepHome runs until ctx is done. It keeps this host on the network that is its
// home: it holds a subnet of each of the network's pools, whether a container needs
// one or not, so that the host itself reaches the containers of the others. A host
// that is draining has no home.
func (a *Attachments) KeepHome(ctx context.Context) error {
	if a.cfg.Home == "" {
		return nil
	}
	var pause time.Duration // after a failure
	for {
		err := a.comeHome(ctx)
		if ctx.Err() != nil {
			return nil //nolint:nilerr // it ended because this is the end
		}
		passed := a.passed
		var again <-chan time.Time
		if err != nil {
			// The store is away, or does not know this host yet: both are said elsewhere.
			if pause == 0 && !errors.Is(err, store.ErrUnavailable) {
				a.cfg.Log.Warn("this host is not on the network that is its home: trying again", "err", err)
			}
			pause = min(max(2*pause, firstPause), Rest/10)
			again = time.After(pause)
			passed = nil // each try is a pass
		} else {
			pause = 0
		}
		select {
		case <-ctx.Done():
			return nil
		case <-passed:
		case <-again:
		}
	}
}

// comeHome takes a subnet of each pool of the home of which this host holds none.
func (a *Attachments) comeHome(ctx context.Context) error {
	n, ok := a.home()
	if !ok || a.cfg.Subnets.MayAttach() != nil {
		return nil // a pass will tell that it is otherwise
	}
	unlock, err := a.networks.lock(ctx, n.Name)
	if err != nil {
		return err
	}
	defer unlock()
	for _, pool := range n.Pools {
		if a.holds(n, pool) {
			continue
		}
		taken, err := a.cfg.Subnets.Take(ctx, n, pool)
		if err != nil {
			return fmt.Errorf("be on network %s: %w", n.Name, err)
		}
		a.cfg.Log.Info("subnet taken", "network", taken.Network, "subnet", taken.Prefix)
	}
	return nil
}

// home returns the network that is this host's home now, if it has one.
func (a *Attachments) home() (cluster.Network, bool) {
	if a.cfg.Home == "" {
		return cluster.Network{}, false
	}
	n, ok := a.cfg.Loop.Snapshot().Network(a.cfg.Home)
	_, draining := a.draining()
	return n, ok && !draining && plan.Knows(n.Driver)
}

// holds reports whether this host holds a subnet of a pool.
func (a *Attachments) holds(n cluster.Network, pool cluster.Pool) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(supply{held: a.cfg.Subnets.Held(), taken: a.index}.subnets(n, pool)) > 0
}

// notHome returns idle without what keeps this host at home: of each pool of which
// all that is held is idle, the first.
func (a *Attachments) notHome(idle []cluster.Lease, held []lease.Held) []cluster.Lease {
	n, ok := a.home()
	if !ok {
		return idle
	}
	for _, pool := range n.Pools {
		of := func(l cluster.Lease) bool {
			p, ok := n.Pool(l.Prefix)
			return l.Network == n.Name && ok && p == pool && !l.Prefix.IsSingleIP()
		}
		stays := slices.ContainsFunc(held, func(h lease.Held) bool {
			return h.State != lease.Lost && of(h.Lease) && !slices.Contains(idle, h.Lease)
		})
		if i := slices.IndexFunc(idle, of); i >= 0 && !stays {
			idle = slices.Delete(idle, i, i+1)
		}
	}
	return idle
}
