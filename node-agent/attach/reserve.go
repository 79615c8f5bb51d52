package attach

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/ovlnet/ovl/internal/cluster"
	"github.com/ovlnet/ovl/internal/ipam"
	"github.com/ovlnet/ovl/node-agent/lease"
)

// reserveFor is how long an address is kept for an endpoint that does not come: engines
// ask for addresses first, and make the endpoint in the next breath.
const reserveFor = time.Minute

// reservation is an address that is kept for an endpoint to come.
type reservation struct {
	att    cluster.Attachment // what it claims, under an ID in the index that no attachment's can be
	expire *time.Timer
}

// Reserve chooses an address of one pool of a network, or confirms a wanted one, and keeps
// it from others until an interface is offered with it, Unreserve gives it back, or a
// minute is over.
func (a *Attachments) Reserve(ctx context.Context, network string, pool netip.Prefix, want netip.Addr) (netip.Prefix, error) {
	ctx, cancel := a.bound(ctx)
	defer cancel()
	w := Want{Network: network}
	verb := "reserve an address of network " + network
	if want.IsValid() {
		w.Addrs, verb = []netip.Addr{want}, fmt.Sprintf("reserve address %s of network %s", want, network)
	}
	a.mu.Lock()
	a.lastReserve++
	id := fmt.Sprintf("reservation %d", a.lastReserve) // with a space, unlike any request's
	a.mu.Unlock()
	w.Name = id
	r := Request{ID: id, Name: id, Interfaces: []Want{w}, doing: verb, stage: cluster.Offered, reserving: true}
	networks, err := a.admit(ctx, r)
	if err != nil {
		return netip.Prefix{}, err
	}
	n := networks[network]
	// The other family is asked for by itself, or not at all.
	if n.Pools = slices.DeleteFunc(slices.Clone(n.Pools), func(p cluster.Pool) bool { return p.Prefix != pool }); len(n.Pools) == 0 {
		return netip.Prefix{}, refuse(codes.NotFound, "%s: it has no subnet %s", verb, pool)
	}
	att, err := a.claim(ctx, r, map[string]cluster.Network{network: n})
	if err != nil {
		a.Reconsider()
		return netip.Prefix{}, err
	}
	got := att.Interfaces[0].Addrs[0]
	a.mu.Lock()
	defer a.mu.Unlock()
	k := netAddr{network, got.Addr()}
	a.reserved[k] = reservation{att, time.AfterFunc(reserveFor, func() { a.expire(k, id) })}
	return got, nil
}

// Unreserve gives an address back that no interface has got. What has one keeps it.
func (a *Attachments) Unreserve(network string, addr netip.Addr) {
	a.mu.Lock()
	k := netAddr{network, addr}
	r, ok := a.reserved[k]
	if ok {
		r.expire.Stop()
		a.unclaimReserved(k, r)
	}
	a.mu.Unlock()
	if ok {
		a.Reconsider() // it may have been a static one
	}
}

// expire gives up a reservation that was not used.
func (a *Attachments) expire(k netAddr, claim string) {
	a.mu.Lock()
	r, ok := a.reserved[k]
	if ok = ok && r.att.ID == claim; ok {
		a.unclaimReserved(k, r)
	}
	a.mu.Unlock()
	if ok {
		a.cfg.Log.Warn("an address that was asked for was not used: it is free again", "network", k.network, "address", k.addr)
		a.Reconsider()
	}
}

// unclaimReserved takes a reservation out. The caller holds mu.
func (a *Attachments) unclaimReserved(k netAddr, r reservation) {
	delete(a.reserved, k)
	a.index.remove(r.att.ID)
}

// setAside takes out the claims of reservations whose addresses an offered interface wants.
// The caller holds mu, and ends it with putBack.
func (a *Attachments) setAside(r Request) []netAddr {
	if r.stage != cluster.Offered || r.reserving || len(a.reserved) == 0 {
		return nil
	}
	var out []netAddr
	for _, w := range r.Interfaces {
		for _, addr := range w.Addrs {
			k := netAddr{w.Network, addr}
			if kept, ok := a.reserved[k]; ok {
				out = append(out, k)
				a.index.remove(kept.att.ID)
			}
		}
	}
	return out
}

// putBack ends what setAside began: the reservations are used, or claimed again. The
// caller holds mu.
func (a *Attachments) putBack(keys []netAddr, used bool) {
	for _, k := range keys {
		r := a.reserved[k]
		if used {
			r.expire.Stop()
			delete(a.reserved, k)
			continue
		}
		a.index.add(r.att)
	}
}

// Gateway returns this host's own gateway in a pool of a network: that of the first subnet
// which it holds there. ok is false if it holds none.
func (a *Attachments) Gateway(network string, pool netip.Prefix) (gw netip.Addr, ok bool) {
	for _, h := range a.cfg.Subnets.Held() {
		if h.Network == network && h.State != lease.Lost && !h.Prefix.IsSingleIP() && pool.Overlaps(h.Prefix) {
			return ipam.Gateway(h.Prefix), true
		}
	}
	return netip.Addr{}, false
}
