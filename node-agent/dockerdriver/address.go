package dockerdriver

import (
	"context"
	"fmt"
	"net/netip"

	"github.com/ovlnet/ovl/internal/cluster"
	"github.com/ovlnet/ovl/internal/ipam"
)

// requestAddress chooses an address of a network, or confirms one. It is kept from others
// until an endpoint has it, or the engine gives it back, or a minute is over.
func (d *Driver) requestAddress(ctx context.Context, m requestAddress) (any, error) {
	pool, err := netip.ParsePrefix(m.PoolID)
	if err != nil {
		return nil, fmt.Errorf("request address: pool %s is none of ovl's", clip(m.PoolID))
	}
	var want netip.Addr
	if m.Address != "" {
		if want, err = netip.ParseAddr(m.Address); err != nil || want.Zone() != "" {
			return nil, fmt.Errorf("request address: %s: want an address such as 10.70.0.9", clip(m.Address))
		}
		want = want.Unmap()
	}
	if m.Options[keyRequestType] == typeGateway {
		gw, err := d.gateway(pool, want)
		if err != nil {
			return nil, fmt.Errorf("request gateway: %w", err)
		}
		return grantedAddress{Address: gw.String()}, nil
	}
	n, err := d.find(ctx, "subnet "+pool.String(), func(s *cluster.Snapshot) (cluster.Network, bool) { return byPools(s, []netip.Prefix{pool}) })
	if err != nil {
		return nil, fmt.Errorf("request address: %w", err)
	}
	got, err := d.cfg.Attachments.Reserve(ctx, n.Name, pool, want)
	if err != nil {
		return nil, plain(err)
	}
	return grantedAddress{Address: got.String()}, nil
}

// gateway returns what the engine takes for a network's gateway: that of this host, or, as
// long as it has no subnet there, that which the first subnet's host has. It is what
// `docker network inspect` shows; containers are told their own at Join.
func (d *Driver) gateway(pool netip.Prefix, want netip.Addr) (netip.Prefix, error) {
	gw := ipam.Gateway(pool)
	if n, ok := byPools(d.cfg.Cluster.Snapshot(), []netip.Prefix{pool}); ok {
		if own, ok := d.cfg.Attachments.Gateway(n.Name, pool); ok {
			gw = own
		}
	}
	if want.IsValid() && want != gw && want != ipam.Gateway(pool) {
		return netip.Prefix{}, fmt.Errorf("--gateway %s: the gateway is this host's own, the first address of its subnet: leave --gateway out", want)
	}
	return netip.PrefixFrom(gw, pool.Bits()), nil
}

// releaseAddress gives back what no endpoint has got.
func (d *Driver) releaseAddress(_ context.Context, m releaseAddress) (any, error) {
	pool, poolErr := netip.ParsePrefix(m.PoolID)
	a, addrErr := netip.ParseAddr(m.Address)
	if poolErr == nil && addrErr == nil { // else it is none that we hold
		if n, ok := byPools(d.cfg.Cluster.Snapshot(), []netip.Prefix{pool}); ok {
			d.cfg.Attachments.Unreserve(n.Name, a.Unmap())
		}
	}
	return nil, nil
}
