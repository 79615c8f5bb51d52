package resolver

import (
	"net/netip"
	"slices"

	"github.com/ovlnet/ovl/internal/cluster"
	"github.com/ovlnet/ovl/internal/dataplane"
)

// Names is what all names mean to the containers of one host. It is immutable.
type Names struct {
	zones map[string]*Zone // by network
	bases map[string]basis // of the zones
	views map[place]View   // of containers on several networks
}

// place is an address on a network: who asks.
type place struct {
	network string
	addr    netip.Addr
}

// basis is what a zone was built from.
type basis struct {
	network       cluster.Network
	self          cluster.HostID
	others, local []cluster.Endpoint // of the store, this host's own left in; of the journal
}

// Compile returns the names of the networks, with the endpoints of s and those
// of this host's attachments. Of its own containers a host knows more than the
// store does, so what the store says of them does not count.
func Compile(self cluster.HostID, networks []cluster.Network, s *cluster.Snapshot, own []cluster.Attachment) *Names {
	return (&Names{}).next(self, networks, s, own)
}

// next is [Compile], but takes over the zones of n for which nothing has
// changed: among thousands of hosts something changes often, and mostly nothing
// about names.
func (n *Names) next(self cluster.HostID, networks []cluster.Network, s *cluster.Snapshot, own []cluster.Attachment) *Names {
	out := &Names{zones: make(map[string]*Zone, len(networks)), bases: make(map[string]basis, len(networks)), views: map[place]View{}}
	local := localEndpoints(self, own)
	for _, network := range networks {
		b := basis{network, self, reachable(network, s), local[network.Name]}
		out.bases[network.Name] = b
		if z, ok := n.zones[network.Name]; ok && b.equal(n.bases[network.Name]) {
			out.zones[network.Name] = z
			continue
		}
		out.zones[network.Name] = b.build()
	}
	for _, interfaces := range together(own) {
		out.addViews(interfaces)
	}
	return out
}

// reachable returns the endpoints in the store that containers here can reach: of
// a network whose driver is bridge, none but this host's own.
func reachable(n cluster.Network, s *cluster.Snapshot) []cluster.Endpoint {
	if n.Driver == cluster.DriverBridge {
		return nil
	}
	return s.NetworkEndpoints(n.Name)
}

func (b basis) build() *Zone {
	endpoints := make([]cluster.Endpoint, 0, len(b.others)+len(b.local))
	for _, e := range b.others {
		if e.Host != b.self {
			endpoints = append(endpoints, e)
		}
	}
	return Build(b.network, append(endpoints, b.local...))
}

// equal reports whether two bases make the same zone. Revisions do not tell: a
// store that was restored from a backup gives one to two contents.
func (b basis) equal(o basis) bool {
	return b.network.Domain() == o.network.Domain() && b.network.Internal == o.network.Internal && slices.Equal(b.network.Pools, o.network.Pools) &&
		b.self == o.self && sameOthers(b.self, b.others, o.others) && slices.EqualFunc(b.local, o.local, sameNames)
}

// sameOthers is sameNames for lists, without what is this host's own in them: each
// container attached here comes back from the store a moment later, when its name has
// long been known.
func sameOthers(self cluster.HostID, x, y []cluster.Endpoint) bool {
	for {
		for len(x) > 0 && x[0].Host == self {
			x = x[1:]
		}
		for len(y) > 0 && y[0].Host == self {
			y = y[1:]
		}
		if len(x) == 0 || len(y) == 0 {
			return len(x) == len(y)
		}
		if !sameNames(x[0], y[0]) {
			return false
		}
		x, y = x[1:], y[1:]
	}
}

// sameNames reports whether two endpoints say the same of names.
func sameNames(x, y cluster.Endpoint) bool {
	return x.Host == y.Host && x.Name == y.Name && slices.Equal(x.Aliases, y.Aliases) && slices.Equal(x.Addrs, y.Addrs)
}

// localEndpoints returns the endpoints of attachments by network.
func localEndpoints(self cluster.HostID, own []cluster.Attachment) map[string][]cluster.Endpoint {
	out := map[string][]cluster.Endpoint{}
	room := make([]netip.Addr, 0, 2*len(own)) // for the addresses of most, in one piece
	for _, att := range own {
		for _, i := range att.Interfaces {
			e := cluster.Endpoint{Network: i.Network, Host: self, ID: att.ID, Name: att.Name, Aliases: i.Aliases}
			first := len(room)
			for _, p := range i.Addrs {
				room = append(room, p.Addr())
			}
			e.Addrs = room[first:len(room):len(room)]
			out[i.Network] = append(out[i.Network], e)
		}
	}
	return out
}

// together returns the interfaces of each container that has several. A runtime may
// attach one container several times, once for each network: its namespace makes it
// one.
func together(own []cluster.Attachment) map[dataplane.NS][]cluster.Interface {
	count := make(map[dataplane.NS]int, len(own))
	for _, att := range own {
		if att.NetNS == "" {
			continue // it has not arrived in its container
		}
		count[dataplane.NSOf(att)] += len(att.Interfaces)
	}
	out := map[dataplane.NS][]cluster.Interface{}
	for _, att := range own {
		ns := dataplane.NSOf(att)
		if count[ns] < 2 {
			continue // its network alone: what everybody on it sees
		}
		out[ns] = append(out[ns], att.Interfaces...)
	}
	return out
}

// addViews notes what one container sees from each of its addresses.
func (n *Names) addViews(interfaces []cluster.Interface) {
	for _, i := range interfaces {
		first, ok := n.zones[i.Network]
		if !ok {
			continue
		}
		view := View{first}
		for _, other := range interfaces {
			if z, ok := n.zones[other.Network]; ok && !slices.Contains(view, z) {
				view = append(view, z)
			}
		}
		for _, p := range i.Addrs {
			n.views[place{i.Network, p.Addr()}] = view
		}
	}
}

// View returns what is to be seen by whoever asks on that network from that
// address: the network, and the others of the container that has the address.
// It is empty if the network is unknown.
func (n *Names) View(network string, from netip.Addr) View {
	if network == "" {
		return View{elsewhere()}
	}
	if v, ok := n.views[place{network, from}]; ok {
		return v
	}
	if z, ok := n.zones[network]; ok {
		return View{z}
	}
	return nil
}

// elsewhere is what whoever is on none of our networks sees: no name of ours, and all
// others. Its origin ends no name.
func elsewhere() *Zone { return &Zone{origin: ". .", short: ". ."} }

// View is the zones that an asker may know, that of the network on which it
// asks first.
type View []*Zone

// Forwards reports whether questions about other names may leave the host: not
// those of a container that is on internal networks only. DNS is a way out, too
// (CVE-2024-29018).
func (v View) Forwards() bool {
	return slices.ContainsFunc(v, func(z *Zone) bool { return !z.internal })
}
