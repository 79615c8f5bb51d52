package dataplane

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// Verb says what an [Op] does.
type Verb uint8

// The verbs. Create and Update both leave the kernel with the row as given,
// whatever was there of ours before; they differ in what the operator reads.
const (
	Create Verb = iota
	Update
	Delete
)

func (v Verb) String() string { return [...]string{"create", "update", "delete"}[v] }

// Op is one small operation on one row: data, so that it can be printed,
// compared and replayed.
type Op struct {
	Verb Verb
	Row  Row
	Why  string // in one line, for people
}

func (o Op) String() string {
	return [...]string{"+ ", "~ ", "- "}[o.Verb] + o.Row.String() + "  # " + o.Why
}

// Diff returns the operations that lead from have to want, in an order in which
// each can be done: makers up, then breakers down. It is deterministic, and
// empty when both are the same. Only a link whose kind, VXLAN attributes, peer,
// parent or VLAN differ is replaced; its deletion stands right before its creation, and all
// that hung on it counts as absent, since the kernel takes it along.
func Diff(want, have State) []Op {
	d := differ{want: want, have: have, gone: map[LinkKey]bool{}, absent: map[LinkKey]bool{}, moved: map[LinkKey]bool{}, replaced: map[LinkKey]bool{}, lostSrc: map[source]bool{}}
	d.findGone()

	gone := func(ns NS, link string) bool { return d.absent[LinkKey{ns, link}] }
	sets, oldSets := tableOps(want.Sets, have.Sets, compareSet, same[Set], nil, nil)
	elements, oldElements := tableOps(want.Elements, have.Elements, compareElement, same[Element], nil, func(r Element) bool {
		_, stays := want.Sets[r.Set]
		return !stays // it goes with its set
	})
	guards, oldGuards := tableOps(want.Guards, have.Guards, compareGuard, sameGuard, nil, nil)
	chains, oldChains := tableOps(want.Chains, have.Chains, compareChain, sameChain, nil, nil)
	jumps, oldJumps := tableOps(want.Jumps, have.Jumps, compareJump, same[Jump], nil, nil)
	lostQdisc := func(r Qdisc) bool { return gone(r.NS, r.Link) }
	qdiscs, oldQdiscs := tableOps(want.Qdiscs, have.Qdiscs, compareQdisc, same[Qdisc], lostQdisc, lostQdisc)
	lostAddr := func(r Addr) bool { return gone(r.NS, r.Link) }
	addrs, oldAddrs := tableOps(want.Addrs, have.Addrs, compareAddr, same[Addr], lostAddr, lostAddr)
	sysctls, _ := tableOps(want.Sysctls, have.Sysctls, compareSysctl, same[Sysctl], func(r Sysctl) bool {
		k, ok := r.Link()
		return ok && d.absent[k]
	}, nil)
	neighs, oldNeighs := tableOps(want.Neighs, have.Neighs, compareNeigh, same[Neigh], func(r Neigh) bool {
		// Changing the MAC of a device flushes its neighbours, permanent ones
		// too (neigh_changeaddr in net/core/neighbour.c).
		return gone(r.NS, r.Link) || d.moved[LinkKey{r.NS, r.Link}]
	}, func(r Neigh) bool { return gone(r.NS, r.Link) })
	lostFDB := func(r FDB) bool { return gone(r.NS, r.Link) || d.unplugged(LinkKey{r.NS, r.Link}) }
	fdb, oldFDB := tableOps(want.FDB, have.FDB, compareFDB, same[FDB], lostFDB, lostFDB)
	routes, oldRoutes := tableOps(want.Routes, have.Routes, compareRoute, same[Route], d.routeAbsent, d.routeGone)
	var oldLinks []Op
	if len(d.gone) > 0 {
		oldLinks = breakOps(want.Links, have.Links, compareLink, d.takenAlong)
	}

	return slices.Concat(
		sets, elements, guards, chains, jumps, d.linkOps(), qdiscs, addrs, sysctls, neighs, fdb, routes,
		oldRoutes, oldFDB, oldNeighs, oldAddrs, oldQdiscs, oldLinks, oldJumps, oldChains, oldGuards, oldElements, oldSets, staleFlows(have),
	)
}

type differ struct {
	want, have State
	// gone links are deleted or replaced by an operation of this diff.
	gone map[LinkKey]bool
	// absent links no longer exist, with all that hangs on them, by the time
	// later rows are made: the gone ones and the other ends of their pairs.
	absent map[LinkKey]bool
	// moved links get another MAC.
	moved map[LinkKey]bool
	// lostSrc are the addresses that go with absent links: the kernel takes every
	// route along that prefers one as its source, whatever link it is on
	// (fib_sync_down_addr in net/ipv4/fib_semantics.c).
	lostSrc map[source]bool
	made    map[source]bool // the addresses that are wanted; nil until asked for
	// replaced are the hosts' ends of pairs whose other end is replaced.
	replaced map[LinkKey]bool
}

type source struct {
	ns   NS
	addr netip.Addr
}

func (d *differ) routeAbsent(r Route) bool {
	return d.absent[LinkKey{r.NS, r.Link}] || r.Src.IsValid() && d.lostSrc[source{r.NS, r.Src}]
}

// mustReplace reports whether the kernel cannot turn have into want.
func mustReplace(want, have Link) bool {
	return want.Kind != have.Kind || want.VXLAN != have.VXLAN || want.Peer != have.Peer ||
		want.Parent != have.Parent || want.VLANID != have.VLANID
}

// routeGone reports whether a route that is not wanted goes by itself. An IPv6 one
// outlives its source: it only prefers none any more (rt6_remove_prefsrc in
// net/ipv6/route.c).
func (d *differ) routeGone(r Route) bool {
	return d.absent[LinkKey{r.NS, r.Link}] || r.Src.Is4() && d.lostSrc[source{r.NS, r.Src}]
}

func (d *differ) findGone() {
	for k, h := range d.have.Links {
		w, ok := d.want.Links[k]
		switch {
		case !ok || mustReplace(w, h):
			d.gone[k], d.absent[k] = true, true
		case w.MAC != h.MAC:
			d.moved[k] = true
		}
	}
	if len(d.gone) == 0 {
		return // and nothing goes along
	}
	// One end of a veth pair takes the other along.
	for k, h := range d.have.Links {
		if h.Peer == "" {
			continue
		}
		host := LinkKey{Host, h.Peer}
		switch {
		case d.gone[k]:
			d.absent[host] = true
			_, d.replaced[host] = d.want.Links[k]
		case d.gone[host]:
			d.absent[k] = true
		}
	}
	// A link takes along what has it as its parent.
	for k, h := range d.have.Links {
		if d.lostParent(h) {
			d.absent[k] = true
		}
	}
	d.findLost()
}

// findLost finds the addresses that go with absent links and are on no other
// link by then. A link that is replaced goes before any address is made; one that
// is not wanted goes last.
func (d *differ) findLost() {
	elsewhere := map[source]bool{}
	for k := range d.have.Addrs {
		if len(d.absent) > 0 && !d.absent[LinkKey{k.NS, k.Link}] {
			elsewhere[source{k.NS, k.Prefix.Addr()}] = true
		}
	}
	for k := range d.have.Addrs {
		link, s := LinkKey{k.NS, k.Link}, source{k.NS, k.Prefix.Addr()}
		if !d.absent[link] || elsewhere[s] {
			continue
		}
		_, replaced := d.want.Links[link]
		if replaced || !d.makes(s) {
			d.lostSrc[s] = true
		}
	}
}

// makes reports whether an address is wanted.
func (d *differ) makes(s source) bool {
	if d.made == nil {
		d.made = make(map[source]bool, len(d.want.Addrs))
		for k := range d.want.Addrs {
			d.made[source{k.NS, k.Prefix.Addr()}] = true
		}
	}
	return d.made[s]
}

// lostParent reports whether the parent of a link goes. One that is not ours is
// in no table.
func (d *differ) lostParent(l Link) bool {
	return l.Parent != "" && d.gone[LinkKey{Host, l.Parent}]
}

// unplugged reports whether a port leaves its bridge, and with that the bridge's
// entries that lead to it (del_nbp in net/bridge/br_if.c).
func (d *differ) unplugged(k LinkKey) bool {
	h := d.have.Links[k]
	if h.Master == "" {
		return false
	}
	w, wanted := d.want.Links[k]
	return d.absent[LinkKey{k.NS, h.Master}] || wanted && w.Master != h.Master
}

// takenAlong reports whether an unwanted link goes with the other end of its
// pair, or has gone with its parent, so that no operation of its own is owed.
func (d *differ) takenAlong(l Link) bool {
	if l.Parent != "" {
		_, replaced := d.want.Links[LinkKey{Host, l.Parent}]
		return replaced && d.lostParent(l)
	}
	if l.Peer != "" {
		return d.gone[LinkKey{Host, l.Peer}] // the host's end is deleted, without entering the container
	}
	return d.replaced[l.LinkKey]
}

func (d *differ) linkOps() []Op {
	var rows []Link
	for k, w := range d.want.Links {
		if h, ok := d.have.Links[k]; !ok || h != w || d.gone[k] || d.absent[k] || h.Master != "" && d.absent[LinkKey{k.NS, h.Master}] {
			rows = append(rows, w)
		}
	}
	slices.SortFunc(rows, compareLink)
	var ops []Op
	for _, w := range rows {
		h, ok := d.have.Links[w.LinkKey]
		switch {
		case ok && d.gone[w.LinkKey]:
			ops = append(ops, Op{Delete, h, "replaced: " + linkChange(w, h)}, Op{Create, w, "replaces: " + linkChange(w, h)})
		case !ok || d.absent[w.LinkKey]:
			ops = append(ops, Op{Create, w, "missing"})
		default:
			if h.Master != "" && d.absent[LinkKey{w.NS, h.Master}] {
				h.Master, h.Hairpin = "", false // the port falls off when its bridge goes
			}
			if h != w {
				ops = append(ops, Op{Update, w, "differs: " + linkChange(w, h)})
			}
		}
	}
	return ops
}

// linkChange says in which attributes want differs from have.
func linkChange(want, have Link) string {
	var parts []string
	note := func(name string, w, h any) {
		if w != h {
			parts = append(parts, fmt.Sprintf("%s is %v", name, h))
		}
	}
	note("type", want.Kind, have.Kind)
	note("vni", want.VXLAN.VNI, have.VXLAN.VNI)
	note("dstport", want.VXLAN.Port, have.VXLAN.Port)
	note("local", want.VXLAN.Local, have.VXLAN.Local)
	note("peer", want.Peer, have.Peer)
	note("link", orNone(want.Parent), orNone(have.Parent))
	note("id", want.VLANID, have.VLANID)
	note("master", orNone(want.Master), orNone(have.Master))
	note("hairpin", want.Hairpin, have.Hairpin)
	note("address", want.MAC, have.MAC)
	note("mtu", want.MTU, have.MTU)
	note("up", want.Up, have.Up)
	note("alias", want.Alias, have.Alias)
	if len(parts) == 0 {
		return "other end replaced"
	}
	return strings.Join(parts, ", ")
}

func orNone(s string) string {
	if s == "" {
		return "none"
	}
	return s
}

// same compares rows without making interface values of them: in large tables
// that is most of the cost of finding that there is nothing to do.
func same[V comparable](a, b V) bool { return a == b }

func sameChain(a, b Chain) bool { return a.Same(b) }
func sameGuard(a, b Guard) bool { return a.Same(b) }

// tableOps returns the operations of one table: what is made or updated, and
// what goes. absent tells which rows of have do not count when rows are made, lost
// which of them go without an operation of their own.
func tableOps[K comparable, V Row](
	want, have map[K]V, compare func(a, b V) int, same func(a, b V) bool, absent, lost func(V) bool,
) (makes, breaks []Op) {
	makes, kept := makeOps(want, have, compare, same, absent)
	if kept < len(have) { // else nothing in have is unwanted: mostly so
		breaks = breakOps(want, have, compare, lost)
	}
	return makes, breaks
}

// makeOps returns the creations and updates of one table, and how many keys of
// have are wanted.
func makeOps[K comparable, V Row](want, have map[K]V, compare func(a, b V) int, same func(a, b V) bool, absent func(V) bool) (ops []Op, kept int) {
	var rows []V
	verbs := map[K]Verb{}
	for k, w := range want {
		h, ok := have[k]
		if ok {
			kept++
		}
		switch {
		case !ok || absent != nil && absent(h):
			verbs[k] = Create
		case !same(w, h):
			verbs[k] = Update
		default:
			continue
		}
		rows = append(rows, w)
	}
	slices.SortFunc(rows, compare)
	ops = make([]Op, len(rows))
	for i, w := range rows {
		k := any(w.Key()).(K)
		if ops[i] = (Op{verbs[k], w, "missing"}); verbs[k] == Update {
			ops[i].Why = "was: " + firstLine(have[k].String())
		}
	}
	return ops, kept
}

// breakOps returns the deletions of one table, last made first.
func breakOps[K comparable, V Row](want, have map[K]V, compare func(a, b V) int, absent func(V) bool) []Op {
	var rows []V
	for k, h := range have {
		if _, ok := want[k]; !ok && (absent == nil || !absent(h)) {
			rows = append(rows, h)
		}
	}
	slices.SortFunc(rows, func(a, b V) int { return compare(b, a) })
	ops := make([]Op, len(rows))
	for i, h := range rows {
		ops[i] = Op{Delete, h, "not wanted"}
	}
	return ops
}

func firstLine(s string) string {
	s, _, _ = strings.Cut(s, "\n")
	return s
}

// Requires returns the keys of the rows in want that must be in place before r
// can be made. When one of them has failed, making r is pointless or unsafe:
// it is blocked.
func Requires(r Row, want State) []Key {
	var keys []Key
	need := func(k Key) {
		if _, ok := want.Get(k); ok {
			keys = append(keys, k)
		}
	}
	switch r := r.(type) {
	case Element:
		need(r.Set)
	case Guard:
		for k := range want.Sets {
			if k.In() == r.In {
				keys = append(keys, k)
			}
		}
		slices.SortFunc(keys, func(a, b Key) int { return strings.Compare(a.String(), b.String()) })
	case Jump:
		need(ChainKey{r.Family, r.FirewallOf, r.To})
	case Link:
		if r.NS == Host && r.Kind != Veth {
			// No network comes up unguarded: the filter chains first.
			for k := range want.Chains {
				if k.FirewallOf == "filter" {
					keys = append(keys, k)
				}
			}
			slices.SortFunc(keys, func(a, b Key) int { return strings.Compare(a.String(), b.String()) })
		}
		switch {
		case r.NS == Host && r.Kind == VXLAN:
			need(GuardKey{NFInet})
		case r.NS == Host && r.Kind == Veth:
			need(GuardKey{NFBridge})
		}
		if r.Master != "" {
			need(LinkKey{r.NS, r.Master})
		}
		if r.Parent != "" {
			need(LinkKey{Host, r.Parent})
		}
		if r.Kind == Veth && r.Peer == "" {
			for k, l := range want.Links {
				if l.Peer == r.Name && r.NS == Host {
					keys = append(keys, k)
				}
			}
		}
	case Qdisc:
		need(LinkKey{r.NS, r.Link})
	case Addr:
		need(LinkKey{r.NS, r.Link})
	case Sysctl:
		if k, ok := r.Link(); ok {
			need(k)
		}
	case Neigh:
		need(LinkKey{r.NS, r.Link})
	case FDB:
		need(LinkKey{r.NS, r.Link})
	case Route:
		need(LinkKey{r.NS, r.Link})
		if r.Via.IsValid() {
			need(NeighKey{r.NS, r.Link, r.Via})
		}
		if r.Src.IsValid() {
			for k := range want.Addrs {
				if k.NS == r.NS && k.Prefix.Addr() == r.Src {
					keys = append(keys, k)
				}
			}
		}
	}
	return keys
}
