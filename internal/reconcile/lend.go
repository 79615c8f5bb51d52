package reconcile

import (
	"maps"

	"github.com/ovlnet/ovl/internal/dataplane"
)

// Lend says which links, by their aliases, somebody else has in hand from now on: they
// and what is on them count neither as there nor as missing, in no round of a pass,
// wherever they are moved meanwhile.
func (r *Reconciler) Lend(aliases map[string]bool) {
	if maps.Equal(aliases, r.lending) {
		return
	}
	r.takeBack()
	r.lending = aliases
	r.withhold()
}

// Lent returns what was last observed of what is lent. Callers must not change it.
func (r *Reconciler) Lent() dataplane.State { return r.lent }

func (r *Reconciler) takeBack() {
	r.have.Add(r.lent.Rows()...)
	r.lent = dataplane.State{}
}

func (r *Reconciler) withhold() {
	if len(r.lending) == 0 {
		return
	}
	for k, l := range r.have.Links {
		if r.lending[l.Alias] {
			r.lent.Add(l)
			delete(r.have.Links, k)
		}
	}
	if len(r.lent.Links) == 0 {
		return
	}
	on := func(ns dataplane.NS, link string) bool {
		_, ok := r.lent.Links[dataplane.LinkKey{NS: ns, Name: link}]
		return ok
	}
	for k, a := range r.have.Addrs {
		if on(k.NS, k.Link) {
			r.lent.Add(a)
			delete(r.have.Addrs, k)
		}
	}
	for k, q := range r.have.Qdiscs {
		if on(k.NS, k.Link) {
			r.lent.Add(q)
			delete(r.have.Qdiscs, k)
		}
	}
	for k, f := range r.have.FDB {
		if on(k.NS, k.Link) {
			r.lent.Add(f)
			delete(r.have.FDB, k)
		}
	}
	for k, route := range r.have.Routes {
		if on(k.NS, route.Link) {
			r.lent.Add(route)
			delete(r.have.Routes, k)
		}
	}
}
