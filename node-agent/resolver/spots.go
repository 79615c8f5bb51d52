package resolver

import (
	"errors"
	"net/netip"

	"golang.org/x/sys/unix"

	"github.com/ovlnet/ovl/internal/cluster"
	"github.com/ovlnet/ovl/internal/dataplane"
	"github.com/ovlnet/ovl/internal/plan"
)

// spot is where containers of a network ask: an address of a gateway, or the one for
// all networks, on one of the network's bridges, or on the host's own link on its
// segment.
type spot struct {
	network string // empty: of no network of ours
	device  string
	addr    netip.Addr
}

// spotsOf returns where the facts want to be listened: on the addresses of the
// bridges and shims that the loop wants, but link-local ones.
func spotsOf(f Facts) map[spot]bool {
	network := make(map[cluster.VNI]string, len(f.Snapshot.Networks))
	for _, n := range f.Snapshot.Networks {
		network[n.VNI] = n.Name
	}
	out := map[spot]bool{}
	for k := range f.Wanted.Addrs {
		vni, gateway := plan.GatewayVNI(k.Link)
		name, ok := network[vni]
		if a := k.Prefix.Addr(); gateway && ok && k.NS == dataplane.Host && !a.IsLinkLocalUnicast() {
			out[spot{name, k.Link, a}] = true
			if f.NameAddr.IsValid() && f.NameAddr.Is4() == a.Is4() {
				out[spot{name, k.Link, f.NameAddr}] = true
			}
		}
	}
	if f.NameAddr.IsValid() {
		// The host itself asks too: a container that has the host's network does. To a
		// socket that comes from the link whose the address is, though it goes through
		// the loopback (ip_route_output_key_hash_rcu in net/ipv4/route.c).
		for _, link := range append([]string{plan.NameLink}, f.Bridges...) {
			out[spot{"", link, f.NameAddr}] = true
		}
	}
	return out
}

// networksOf returns the networks that are listened on.
func networksOf(s *cluster.Snapshot, spots map[spot]bool) []cluster.Network {
	var out []cluster.Network
	seen := map[string]bool{}
	for at := range spots {
		if n, ok := s.Network(at.network); ok && !seen[n.Name] {
			seen[n.Name] = true
			out = append(out, n)
		}
	}
	return out
}

// listen makes the spots what is listened on. The caller holds the lock.
func (r *Resolver) listen(spots map[spot]bool) {
	own := make(map[netip.Addr]bool, len(spots))
	for at := range spots {
		own[at.addr] = true
	}
	r.own.Store(&own) // before anybody can ask there
	for at, l := range r.listeners {
		index, err := linkIndex(at.device)
		if !spots[at] || err != nil || index != l.index || !l.alive() {
			l.close()
			delete(r.listeners, at)
		}
	}
	for at := range r.failing {
		if !spots[at] {
			delete(r.failing, at)
		}
	}
	for at := range spots {
		if r.listeners[at] == nil {
			r.open(at)
		}
	}
}

// open listens on a spot, and logs when that begins and ceases to fail.
func (r *Resolver) open(at spot) {
	index, err := linkIndex(at.device)
	if err == nil {
		var s sockets
		if s, err = openSockets(at.device, at.addr); err == nil {
			r.listeners[at] = serve(s, index, handler{r, at.network, r.room(at.network)})
		}
	}
	switch {
	case err == nil && r.failing[at] != "":
		delete(r.failing, at)
		r.cfg.Log.Info("answers questions about names again", "network", at.network, "address", at.addr)
	case err != nil && r.failing[at] != err.Error():
		r.failing[at] = err.Error()
		r.cfg.Log.Warn("cannot answer questions about names", "network", at.network, "address", at.addr, "err", err)
	}
}

func (at spot) subject() string {
	if at.network == "" {
		return "link " + at.device
	}
	return "network " + at.network
}

// room returns what bounds the questions of a network that are being forwarded.
func (r *Resolver) room(network string) chan struct{} {
	if r.rooms[network] == nil {
		r.rooms[network] = make(chan struct{}, maxForward)
	}
	return r.rooms[network]
}

// Problems returns what keeps gateways from answering.
func (r *Resolver) Problems() []cluster.Problem {
	r.mu.Lock()
	defer r.mu.Unlock()
	var out []cluster.Problem
	for at, why := range r.failing {
		if _, err := linkIndex(at.device); at.network == "" && errors.Is(err, unix.ENODEV) {
			continue // it is not ours, and nobody asks there
		}
		hint := "if another name server has port 53 of that address, keep it off the device " + at.device
		if _, err := linkIndex(at.device); errors.Is(err, unix.ENODEV) {
			hint = "they will be when " + at.device + " is there: see the rows that fail"
		}
		out = append(out, cluster.Problem{
			Severity: cluster.SeverityError, Subject: at.subject(),
			What: "its names are not answered at " + at.addr.String() + ": " + why, Hint: hint,
		})
	}
	return out
}
