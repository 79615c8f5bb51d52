package dockerdriver

import (
	"context"
	"crypto/rand"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/ovlnet/ovl/internal/cluster"
)

// The subnets that networks get which ask for none: a /16 of what controllers give out,
// unless they were told otherwise, and a random /48 of unique local addresses (RFC 4193).
const (
	poolBits  = 16
	poolBits6 = 48
)

func defaultPool() netip.Prefix { return netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 64, 0, 0}), 10) }

// grantFor is how long a pool that was given out is kept from others before the network
// is made.
const grantFor = time.Minute

// requestPool gives a network its subnet of one family. The pool's ID is the subnet itself,
// so that nothing is to be remembered: no two networks of the cluster overlap.
func (d *Driver) requestPool(ctx context.Context, m requestPool) (any, error) {
	pool, err := d.grant(ctx, m)
	if err != nil {
		return nil, fmt.Errorf("request pool: %w", err)
	}
	return grantedPool{PoolID: pool.String(), Pool: pool.String()}, nil
}

func (d *Driver) grant(ctx context.Context, m requestPool) (netip.Prefix, error) {
	var none netip.Prefix
	if m.SubPool != "" {
		return none, fmt.Errorf("--ip-range %s: hosts take their subnets by themselves: leave it out, and give containers that need a certain address one with --ip", clip(m.SubPool))
	}
	var asked netip.Prefix
	if m.Pool != "" {
		var err error
		if asked, err = netip.ParsePrefix(m.Pool); err != nil || asked.Addr().Is4In6() {
			return none, fmt.Errorf("--subnet %s: want one such as 10.70.0.0/16", clip(m.Pool))
		}
		if asked != asked.Masked() {
			return none, fmt.Errorf("--subnet %s has host bits: write %s", asked, asked.Masked())
		}
	}
	if name := m.Options[OptionNetwork]; name != "" {
		pool, err := d.poolOf(ctx, name, asked, m.V6)
		if err == nil && !asked.IsValid() {
			err = d.grantOnce(pool)
		}
		return pool, err
	}
	if asked.IsValid() {
		if _, ok := byPools(d.cfg.Cluster.Snapshot(), []netip.Prefix{asked}); ok {
			return asked, nil
		}
		return asked, d.vacant([]netip.Prefix{asked}, "")
	}
	return d.free(m.V6)
}

// poolOf returns the subnet of a named network of one family.
func (d *Driver) poolOf(ctx context.Context, name string, asked netip.Prefix, v6 bool) (netip.Prefix, error) {
	n, err := d.named(ctx, name)
	if err != nil {
		return netip.Prefix{}, err
	}
	for _, pool := range n.Pools {
		if pool.Prefix.Addr().Is6() == v6 && (!asked.IsValid() || asked == pool.Prefix) {
			return pool.Prefix, nil
		}
	}
	return netip.Prefix{}, fmt.Errorf("network %s has no such subnet (it has %s): leave --subnet out, and --ipv6 where there is none of IPv6", name, poolsText(n))
}

// vacant tells what is in the way of new subnets: networks of the cluster, other networks of
// this engine that are on their way there, and what a host reaches otherwise.
func (d *Driver) vacant(pools []netip.Prefix, but string) error {
	for _, pool := range pools {
		if what := d.taken(pool, but); what != "" {
			return fmt.Errorf("subnet %s overlaps %s: choose another", pool, what)
		}
	}
	return nil
}

// taken tells what has a part of pool, or "". The engine's network of the ID but does not
// count.
func (d *Driver) taken(pool netip.Prefix, but string) string {
	s := d.cfg.Cluster.Snapshot()
	for _, n := range s.Networks {
		for _, q := range n.Pools {
			if q.Prefix.Overlaps(pool) {
				return fmt.Sprintf("network %s (%s), which containers join with `docker network create -d ovl --ipam-driver ovl --ipam-opt %s=%[1]s -o %[3]s=%[1]s %[1]s`", n.Name, q.Prefix, OptionNetwork)
			}
		}
	}
	for _, h := range s.Hosts {
		for _, r := range slices.Concat(h.Routes, h.OnLink) {
			if r.Overlaps(pool) {
				return fmt.Sprintf("%s, which host %s reaches otherwise", r, h.Name)
			}
		}
	}
	for _, p := range d.cfg.Book.List() {
		if p.ID != but && slices.ContainsFunc(p.Pools, pool.Overlaps) {
			return fmt.Sprintf("docker network %s", short(p.ID))
		}
	}
	return ""
}

// free returns a subnet that nobody has, and keeps it from others for a moment.
func (d *Driver) free(v6 bool) (netip.Prefix, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	now := time.Now()
	for pool, until := range d.granted {
		if now.After(until) {
			delete(d.granted, pool)
		}
	}
	for pool, ok := first(v6); ok; pool, ok = next(pool) {
		if _, given := d.granted[pool]; !given && d.taken(pool, "") == "" {
			d.granted[pool] = now.Add(grantFor)
			return pool, nil
		}
	}
	return netip.Prefix{}, fmt.Errorf("no /%d of %s is free of networks and of hosts' routes: give one with --subnet", poolBits, defaultPool())
}

// grantOnce notes that a pool is granted to an engine which did not name it. Engines before
// 23 look whether this host has a route into what they are given and, if so, ask for
// another, and go on asking for ever (requestPoolHelper in libnetwork/network.go).
func (d *Driver) grantOnce(pool netip.Prefix) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	now := time.Now()
	if until, given := d.granted[pool]; given && now.Before(until) {
		return fmt.Errorf("the engine does not take subnet %s unasked, since this host has routes into it: name it with --subnet %[1]s", pool)
	}
	d.granted[pool] = now.Add(grantFor)
	return nil
}

func first(v6 bool) (netip.Prefix, bool) {
	if !v6 {
		return netip.PrefixFrom(defaultPool().Addr(), poolBits), true
	}
	a := [16]byte{0: 0xfd}
	_, _ = rand.Read(a[1:6]) // never fails (crypto/rand)
	return netip.PrefixFrom(netip.AddrFrom16(a), poolBits6), true
}

// next returns the pool after p; ok is false at the end of the range.
func next(p netip.Prefix) (netip.Prefix, bool) {
	if p.Addr().Is6() {
		return first(true)
	}
	a := p.Addr().As4()
	if a[1]++; a[1] == 0 {
		return p, false
	}
	p = netip.PrefixFrom(netip.AddrFrom4(a), poolBits)
	return p, defaultPool().Contains(p.Addr())
}

// settleGrants forgets grants that the book holds by now.
func (d *Driver) settleGrants(pools []netip.Prefix) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, pool := range pools {
		delete(d.granted, pool)
	}
}

// releasePool gives a grant up whose network was not made. The subnet of one that was is the
// cluster's.
func (d *Driver) releasePool(_ context.Context, m poolRef) (any, error) {
	if pool, err := netip.ParsePrefix(m.PoolID); err == nil {
		d.settleGrants([]netip.Prefix{pool})
	}
	return nil, nil
}

func poolsText(n cluster.Network) string {
	var out []netip.Prefix
	for _, p := range n.Pools {
		out = append(out, p.Prefix)
	}
	return joinText(out)
}

func joinText(prefixes []netip.Prefix) string {
	texts := make([]string, len(prefixes))
	for i, p := range prefixes {
		texts[i] = p.String()
	}
	return strings.Join(texts, ", ")
}

// clip makes hostile text short enough for an error.
func clip(s string) string {
	if len(s) > 80 {
		s = s[:80] + "…"
	}
	return fmt.Sprintf("%q", s)
}
