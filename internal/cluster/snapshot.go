package cluster

import (
	"cmp"
	"net/netip"
	"slices"
	"sort"
)

// Snapshot is a complete, immutable picture of the facts that a host plans
// from, as of one revision of the store or of several close ones. All slices
// are sorted (see [NewSnapshot]); callers must not change them.
type Snapshot struct {
	// Revision of the newest record within.
	Revision int64
	Networks []Network // by name
	Hosts    []Host    // by ID
	Leases   []Lease   // by network, then prefix
	// Endpoints are by network, then host, then ID. Names are answered from
	// them; nothing is planned from them, so they do not count for Revision.
	Endpoints []Endpoint
}

// NewSnapshot sorts the facts and returns them as a Snapshot. It takes
// ownership of the slices.
func NewSnapshot(revision int64, networks []Network, hosts []Host, leases []Lease) *Snapshot {
	slices.SortFunc(networks, func(a, b Network) int { return cmp.Compare(a.Name, b.Name) })
	slices.SortFunc(hosts, func(a, b Host) int { return cmp.Compare(a.ID, b.ID) })
	slices.SortFunc(leases, func(a, b Lease) int {
		return cmp.Or(cmp.Compare(a.Network, b.Network), ComparePrefix(a.Prefix, b.Prefix))
	})
	return &Snapshot{Revision: revision, Networks: networks, Hosts: hosts, Leases: leases}
}

// WithEndpoints sorts the endpoints and returns s with them. It takes ownership
// of the slice.
func (s *Snapshot) WithEndpoints(endpoints []Endpoint) *Snapshot {
	slices.SortFunc(endpoints, func(a, b Endpoint) int {
		return cmp.Or(cmp.Compare(a.Network, b.Network), cmp.Compare(a.Host, b.Host), cmp.Compare(a.ID, b.ID))
	})
	out := *s
	out.Endpoints = endpoints
	return &out
}

// Network returns the network of that name.
func (s *Snapshot) Network(name string) (Network, bool) {
	i, ok := slices.BinarySearchFunc(s.Networks, name, func(n Network, name string) int { return cmp.Compare(n.Name, name) })
	if !ok {
		return Network{}, false
	}
	return s.Networks[i], true
}

// Host returns the host of that ID.
func (s *Snapshot) Host(id HostID) (Host, bool) {
	// By index: a plan asks for thousands, and a search that passes hosts by value
	// spends most of its time copying them.
	i := sort.Search(len(s.Hosts), func(i int) bool { return s.Hosts[i].ID >= id })
	if i == len(s.Hosts) || s.Hosts[i].ID != id {
		return Host{}, false
	}
	return s.Hosts[i], true
}

// NetworkLeases returns the leases of one network, sorted by prefix.
func (s *Snapshot) NetworkLeases(name string) []Lease {
	lo, _ := slices.BinarySearchFunc(s.Leases, name, func(l Lease, name string) int { return cmp.Compare(l.Network, name) })
	hi := lo
	for hi < len(s.Leases) && s.Leases[hi].Network == name {
		hi++
	}
	return s.Leases[lo:hi:hi]
}

// NetworkEndpoints returns the endpoints of one network, sorted by host and ID.
func (s *Snapshot) NetworkEndpoints(name string) []Endpoint {
	lo, _ := slices.BinarySearchFunc(s.Endpoints, name, func(e Endpoint, name string) int { return cmp.Compare(e.Network, name) })
	hi := lo
	for hi < len(s.Endpoints) && s.Endpoints[hi].Network == name {
		hi++
	}
	return s.Endpoints[lo:hi:hi]
}

// ComparePrefix orders prefixes by address, then by length.
func ComparePrefix(a, b netip.Prefix) int {
	return cmp.Or(a.Addr().Compare(b.Addr()), cmp.Compare(a.Bits(), b.Bits()))
}
