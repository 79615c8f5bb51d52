package dockerdriver

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/ovlnet/ovl/internal/cluster"
)

// createNetwork writes a network of the engine into the book. One that names a network of the
// cluster has that one's subnets; one without a name is new, and becomes the cluster's when
// its name has been learnt.
func (d *Driver) createNetwork(ctx context.Context, m createNetwork) (any, error) {
	p, err := d.page(m)
	if err != nil {
		return nil, fmt.Errorf("create network: %w", err)
	}
	if p.Marked {
		err = d.matches(ctx, p)
	} else {
		err = d.vacant(p.Pools, m.NetworkID)
	}
	if err != nil {
		return nil, fmt.Errorf("create network: %w", err)
	}
	if err := d.cfg.Book.Put(p); err != nil {
		return nil, err
	}
	d.settleGrants(p.Pools)
	d.cfg.Log.Info("the container engine made a network", "docker_network", short(p.ID), "network", p.Network, "subnets", p.Pools)
	return nil, nil
}

// page returns what m says, as the book holds it.
func (d *Driver) page(m createNetwork) (Page, error) {
	p := Page{ID: m.NetworkID, Created: time.Now().UTC()}
	for _, data := range slices.Concat(m.IPv4Data, m.IPv6Data) {
		if data.AddressSpace != addressSpace {
			return p, fmt.Errorf("its addresses would come from another driver: add --ipam-driver ovl")
		}
		pool, err := netip.ParsePrefix(data.Pool)
		if err != nil {
			return p, fmt.Errorf("subnet %s: want one such as 10.70.0.0/16", clip(data.Pool))
		}
		p.Pools = append(p.Pools, pool.Masked())
	}
	if len(p.Pools) == 0 {
		return p, fmt.Errorf("it has no subnet: add --ipam-driver ovl")
	}
	for key, value := range m.Options.Generic {
		text, ok := value.(string)
		switch {
		case !ok:
			continue // such as the engine's own settings, which are of other types
		case key == OptionNetwork:
			p.Network, p.Marked = text, true
		case key == OptionEgress && text == egressDocker:
			p.EgressDocker = true
		case key == OptionEgress && text != egressOvl && text != "":
			return p, fmt.Errorf("-o egress=%s: want ovl, or docker for the engine's own way out", clip(text))
		}
	}
	return p, p.check()
}

// matches tells why a page is not that of the network that it names.
func (d *Driver) matches(ctx context.Context, p Page) error {
	n, err := d.named(ctx, p.Network)
	if err != nil {
		return err
	}
	for _, pool := range p.Pools {
		if !hasPool(n, pool) {
			return fmt.Errorf("network %s has no subnet %s: leave --subnet out", n.Name, pool)
		}
	}
	return nil
}

// named returns the network of that name; if it is not known, the store is asked.
func (d *Driver) named(ctx context.Context, name string) (cluster.Network, error) {
	return d.find(ctx, "network "+name, func(s *cluster.Snapshot) (cluster.Network, bool) { return s.Network(name) })
}

// find returns the network that one finds in a snapshot, or else in the newest.
func (d *Driver) find(ctx context.Context, what string, in func(*cluster.Snapshot) (cluster.Network, bool)) (cluster.Network, error) {
	if n, ok := in(d.cfg.Cluster.Snapshot()); ok {
		return n, nil
	}
	stale := d.cfg.Cluster.Refresh(ctx)
	if n, ok := in(d.cfg.Cluster.Snapshot()); ok {
		return n, nil
	}
	if stale != nil {
		return cluster.Network{}, fmt.Errorf("%s is not known here, and the store cannot be asked: %w", what, stale)
	}
	return cluster.Network{}, fmt.Errorf("%s is not in the cluster: see `ovlctl network ls`; if it was made a moment ago, try again", what)
}

// deleteNetwork forgets a network of the engine. That of the cluster stays: others use it.
func (d *Driver) deleteNetwork(_ context.Context, m networkRef) (any, error) {
	if _, ok := d.cfg.Book.Get(m.NetworkID); !ok {
		return nil, nil // deleted is deleted
	}
	if err := d.cfg.Book.Delete(m.NetworkID); err != nil {
		return nil, err
	}
	d.cfg.Log.Info("the container engine deleted a network", "docker_network", short(m.NetworkID))
	return nil, nil
}

// networkOf returns the cluster's network of one of the engine's: that of the name in the
// book, or of the subnets. A book that was lost is no obstacle where an address tells.
func (d *Driver) networkOf(ctx context.Context, id string, addrs []netip.Addr) (cluster.Network, Page, error) {
	p, known := d.cfg.Book.Get(id)
	if p.Network != "" {
		n, err := d.named(ctx, p.Network)
		return n, p, err
	}
	n, err := d.find(ctx, fmt.Sprintf("docker network %s (%s)", short(id), joinText(p.Pools)), func(s *cluster.Snapshot) (cluster.Network, bool) {
		if known {
			return byPools(s, p.Pools)
		}
		return byAddrs(s, addrs)
	})
	return n, p, err
}

// byPools returns the network that has all those subnets.
func byPools(s *cluster.Snapshot, pools []netip.Prefix) (cluster.Network, bool) {
	return withAll(s, pools, hasPool)
}

// byAddrs returns the network that all those addresses are in.
func byAddrs(s *cluster.Snapshot, addrs []netip.Addr) (cluster.Network, bool) {
	return withAll(s, addrs, func(n cluster.Network, a netip.Addr) bool {
		_, ok := n.Pool(netip.PrefixFrom(a, a.BitLen()))
		return ok
	})
}

// withAll returns the network that has all of what is looked for; none of nothing.
func withAll[T any](s *cluster.Snapshot, all []T, has func(cluster.Network, T) bool) (cluster.Network, bool) {
	for _, n := range s.Networks {
		if len(all) > 0 && !slices.ContainsFunc(all, func(x T) bool { return !has(n, x) }) {
			return n, true
		}
	}
	return cluster.Network{}, false
}

func hasPool(n cluster.Network, p netip.Prefix) bool {
	return slices.ContainsFunc(n.Pools, func(q cluster.Pool) bool { return q.Prefix == p })
}
