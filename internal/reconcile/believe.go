package reconcile

import (
	"maps"
	"net/netip"

	"github.com/ovlnet/ovl/internal/dataplane"
)

// maxBelieved is how many operations on the host's tables are believed at first
// in one round. After more of them, reading those tables costs less than the
// operations did.
const maxBelieved = 64

// plain reports whether it is known, without looking, what an operation leaves in
// the kernel once it has succeeded: its own row, and of what was there none that
// [Reconciler.believe] does not take away.
//
// What a container's interface takes is plain as long as nothing stood in its
// place. All else about links is not: setting one down takes routes along, setting
// a MAC neighbours, and that without a word.
func (r *Reconciler) plain(op dataplane.Op) bool {
	switch row := op.Row.(type) {
	case dataplane.Element, dataplane.Qdisc, dataplane.Neigh, dataplane.FDB, dataplane.Route, dataplane.Flow:
		return true
	case dataplane.Addr:
		return op.Verb == dataplane.Create // without a route of the kernel's own
	case dataplane.Link:
		if row.Kind != dataplane.Veth || op.Verb == dataplane.Update {
			return false
		}
		return op.Verb == dataplane.Delete || !r.stands(row.LinkKey) && (row.Peer == "" || !r.stands(dataplane.LinkKey{Name: row.Peer}))
	}
	return false
}

func (r *Reconciler) stands(k dataplane.LinkKey) bool {
	_, ok := r.have.Links[k]
	return ok
}

// believe takes operations that succeeded for what the kernel now holds, until it
// is read.
func (r *Reconciler) believe(done []dataplane.Op, written dataplane.Scope) {
	gone := map[dataplane.LinkKey]bool{}
	for _, op := range done {
		if op.Verb != dataplane.Delete {
			r.have.Add(op.Row)
			continue
		}
		switch k := op.Row.Key().(type) {
		case dataplane.LinkKey:
			gone[k] = true
		case dataplane.ChainKey: // with the jumps of ours into it
			maps.DeleteFunc(r.have.Jumps, func(j dataplane.JumpKey, _ dataplane.Jump) bool {
				return j.Family == k.Family && j.FirewallOf == k.FirewallOf && j.To == k.Name
			})
			r.have.Delete(k)
		default:
			r.have.Delete(k)
		}
	}
	if len(gone) > 0 {
		r.bury(gone)
	}
	r.owed.Merge(written)
}

// bury takes away what goes with links of veth pairs: the other ends, their
// qdiscs, addresses and entries at the bridge, and the routes on them or from those
// addresses.
func (r *Reconciler) bury(gone map[dataplane.LinkKey]bool) {
	for k, l := range r.have.Links {
		if l.Peer == "" {
			continue
		}
		if end := (dataplane.LinkKey{Name: l.Peer}); gone[k] || gone[end] {
			gone[k], gone[end] = true, true
		}
	}
	type source struct {
		ns   dataplane.NS
		addr netip.Addr
	}
	sources := map[source]bool{}
	for k := range gone {
		delete(r.have.Links, k)
	}
	for k := range r.have.Qdiscs {
		if gone[dataplane.LinkKey{NS: k.NS, Name: k.Link}] {
			delete(r.have.Qdiscs, k)
		}
	}
	for k := range r.have.FDB {
		if gone[dataplane.LinkKey{NS: k.NS, Name: k.Link}] {
			delete(r.have.FDB, k)
		}
	}
	for k := range r.have.Addrs {
		if gone[dataplane.LinkKey{NS: k.NS, Name: k.Link}] {
			sources[source{k.NS, k.Prefix.Addr()}] = true
			delete(r.have.Addrs, k)
		}
	}
	for k, route := range r.have.Routes {
		if gone[dataplane.LinkKey{NS: k.NS, Name: route.Link}] || sources[source{k.NS, route.Src}] {
			delete(r.have.Routes, k)
		}
	}
}
