package dataplane

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"maps"
	"slices"
	"strings"
)

// Table names one of the tables of a [State]. Their order is the order in
// which rows are made.
type Table uint8

// The tables. Guards and chains come first, so that a deny is in place before the
// link that it guards is up; before a guard what it lets through, so that none
// stops what it should not; routes last, so that none exists before its neighbour.
const (
	TableSet Table = iota
	TableElement
	TableGuard
	TableChain
	TableJump
	TableLink
	TableQdisc // before anything can be sent
	TableAddr
	TableSysctl
	TableNeigh
	TableFDB
	TableRoute
	TableFlow // nothing is made there
	numTables
)

var tableNames = [...]string{"set", "element", "guard", "chain", "jump", "link", "qdisc", "addr", "sysctl", "neigh", "fdb", "route", "flow"}

func (t Table) String() string {
	if int(t) < len(tableNames) {
		return tableNames[t]
	}
	return "unknown"
}

// Tables is a set of tables.
type Tables uint16

// AllTables holds every table; NSTables those that exist in a container's
// namespace.
const (
	AllTables Tables = 1<<numTables - 1
	NSTables  Tables = 1<<TableLink | 1<<TableQdisc | 1<<TableAddr | 1<<TableRoute
	// NFTables are those of nf_tables, WallTables all that filter packets. None
	// of these rows goes with a link.
	NFTables   Tables = 1<<TableSet | 1<<TableElement | 1<<TableGuard
	WallTables Tables = NFTables | 1<<TableChain | 1<<TableJump
)

// Of returns the set of the given tables.
func Of(ts ...Table) Tables {
	var s Tables
	for _, t := range ts {
		s |= 1 << t
	}
	return s
}

// Has reports whether t is in s.
func (s Tables) Has(t Table) bool { return s&(1<<t) != 0 }

// Scope says what to read again: for each namespace, which tables. A scope is
// an economy, never a belief.
type Scope map[NS]Tables

// Add puts tables of ns into the scope.
func (s Scope) Add(ns NS, ts Tables) { s[ns] |= ts }

// Merge puts all of o into the scope.
func (s Scope) Merge(o Scope) {
	for ns, ts := range o {
		s[ns] |= ts
	}
}

// FullScope covers every table of the host and of the given namespaces.
func FullScope(namespaces ...NS) Scope {
	s := Scope{Host: AllTables}
	for _, ns := range namespaces {
		s.Add(ns, NSTables)
	}
	return s
}

// State is a set of rows: what is wanted, or what is there. The zero State is
// empty and ready for reading; use [NewState] or Add to fill one.
type State struct {
	Sets     map[SetKey]Set
	Elements map[ElementKey]Element
	Guards   map[GuardKey]Guard
	Flows    map[FlowKey]Flow // none is ever wanted
	Links    map[LinkKey]Link
	Qdiscs   map[QdiscKey]Qdisc
	Addrs    map[AddrKey]Addr
	Sysctls  map[SysctlKey]Sysctl
	Neighs   map[NeighKey]Neigh
	FDB      map[FDBKey]FDB
	Chains   map[ChainKey]Chain
	Jumps    map[JumpKey]Jump
	Routes   map[RouteKey]Route
}

// NewState returns a State of the given rows. A later row replaces an earlier
// one of the same key.
func NewState(rows ...Row) State {
	var s State
	s.Add(rows...)
	return s
}

// Reserve makes room for n more peers of one VXLAN device, so that adding them
// does not grow the tables step by step.
func (s *State) Reserve(n int) {
	reserve(&s.Neighs, n)
	reserve(&s.FDB, n)
	reserve(&s.Routes, n)
}

// ReserveInterfaces makes room for what n more interfaces of containers take, so
// that adding them does not grow the tables step by step.
func (s *State) ReserveInterfaces(n int) {
	reserve(&s.Links, 2*n)
	reserve(&s.Addrs, n)
	reserve(&s.Routes, 2*n)
	reserve(&s.Elements, 2*n)
	reserve(&s.Neighs, n)
	reserve(&s.FDB, n)
}

// ReserveElements makes room for n more elements of sets.
func (s *State) ReserveElements(n int) { reserve(&s.Elements, n) }

func reserve[K comparable, V any](m *map[K]V, n int) {
	if n < len(*m)/4 {
		return // to copy what is there would cost more
	}
	bigger := make(map[K]V, len(*m)+n)
	maps.Copy(bigger, *m)
	*m = bigger
}

// Add puts rows into the state, replacing rows of the same key.
func (s *State) Add(rows ...Row) {
	for _, r := range rows {
		switch r := r.(type) {
		case Set:
			put(&s.Sets, r.SetKey, r)
		case Element:
			put(&s.Elements, r.ElementKey, r)
		case Guard:
			put(&s.Guards, r.GuardKey, r)
		case Flow:
			put(&s.Flows, r.FlowKey, r)
		case Link:
			put(&s.Links, r.LinkKey, r)
		case Qdisc:
			put(&s.Qdiscs, r.QdiscKey, r)
		case Addr:
			put(&s.Addrs, r.AddrKey, r)
		case Sysctl:
			put(&s.Sysctls, r.SysctlKey, r)
		case Neigh:
			put(&s.Neighs, r.NeighKey, r)
		case FDB:
			put(&s.FDB, r.FDBKey, r)
		case Chain:
			put(&s.Chains, r.ChainKey, r)
		case Jump:
			put(&s.Jumps, r.JumpKey, r)
		case Route:
			put(&s.Routes, r.RouteKey, r)
		default:
			panic("dataplane: row of an unknown table")
		}
	}
}

func put[K comparable, V any](m *map[K]V, k K, v V) {
	if *m == nil {
		*m = map[K]V{}
	}
	(*m)[k] = v
}

// Delete takes the row of that key out, if there is one.
func (s *State) Delete(k Key) {
	switch k := k.(type) {
	case SetKey:
		delete(s.Sets, k)
	case ElementKey:
		delete(s.Elements, k)
	case GuardKey:
		delete(s.Guards, k)
	case FlowKey:
		delete(s.Flows, k)
	case LinkKey:
		delete(s.Links, k)
	case QdiscKey:
		delete(s.Qdiscs, k)
	case AddrKey:
		delete(s.Addrs, k)
	case SysctlKey:
		delete(s.Sysctls, k)
	case NeighKey:
		delete(s.Neighs, k)
	case FDBKey:
		delete(s.FDB, k)
	case ChainKey:
		delete(s.Chains, k)
	case JumpKey:
		delete(s.Jumps, k)
	case RouteKey:
		delete(s.Routes, k)
	}
}

// Get returns the row of that key.
func (s State) Get(k Key) (Row, bool) {
	switch k := k.(type) {
	case SetKey:
		return get(s.Sets, k)
	case ElementKey:
		return get(s.Elements, k)
	case GuardKey:
		return get(s.Guards, k)
	case FlowKey:
		return get(s.Flows, k)
	case LinkKey:
		return get(s.Links, k)
	case QdiscKey:
		return get(s.Qdiscs, k)
	case AddrKey:
		return get(s.Addrs, k)
	case SysctlKey:
		return get(s.Sysctls, k)
	case NeighKey:
		return get(s.Neighs, k)
	case FDBKey:
		return get(s.FDB, k)
	case ChainKey:
		return get(s.Chains, k)
	case JumpKey:
		return get(s.Jumps, k)
	case RouteKey:
		return get(s.Routes, k)
	}
	return nil, false
}

func get[K comparable, V Row](m map[K]V, k K) (Row, bool) {
	v, ok := m[k]
	return v, ok
}

// Len returns the number of rows.
func (s State) Len() int {
	return len(s.Sets) + len(s.Elements) + len(s.Guards) + len(s.Links) + len(s.Qdiscs) + len(s.Addrs) + len(s.Sysctls) + len(s.Neighs) + len(s.FDB) + len(s.Chains) + len(s.Jumps) + len(s.Routes) + len(s.Flows)
}

// Clone returns a copy that shares nothing that can change.
func (s State) Clone() State {
	return State{
		Sets: maps.Clone(s.Sets), Elements: maps.Clone(s.Elements), Guards: maps.Clone(s.Guards), Flows: maps.Clone(s.Flows),
		Links: maps.Clone(s.Links), Qdiscs: maps.Clone(s.Qdiscs), Addrs: maps.Clone(s.Addrs), Sysctls: maps.Clone(s.Sysctls), Neighs: maps.Clone(s.Neighs),
		FDB: maps.Clone(s.FDB), Chains: maps.Clone(s.Chains), Jumps: maps.Clone(s.Jumps), Routes: maps.Clone(s.Routes),
	}
}

// Replace takes every row within scope out of s and puts the rows of observed
// in: how a partial observation updates the last full one.
func (s *State) Replace(scope Scope, observed State) {
	drop(s.Sets, scope)
	drop(s.Elements, scope)
	drop(s.Guards, scope)
	drop(s.Flows, scope)
	drop(s.Links, scope)
	drop(s.Qdiscs, scope)
	drop(s.Addrs, scope)
	drop(s.Sysctls, scope)
	drop(s.Neighs, scope)
	drop(s.FDB, scope)
	drop(s.Chains, scope)
	drop(s.Jumps, scope)
	drop(s.Routes, scope)
	merge(&s.Sets, observed.Sets)
	merge(&s.Elements, observed.Elements)
	merge(&s.Guards, observed.Guards)
	merge(&s.Flows, observed.Flows)
	merge(&s.Links, observed.Links)
	merge(&s.Qdiscs, observed.Qdiscs)
	merge(&s.Addrs, observed.Addrs)
	merge(&s.Sysctls, observed.Sysctls)
	merge(&s.Neighs, observed.Neighs)
	merge(&s.FDB, observed.FDB)
	merge(&s.Chains, observed.Chains)
	merge(&s.Jumps, observed.Jumps)
	merge(&s.Routes, observed.Routes)
}

func drop[K interface {
	comparable
	Key
}, V any](m map[K]V, scope Scope,
) {
	maps.DeleteFunc(m, func(k K, _ V) bool { return scope[k.Namespace()].Has(k.Table()) })
}

func merge[K comparable, V any](dst *map[K]V, src map[K]V) {
	if *dst == nil {
		*dst = make(map[K]V, len(src))
	}
	maps.Copy(*dst, src)
}

// Rows returns all rows in the order in which they are made; within a table
// they are sorted by key.
func (s State) Rows() []Row {
	rows := make([]Row, 0, s.Len())
	rows = appendRows(rows, s.Sets, compareSet)
	rows = appendRows(rows, s.Elements, compareElement)
	rows = appendRows(rows, s.Guards, compareGuard)
	rows = appendRows(rows, s.Chains, compareChain)
	rows = appendRows(rows, s.Jumps, compareJump)
	rows = appendRows(rows, s.Links, compareLink)
	rows = appendRows(rows, s.Qdiscs, compareQdisc)
	rows = appendRows(rows, s.Addrs, compareAddr)
	rows = appendRows(rows, s.Sysctls, compareSysctl)
	rows = appendRows(rows, s.Neighs, compareNeigh)
	rows = appendRows(rows, s.FDB, compareFDB)
	rows = appendRows(rows, s.Routes, compareRoute)
	rows = appendRows(rows, s.Flows, compareFlow)
	return rows
}

func appendRows[K comparable, V Row](rows []Row, m map[K]V, compare func(a, b V) int) []Row {
	for _, v := range sorted(m, compare) {
		rows = append(rows, v)
	}
	return rows
}

func sorted[K comparable, V any](m map[K]V, compare func(a, b V) int) []V {
	vs := make([]V, 0, len(m))
	for _, v := range m {
		vs = append(vs, v)
	}
	slices.SortFunc(vs, compare)
	return vs
}

// String is the state as text, one row a line: what `ovlctl agent plan` prints
// and what golden tests hold.
func (s State) String() string {
	var b strings.Builder
	for _, r := range s.Rows() {
		b.WriteString(r.String())
		b.WriteByte('\n')
	}
	return b.String()
}

// linkRank puts bridges before VXLAN devices before VLANs before macvlans before
// containers' ends of veth pairs before the hosts' ends: each before what needs
// it.
func linkRank(l Link) int {
	switch {
	case l.Kind == Bridge:
		return 0
	case l.Kind == VXLAN:
		return 1
	case l.Kind == VLAN:
		return 2
	case l.Kind == Macvlan:
		return 3
	case l.Peer != "":
		return 4
	}
	return 5
}

func compareSetKey(a, b SetKey) int {
	return cmp.Or(cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Family, b.Family), cmp.Compare(a.Inner, b.Inner), cmp.Compare(a.Bits, b.Bits))
}

func compareSet(a, b Set) int { return compareSetKey(a.SetKey, b.SetKey) }

func compareElement(a, b Element) int {
	return cmp.Or(compareSetKey(a.Set, b.Set), cmp.Compare(a.VNI, b.VNI), cmp.Compare(a.Link, b.Link),
		slices.Compare(a.MAC[:], b.MAC[:]), a.Addr.Compare(b.Addr), a.From.Compare(b.From))
}

func compareGuard(a, b Guard) int { return cmp.Compare(a.In, b.In) }

func compareLink(a, b Link) int {
	return cmp.Or(cmp.Compare(linkRank(a), linkRank(b)), cmp.Compare(a.NS, b.NS), cmp.Compare(a.Name, b.Name))
}

func compareQdisc(a, b Qdisc) int {
	return cmp.Or(cmp.Compare(a.NS, b.NS), cmp.Compare(a.Link, b.Link))
}

func compareAddr(a, b Addr) int {
	return cmp.Or(cmp.Compare(a.NS, b.NS), cmp.Compare(a.Link, b.Link), a.Prefix.Addr().Compare(b.Prefix.Addr()), cmp.Compare(a.Prefix.Bits(), b.Prefix.Bits()))
}

func compareSysctl(a, b Sysctl) int {
	return cmp.Or(cmp.Compare(a.NS, b.NS), cmp.Compare(a.Name, b.Name))
}

func compareNeigh(a, b Neigh) int {
	return cmp.Or(cmp.Compare(a.NS, b.NS), cmp.Compare(a.Link, b.Link), a.IP.Compare(b.IP))
}

func compareFDB(a, b FDB) int {
	return cmp.Or(cmp.Compare(a.NS, b.NS), cmp.Compare(a.Link, b.Link), slices.Compare(a.MAC[:], b.MAC[:]))
}

func compareChain(a, b Chain) int {
	return cmp.Or(cmp.Compare(a.Family, b.Family), cmp.Compare(a.FirewallOf, b.FirewallOf), cmp.Compare(a.Name, b.Name))
}

func compareJump(a, b Jump) int {
	return cmp.Or(cmp.Compare(a.Family, b.Family), cmp.Compare(a.FirewallOf, b.FirewallOf), cmp.Compare(a.From, b.From), cmp.Compare(a.To, b.To))
}

// compareRoute puts the routes that are directly on a link before those with a
// gateway: the kernel refuses a gateway that it cannot reach yet.
func compareRoute(a, b Route) int {
	rank := func(r Route) int {
		if r.Via.IsValid() {
			return 1
		}
		return 0
	}
	return cmp.Or(cmp.Compare(a.NS, b.NS), cmp.Compare(rank(a), rank(b)),
		a.Dst.Addr().Compare(b.Dst.Addr()), cmp.Compare(a.Dst.Bits(), b.Dst.Bits()))
}

// NewChain returns a chain of the given rules with its digest.
func NewChain(key ChainKey, rules ...string) Chain {
	hashes := make([]string, len(rules))
	for i, r := range rules {
		hashes[i] = RuleHash(r)
	}
	return Chain{ChainKey: key, Rules: strings.Join(rules, "\n"), Digest: strings.Join(hashes, "\n")}
}

// RuleHash returns the hash that a rule carries in its comment: 12 hexadecimal
// digits, enough that a hand's change does not pass for ours.
func RuleHash(rule string) string {
	sum := sha256.Sum256([]byte(rule))
	return hex.EncodeToString(sum[:6])
}
