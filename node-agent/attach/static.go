package attach

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"google.golang.org/grpc/codes"

	"github.com/ovlnet/ovl/internal/cluster"
	"github.com/ovlnet/ovl/internal/dataplane"
	"github.com/ovlnet/ovl/internal/reconcile"
)

// A static address is leased alone, with its container: it is taken when the
// container is attached and given back when it is detached, so that the container
// can start on another host with it. Before it is given back, a pass must have
// reported that this host's kernel has lost the way to it: then the old host loses
// it first, and never do two have it.

// statics returns the keys of the static addresses among interfaces, in the order
// in which they are locked.
func statics(interfaces []cluster.Interface) []leaseKey {
	var out []leaseKey
	for _, i := range interfaces {
		for _, a := range i.Addrs {
			if a.IsSingleIP() {
				out = append(out, leaseKey{i.Network, a})
			}
		}
	}
	slices.SortFunc(out, func(x, y leaseKey) int {
		return cmp.Or(cmp.Compare(x.network, y.network), cluster.ComparePrefix(x.prefix, y.prefix))
	})
	return slices.Compact(out)
}

// wantedStatics returns the keys of the static addresses that a request names.
func wantedStatics(r Request, networks map[string]cluster.Network) []leaseKey {
	var interfaces []cluster.Interface
	for _, w := range r.Interfaces {
		i := cluster.Interface{Network: w.Network}
		for _, a := range w.Addrs {
			if alone := netip.PrefixFrom(a, a.BitLen()); networks[w.Network].IsStatic(alone) {
				i.Addrs = append(i.Addrs, alone)
			}
		}
		interfaces = append(interfaces, i)
	}
	return statics(interfaces)
}

func (k leaseKey) String() string { return k.network + " " + k.prefix.String() }

// holdStatics keeps others of this host from taking any of the addresses, until
// unlock.
func (a *Attachments) holdStatics(ctx context.Context, keys []leaseKey) (unlock func(), err error) {
	var held []func()
	unlock = func() {
		for _, f := range held {
			f()
		}
	}
	for _, k := range keys {
		f, err := a.statics.lock(ctx, k.String())
		if err != nil {
			unlock()
			return nil, because("wait for another change of "+k.prefix.Addr().String(), err, codes.Unavailable)
		}
		held = append(held, f)
	}
	return unlock, nil
}

// yield is [Attachments.yieldStatics] for a container that has just gone. What
// fails is tried again.
func (a *Attachments) yield(ctx context.Context, keys []leaseKey, rep reconcile.Report, err error) {
	if keys = a.retireUnused(keys); len(keys) == 0 {
		return
	}
	if err := a.yieldStatics(ctx, keys, rep, err); err != nil {
		a.cfg.Log.Warn("static addresses will be given back later", "first", keys[0], "err", err)
		a.Reconsider()
	}
}

// yieldStatics gives addresses back that no attachment has any more, after a pass
// that ended so. Their keys are held, and they are retired. What cannot be given
// back now, GiveBack does later: while the store is away an address stays held, so
// that the container can start here again.
func (a *Attachments) yieldStatics(ctx context.Context, keys []leaseKey, rep reconcile.Report, err error) error {
	defer a.unretire(keys)
	if !a.cfg.Subnets.Status().Connected {
		return nil
	}
	if err := errors.Join(err, a.ways(keys, rep)); err != nil {
		return err
	}
	var errs []error
	for _, k := range keys {
		l := cluster.Lease{Network: k.network, Prefix: k.prefix, Host: a.cfg.Self}
		if err := a.cfg.Subnets.Release(ctx, l); err != nil {
			errs = append(errs, err)
			continue
		}
		a.cfg.Log.Info("static address given back", "network", k.network, "address", k.prefix.Addr())
	}
	return errors.Join(errs...)
}

// ways returns an error unless this host has lost the ways to those addresses:
// no row of them is wanted or was left over by the pass, nor a veth that may lead
// there.
func (a *Attachments) ways(keys []leaseKey, rep reconcile.Report) error {
	gone := make(map[netip.Prefix]bool, len(keys))
	wanted := a.cfg.Loop.Plan().State
	for _, k := range keys {
		gone[k.prefix] = true
		// One with a gateway leads to another host, which has it meanwhile.
		if r, ok := wanted.Routes[dataplane.RouteKey{Dst: k.prefix}]; ok && !r.Via.IsValid() {
			return fmt.Errorf("the way to %s is still wanted", k.prefix.Addr())
		}
	}
	return rep.Failure(func(r dataplane.Row) bool {
		switch r := r.(type) {
		case dataplane.Route:
			return r.NS == dataplane.Host && gone[r.Dst]
		case dataplane.Neigh:
			return r.NS == dataplane.Host && gone[netip.PrefixFrom(r.IP, r.IP.BitLen())]
		case dataplane.Link:
			_, ok := wanted.Links[r.LinkKey]
			return r.NS == dataplane.Host && r.Kind == dataplane.Veth && !ok
		}
		return false
	})
}

// retireUnused lets none of the addresses be chosen that nobody has, and returns
// those.
func (a *Attachments) retireUnused(keys []leaseKey) []leaseKey {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(keys), func(k leaseKey) bool { return !a.index.retire(k.network, k.prefix) })
}

func (a *Attachments) unretire(keys []leaseKey) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, k := range keys {
		delete(a.index.retired, k.prefix)
	}
}

// leftover gives addresses back that nobody has: what a crash, a vanished
// container, a failed attempt, or a detachment while the store was away has left.
func (a *Attachments) leftover(ctx context.Context, idle []cluster.Lease) error {
	var keys []leaseKey
	for _, l := range idle {
		k := leaseKey{l.Network, l.Prefix}
		// One that is being taken or given back just now is not left over.
		if unlock, ok := a.statics.try(k.String()); ok {
			defer unlock()
			keys = append(keys, k)
		}
	}
	if keys = a.retireUnused(keys); len(keys) == 0 {
		return nil
	}
	if !a.cfg.Subnets.Status().Connected {
		a.unretire(keys)
		return nil // Reconsider is called when it is back
	}
	rep, err := a.cfg.Loop.Settle(ctx, dataplane.Scope{dataplane.Host: dataplane.Of(dataplane.TableLink, dataplane.TableNeigh, dataplane.TableRoute)})
	return a.yieldStatics(ctx, keys, rep, err)
}
