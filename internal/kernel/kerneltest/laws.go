package kerneltest

import (
	"slices"
	"strings"
	"testing"

	"github.com/ovlnet/ovl/internal/dataplane"
)

// zero is what a host with no agent has: its sysctls.
func zero(t testing.TB, h Harness) dataplane.State {
	t.Helper()
	s := observe(t, h)
	return dataplane.State{Sysctls: s.Sysctls}
}

func testEmpty(t *testing.T, h Harness) {
	ns := h.Namespace(t)
	equal(t, zero(t, h), observe(t, h, ns))
}

// testRoundTrip: the laws of convergence, rest and round trip.
func testRoundTrip(t *testing.T, h Harness) {
	a, b := h.Namespace(t), h.Namespace(t)
	want := world(a, b)
	pass(t, h, want, -1, a, b)
	equal(t, want, observe(t, h, a, b))
	if n := pass(t, h, want, -1, a, b); n != 0 {
		t.Errorf("a second pass had %d operations; want none", n)
	}
	// Writing again what is there changes nothing.
	for _, r := range want.Rows() {
		apply(t, h, dataplane.Update, r)
	}
	equal(t, want, observe(t, h, a, b))
	for _, r := range want.Rows() {
		apply(t, h, dataplane.Create, r)
	}
	equal(t, want, observe(t, h, a, b))
}

// testScope: an observation holds the tables and namespaces of its scope, all
// of them and no other.
func testScope(t *testing.T, h Harness) {
	a, b := h.Namespace(t), h.Namespace(t)
	want := world(a, b)
	pass(t, h, want, -1, a, b)
	for table := dataplane.TableSet; table <= dataplane.TableRoute; table++ {
		scope := dataplane.Scope{dataplane.Host: dataplane.Of(table), a: dataplane.Of(table)}
		got, facts, err := h.Kernel().Observe(t.Context(), scope)
		if err != nil {
			t.Fatalf("observe %s: %v", table, err)
		}
		var part dataplane.State
		for _, r := range want.Rows() {
			if k := r.Key(); scope[k.Namespace()].Has(k.Table()) {
				part.Add(r)
			}
		}
		if !same(part, got) {
			t.Errorf("observing %s alone:\n got\n%swant\n%s", table, got, part)
		}
		if wantFacts := dataplane.NSTables.Has(table) && table != dataplane.TableQdisc; (facts.Host != nil) != wantFacts {
			t.Errorf("observing %s alone: facts of the host are there: %v; want %v", table, facts.Host != nil, wantFacts)
		}
	}
}

func testUninstall(t *testing.T, h Harness) {
	a, b := h.Namespace(t), h.Namespace(t)
	before := h.Foreign(t)
	settle(t, h, world(a, b), a, b)
	none := zero(t, h) // a sysctl is never reverted
	pass(t, h, none, -1, a, b)
	equal(t, none, observe(t, h, a, b))
	if after := h.Foreign(t); after != before {
		t.Errorf("uninstalling left something behind:\nbefore\n%s\nafter\n%s", before, after)
	}
}

// crashShards is how many hosts share the places to crash at.
const crashShards = 4

// testCrash: an agent that stops after any number of operations, and starts
// again, arrives. One that stops half-way through uninstalling does too.
func testCrash(t *testing.T, h Harness, shard int) {
	a := h.Namespace(t)
	none := zero(t, h)
	want := world(a)
	for k := range want.Chains { // each costs Linux several processes, so only a few
		if k.FirewallOf != "filter" || k.Name == "OVL-EMPTY" {
			want.Delete(k)
		}
	}
	for k := range want.Jumps {
		if k.FirewallOf != "filter" {
			want.Delete(k)
		}
	}
	for _, s := range []dataplane.Sysctl{enabled("net/ipv4/ip_forward"), enabled("net/ipv6/conf/all/forwarding")} {
		none.Add(s)
	}
	steps := pass(t, h, want, -1, a)
	if steps < 30 {
		t.Fatalf("the world takes %d operations; want a real one", steps)
	}
	for n := shard; n < steps; n += crashShards {
		pass(t, h, none, -1, a)
		pass(t, h, want, n, a)
		settle(t, h, want, a)
		pass(t, h, none, n, a)
		settle(t, h, want, a)
	}
}

func testHandDeletes(t *testing.T, h Harness) {
	a := h.Namespace(t)
	want := world(a)
	settle(t, h, want, a)
	for _, r := range want.Rows() {
		switch r := r.(type) {
		case dataplane.Sysctl:
			continue // cannot be deleted
		case dataplane.Chain:
			if leadsTo(want, r.ChainKey) {
				continue // Linux refuses while a jump leads there
			}
		case dataplane.Set:
			continue // Linux refuses while a rule looks into it
		}
		h.Remove(t, r.Key())
		if _, there := observe(t, h, a).Get(r.Key()); there {
			t.Errorf("row is seen after it was deleted by hand: %s", r)
		}
		settle(t, h, want, a)
	}
}

func leadsTo(s dataplane.State, k dataplane.ChainKey) bool {
	for j := range s.Jumps {
		if j.Family == k.Family && j.FirewallOf == k.FirewallOf && j.To == k.Name {
			return true
		}
	}
	return false
}

func testHandAlters(t *testing.T, h Harness) {
	a := h.Namespace(t)
	want := world(a)
	settle(t, h, want, a)
	for _, r := range want.Rows() {
		for _, other := range alterations(r) {
			h.Set(t, other)
			if got, ok := observe(t, h, a).Get(r.Key()); ok && r.Same(got) {
				t.Errorf("row is seen unchanged after a hand made it\n     %s\nfrom %s", other, r)
			}
			settle(t, h, want, a)
		}
	}
}

// alterations are rows of r's key that differ from it in one thing each.
func alterations(r dataplane.Row) []dataplane.Row {
	switch r := r.(type) {
	case dataplane.Link:
		return alteredLinks(r)
	case dataplane.Sysctl:
		r.Value = "0"
		return []dataplane.Row{r}
	case dataplane.Qdisc:
		return []dataplane.Row{dataplane.NewQdisc(r.QdiscKey, r.Rate*2, 20_000), dataplane.NewQdisc(r.QdiscKey, r.Rate, 40_000)}
	case dataplane.Neigh:
		r.MAC = mac(0x77)
		return []dataplane.Row{r}
	case dataplane.FDB:
		switch {
		case !r.Dst.IsValid():
			return nil // it is there, or it is not
		case r.Dst.Is4():
			r.Dst = ip("192.0.2.77")
		default:
			r.Dst = ip("2001:db8::77")
		}
		return []dataplane.Row{r}
	case dataplane.Element:
		if !r.Set.IsMap() {
			return nil
		}
		r.Owner = mac(0x77)
		return []dataplane.Row{r}
	case dataplane.Chain:
		c := dataplane.NewChain(r.ChainKey, "-s 203.0.113.7/32 -j ACCEPT")
		if r.Family == dataplane.IPv6 {
			c = dataplane.NewChain(r.ChainKey, "-s 2001:db8:7::/48 -j ACCEPT")
		}
		c.Digest = "foreign:" + c.Rules
		return []dataplane.Row{c}
	case dataplane.Guard:
		more, fewer := r.Rules+"\ncounter accept", r.Rules[:strings.LastIndex(r.Rules, "\n")]
		return []dataplane.Row{byHand(r.In, more), byHand(r.In, fewer)}
	case dataplane.Route:
		return alteredRoutes(r)
	}
	return nil
}

// byHand is a guard whose rules carry no hash.
func byHand(in dataplane.NFTable, rules string) dataplane.Guard {
	g := dataplane.NewGuard(in, strings.Split(rules, "\n")...)
	g.Digest = "foreign:" + rules
	return g
}

func alteredLinks(r dataplane.Link) []dataplane.Row {
	m, mtu, down, master := r, r, r, r
	m.MAC = mac(0x66)
	mtu.MTU -= 100
	down.Up = !r.Up
	rows := []dataplane.Row{m, mtu, down}
	if r.Master != "" {
		master.Master = ""
		rows = append(rows, master)
	}
	return rows
}

func alteredRoutes(r dataplane.Route) []dataplane.Row {
	var rows []dataplane.Row
	if r.Src.IsValid() {
		other := r
		other.Src = r.Src
		if other.Src.Is4() && r.NS == dataplane.Host {
			other.Src = ip("192.0.2.1")
			rows = append(rows, other)
		}
	}
	if r.Via.IsValid() && r.OnLink {
		other := r
		other.Via = r.Via.Next()
		rows = append(rows, other)
	}
	return rows
}

// testHandAdds: what a hand adds to links and chains of ours goes.
func testHandAdds(t *testing.T, h Harness) {
	a := h.Namespace(t)
	want := world(a)
	settle(t, h, want, a)
	for _, r := range []dataplane.Row{
		address("", bridge, "10.99.0.1/24"), address("", bridge, "fd99::1/64"), address(a, "eth0", "10.99.0.2/24"),
		neigh(vxlan, "10.64.99.0", 0x99), neigh(vxlan, "fd64:0:0:99::", 0x99), neigh(bridge, "10.64.1.77", 0x99),
		peer("192.0.2.99", "10.64.99.0/24"), dataplane.OnHost(99), dataplane.Source("ove0000", mac(0x99), ip("fd99::1")),
		dataplane.Owner(ip("fd99::1"), mac(0x99)), dataplane.Owner(ip("10.99.0.1"), mac(0x99)),
		fdb(vxlan, 0x99, "192.0.2.99"), port("ove00000000000w", 0x99),
		route("", "10.64.99.0/24", bridge, "", ""), route("", "fd64:0:0:99::/64", bridge, "", ""), route(a, "10.98.0.0/24", "eth0", "", ""),
		dataplane.NewChain(dataplane.ChainKey{Family: dataplane.IPv4, FirewallOf: "filter", Name: "OVL-OLD"}, "-j ACCEPT"),
	} {
		h.Set(t, r)
		if _, ok := observe(t, h, a).Get(r.Key()); !ok {
			t.Errorf("row that a hand added is not seen: %s", r)
		}
		settle(t, h, want, a)
	}
}

// testUpdate: from one world to another that differs in every table.
func testUpdate(t *testing.T, h Harness) {
	a := h.Namespace(t)
	want := world(a)
	settle(t, h, want, a)
	next := want.Clone()
	for _, r := range want.Rows() {
		if others := alterations(r); len(others) > 0 {
			if l, ok := r.(dataplane.Link); ok {
				l.MTU -= 60
				next.Add(l)
				continue
			}
			other := others[0]
			switch o := other.(type) {
			case dataplane.Chain:
				other = dataplane.NewChain(o.ChainKey, o.Rules)
			case dataplane.Guard:
				other = dataplane.NewGuard(o.In, strings.Split(o.Rules, "\n")...)
			}
			if _, ok := other.(dataplane.Sysctl); !ok {
				next.Add(other)
			}
		}
	}
	pass(t, h, next, -1, a)
	equal(t, next, observe(t, h, a))
	pass(t, h, want, -1, a)
	equal(t, want, observe(t, h, a))
}

// testDeleteGone: deleting every row twice, and of a namespace that has gone.
func testDeleteGone(t *testing.T, h Harness) {
	a := h.Namespace(t)
	want := world(a)
	settle(t, h, want, a)
	rows := want.Rows()
	slices.Reverse(rows)
	for range 2 {
		for _, r := range rows {
			apply(t, h, dataplane.Delete, r)
		}
	}
	h.RemoveNamespace(t, a)
	for _, r := range rows {
		apply(t, h, dataplane.Delete, r)
	}
}
