package api

import (
	"cmp"
	"slices"
	"strings"

	"github.com/ovlnet/ovl/controller/admit"
	"github.com/ovlnet/ovl/internal/cluster"
	"github.com/ovlnet/ovl/internal/store"
)

// facts are the decoded records of one read. The slices are sorted as the lists
// of the API are.
type facts struct {
	revision  int64
	networks  []cluster.Network // by name
	vnis      map[cluster.VNI]string
	hosts     []cluster.Host // by name, then ID; Draining is joined in
	sessions  map[cluster.HostID]cluster.Session
	clones    map[cluster.HostID][]cluster.Session // agents that found their host's session taken
	leases    []cluster.Lease                      // by network, then prefix
	endpoints []cluster.Endpoint                   // by network, name, ID, host
	allocated int64                                // revision of the allocation record; 0 = none
	bad       []badRecord
}

// badRecord is one that cannot be read. It is left out of lists, so that one
// broken writer does not hide everybody else, and shown in the status.
type badRecord struct {
	key  string
	err  error
	host cluster.HostID // that it says it is of, if it is not believed
}

// newFacts returns what the records of a page say, but for those that are not their
// hosts' own.
func newFacts(p store.Page, doubts map[string]error) facts {
	f := facts{
		revision: p.Revision,
		vnis:     map[cluster.VNI]string{},
		sessions: map[cluster.HostID]cluster.Session{},
		clones:   map[cluster.HostID][]cluster.Session{},
	}
	draining := map[cluster.HostID]bool{}
	for _, r := range p.Records {
		if err := doubts[r.Key]; err != nil {
			f.bad = append(f.bad, badRecord{key: r.Key, err: err, host: store.Claimant(r)})
			continue
		}
		if err := f.add(r, draining); err != nil {
			f.bad = append(f.bad, badRecord{key: r.Key, err: err})
		}
	}
	for i := range f.hosts {
		f.hosts[i].Draining = draining[f.hosts[i].ID]
	}
	for _, n := range f.networks {
		f.vnis[n.VNI] = n.Name
	}
	f.sort()
	return f
}

func (f *facts) add(r store.Record, draining map[cluster.HostID]bool) error {
	switch {
	case strings.HasPrefix(r.Key, store.NetworksPrefix):
		return appendTo(&f.networks, r, store.DecodeNetwork)
	case strings.HasPrefix(r.Key, store.HostsPrefix):
		return appendTo(&f.hosts, r, store.DecodeHost)
	case strings.HasPrefix(r.Key, store.SubnetsPrefix("")):
		return appendTo(&f.leases, r, store.DecodeLease)
	case strings.HasPrefix(r.Key, store.EndpointsPrefix("")):
		return appendTo(&f.endpoints, r, store.DecodeEndpoint)
	case strings.HasPrefix(r.Key, store.VNIsPrefix):
		vni, network, err := store.DecodeVNI(r)
		if err == nil {
			f.vnis[vni] = network
		}
		return err
	case strings.HasPrefix(r.Key, store.DrainsPrefix):
		id, err := store.ParseDrainKey(r.Key)
		draining[id] = err == nil
		return err
	case strings.HasPrefix(r.Key, store.SessionsPrefix):
		s, err := store.DecodeSession(r)
		if err == nil {
			f.sessions[s.Host] = s
		}
		return err
	case strings.HasPrefix(r.Key, store.ClonesPrefix):
		s, err := store.DecodeClone(r)
		if err == nil {
			f.clones[s.Host] = append(f.clones[s.Host], s)
		}
		return err
	case r.Key == allocationKey:
		f.allocated = r.ModRev
	}
	return nil // a kind that a newer version added
}

func appendTo[T any](to *[]T, r store.Record, decode func(store.Record) (T, error)) error {
	v, err := decode(r)
	if err == nil {
		*to = append(*to, v)
	}
	return err
}

func (f *facts) sort() {
	slices.SortFunc(f.networks, func(a, b cluster.Network) int { return cmp.Compare(networkOrder(a), networkOrder(b)) })
	slices.SortFunc(f.hosts, func(a, b cluster.Host) int { return cmp.Compare(hostOrder(a), hostOrder(b)) })
	slices.SortFunc(f.leases, func(a, b cluster.Lease) int { return cmp.Compare(leaseOrder(a), leaseOrder(b)) })
	slices.SortFunc(f.endpoints, func(a, b cluster.Endpoint) int { return cmp.Compare(endpointOrder(a), endpointOrder(b)) })
}

// The order of each list, as text that compares that way: a page token carries
// the text of the last item, so a list continues at the right place whatever
// came and went in between. The separator sorts before all that a name holds.

func networkOrder(n cluster.Network) string { return n.Name }

func hostOrder(h cluster.Host) string { return h.Name + "\x00" + string(h.ID) }

func leaseOrder(l cluster.Lease) string {
	a := l.Prefix.Addr().AsSlice()
	return l.Network + "\x00" + string(rune(len(a))) + string(a) + string(rune(l.Prefix.Bits()))
}

func endpointOrder(e cluster.Endpoint) string {
	return strings.Join([]string{e.Network, e.Name, e.ID, string(e.Host)}, "\x00")
}

// network returns the network of that name.
func (f *facts) network(name string) (cluster.Network, bool) {
	for _, n := range f.networks {
		if n.Name == name {
			return n, true
		}
	}
	return cluster.Network{}, false
}

// host returns the host of that ID; if there is none, one with the ID alone.
func (f *facts) host(id cluster.HostID) cluster.Host {
	for _, h := range f.hosts {
		if h.ID == id {
			return h
		}
	}
	return cluster.Host{ID: id}
}

func (f *facts) admission() admit.Facts {
	return admit.Facts{Networks: f.networks, Hosts: f.hosts, VNIs: f.vnis}
}
