package resolver

import (
	"maps"
	"net/netip"
	"slices"

	"github.com/ovlnet/ovl/internal/cluster"
)

// Zone is what the names of one network mean. It is immutable.
type Zone struct {
	network  string
	origin   string // of full names, with a dot at either end: .blue.ovl.internal.
	short    string // of short ones: .blue.
	internal bool
	pools    []netip.Prefix
	addrs    map[string][]netip.Addr // of a label; sorted, none twice
	labels   map[netip.Addr]string   // of an address
}

// Build returns the zone of a network with those endpoints. It is the same
// whatever their order. Addresses outside of the network are left out: whoever
// wrote them cannot make a name lead elsewhere.
func Build(n cluster.Network, endpoints []cluster.Endpoint) *Zone {
	z := &Zone{
		network: n.Name, origin: "." + n.Domain() + ".", short: "." + n.Name + ".", internal: n.Internal,
		addrs: make(map[string][]netip.Addr, len(endpoints)), labels: make(map[netip.Addr]string, len(endpoints)),
	}
	for _, p := range n.Pools {
		z.pools = append(z.pools, p.Prefix)
	}
	for _, e := range endpoints {
		for _, a := range e.Addrs {
			if z.holds(a) {
				z.add(e, a)
			}
		}
	}
	for label, addrs := range z.addrs {
		if len(addrs) > 1 {
			slices.SortFunc(addrs, netip.Addr.Compare)
			z.addrs[label] = slices.Compact(addrs)
		}
	}
	return z
}

// add enters one address of an endpoint under all its names. In reverse it has
// one, its own name if it has any; of two endpoints with one address the
// smaller name, so that the order of the endpoints does not matter.
func (z *Zone) add(e cluster.Endpoint, a netip.Addr) {
	reverse := e.Name
	if reverse != "" {
		z.addrs[reverse] = append(z.addrs[reverse], a)
	}
	for _, alias := range e.Aliases {
		z.addrs[alias] = append(z.addrs[alias], a)
	}
	if reverse == "" && len(e.Aliases) > 0 {
		reverse = slices.Min(e.Aliases)
	}
	if old, ok := z.labels[a]; reverse != "" && (!ok || reverse < old) {
		z.labels[a] = reverse
	}
}

// holds reports whether a is an address of the network.
func (z *Zone) holds(a netip.Addr) bool {
	return slices.ContainsFunc(z.pools, func(p netip.Prefix) bool { return p.Contains(a) })
}

// Labels returns the names of the zone, sorted.
func (z *Zone) Labels() []string { return slices.Sorted(maps.Keys(z.addrs)) }
