package plan_test

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/ovlnet/ovl/internal/cluster"
	"github.com/ovlnet/ovl/internal/dataplane"
	"github.com/ovlnet/ovl/internal/ipam"
	"github.com/ovlnet/ovl/internal/plan"
)

// TestGuards holds for every cluster what the guards must let through, and that they
// let nothing else through.
func TestGuards(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := drawWorld(t)
		w.local.NoGuard = [2]bool{rapid.IntRange(0, 5).Draw(t, "no inet") == 0, rapid.IntRange(0, 5).Draw(t, "no bridge") == 0}
		res := plan.Plan(w.shuffled(rand.New(rand.NewPCG(1, 1))))
		s := res.State
		for in, lacks := range w.local.NoGuard {
			for _, r := range s.Rows() {
				if lacks && inTable(r.Key(), dataplane.NFTable(in)) {
					t.Errorf("%s, which this kernel cannot have", r)
				}
			}
		}
		checkRules(t, s)
		if !w.local.NoGuard[dataplane.NFInet] {
			checkTunnel(t, w, s)
		}
		if !w.local.NoGuard[dataplane.NFBridge] {
			checkPorts(t, w.local, s)
			checkOwners(t, s)
		}
		checkPlaces(t, s)
	})
}

// checkOwners: a question for an address goes to the container that may answer it, and
// what is for the host finds it at every port.
func checkOwners(t *rapid.T, s dataplane.State) {
	type claim struct {
		addr netip.Addr
		mac  cluster.MAC
	}
	sources, owners := map[claim]bool{}, map[claim]bool{}
	for _, e := range s.Elements {
		switch e.Set.Kind {
		case dataplane.Sources:
			sources[claim{e.Addr, e.MAC}] = true
		case dataplane.Owners:
			owners[claim{e.Addr, e.Owner}] = true
		case dataplane.Peers, dataplane.Networks:
		}
	}
	if !maps.Equal(sources, owners) {
		t.Errorf("those who may send are %v; those who are asked %v", sources, owners)
	}
	rules := s.Guards[dataplane.GuardKey{In: dataplane.NFBridge}].Rules
	for _, l := range s.Links {
		if l.NS == dataplane.Host && l.Master != "" && !strings.Contains(rules, fmt.Sprintf("ether daddr set %s accept", l.MAC)) {
			t.Errorf("%s: what its container asks the host does not reach it", l)
		}
	}
}

// checkPlaces: the host and its bridges know where each container is, and need not ask.
func checkPlaces(t *rapid.T, s dataplane.State) {
	ports := map[string]map[cluster.MAC]string{}
	for k, f := range s.FDB {
		l := s.Links[dataplane.LinkKey{Name: k.Link}]
		if f.Dst.IsValid() {
			continue
		}
		if l.Master == "" {
			t.Errorf("%s: it is no port", f)
		}
		if other, twice := ports[l.Master][k.MAC]; twice {
			t.Errorf("%s: of a bridge that leads there by %s too", f, other)
		}
		if ports[l.Master] == nil {
			ports[l.Master] = map[cluster.MAC]string{}
		}
		ports[l.Master][k.MAC] = k.Link
	}
	for a := range s.Addrs {
		l := s.Links[dataplane.LinkKey{NS: a.NS, Name: a.Link}]
		if a.NS == dataplane.Host || l.Kind != dataplane.Veth {
			continue
		}
		bridge := s.Links[dataplane.LinkKey{Name: l.Peer}].Master
		if ports[bridge][l.MAC] == "" {
			t.Errorf("%s: no port of %s leads to it", l, bridge)
		}
		if n := s.Neighs[dataplane.NeighKey{Link: bridge, IP: a.Prefix.Addr()}]; n.MAC != l.MAC {
			t.Errorf("%s: the host has it at %s", a, n.MAC)
		}
	}
}

func inTable(k dataplane.Key, in dataplane.NFTable) bool {
	switch k := k.(type) {
	case dataplane.SetKey:
		return k.In() == in
	case dataplane.ElementKey:
		return k.Set.In() == in
	case dataplane.GuardKey:
		return k.In == in
	}
	return false
}

// checkRules: what rules look into is there, and so is where elements are.
func checkRules(t *rapid.T, s dataplane.State) {
	names := map[string]bool{}
	for set := range s.Sets {
		names[set.Name()] = true
	}
	for _, g := range s.Guards {
		for word := range strings.FieldsSeq(g.Rules) {
			if name, ok := strings.CutPrefix(word, "@"); ok && !strings.Contains(name, ",") && !names[name] {
				t.Errorf("%s looks into %s, which is not there", g.GuardKey, name)
			}
		}
	}
	for e := range s.Elements {
		if _, ok := s.Sets[e.Set]; !ok {
			t.Errorf("%s is in no set", e)
		}
	}
}

// checkTunnel: whoever has a way through the tunnel is let in, in the name of what it
// leads to and no other, and never this host itself.
func checkTunnel(t *rapid.T, w world, s dataplane.State) {
	l := w.local
	underlay := map[netip.Addr][]netip.Addr{}
	for _, h := range w.hosts {
		for _, a := range h.Underlay {
			underlay[a] = append(underlay[a], h.Underlay...)
		}
	}
	has := func(e dataplane.Element) bool { _, ok := s.Elements[e.ElementKey]; return ok }
	for _, r := range s.Routes {
		link := s.Links[dataplane.LinkKey{Name: r.Link}]
		if r.NS != dataplane.Host || link.Kind != dataplane.VXLAN {
			continue
		}
		at := s.FDB[dataplane.FDBKey{Link: r.Link, MAC: s.Neighs[dataplane.NeighKey{Link: r.Link, IP: r.Via}].MAC}].Dst
		if !has(dataplane.Peer(at, link.VXLAN.VNI, r.Dst)) {
			t.Errorf("%s: answers from there would be dropped", r)
		}
	}
	subnets := map[netip.Prefix]bool{}
	for e := range s.Elements {
		if e.Set.Kind != dataplane.Peers {
			continue
		}
		from := netip.PrefixFrom(e.From, int(e.Set.Bits))
		if slices.Contains(underlay[e.Addr], e.From) {
			continue // it speaks for itself
		}
		if _, routed := s.Routes[dataplane.RouteKey{Dst: from}]; !routed || subnets[from] {
			t.Errorf("%s: nothing leads there, or it is another host's too", e)
		}
		subnets[from] = true
		if slices.Contains(l.Underlay.Addrs, e.Addr) {
			t.Errorf("%s is this host's own", e)
		}
	}
	for _, link := range s.Links {
		if link.Kind != dataplane.VXLAN {
			continue
		}
		if _, guarded := s.Guards[dataplane.GuardKey{In: dataplane.NFInet}]; !guarded {
			t.Errorf("%s is open to strangers", link)
		}
		if !has(dataplane.OnHost(link.VXLAN.VNI)) {
			t.Errorf("%s is open to strangers: its VNI is not known", link)
		}
	}
}

// checkPorts: a container may send from what its interface has, and as nobody else.
func checkPorts(t *rapid.T, l plan.Local, s dataplane.State) {
	want := map[dataplane.ElementKey]bool{}
	for _, att := range l.Attachments { // what an engine has in hand may send as soon as it is there
		if att.Stage == cluster.Placed || att.Stage == cluster.Adopted {
			continue
		}
		for _, a := range att.Interfaces[0].Addrs {
			want[dataplane.Source(plan.HostEnd(att, att.Interfaces[0]), att.Interfaces[0].MAC, a.Addr()).ElementKey] = true
		}
	}
	gateways := map[netip.Addr]bool{}
	for a := range s.Addrs {
		if a.NS == dataplane.Host {
			gateways[a.Prefix.Addr()] = true
			continue
		}
		l := s.Links[dataplane.LinkKey{NS: a.NS, Name: a.Link}]
		if l.Kind != dataplane.Veth {
			continue // it is no port of a bridge
		}
		e := dataplane.Source(l.Peer, l.MAC, a.Prefix.Addr())
		want[e.ElementKey] = true
		if _, ok := s.Elements[e.ElementKey]; !ok {
			t.Errorf("%s cannot be used", a)
		}
		if _, guarded := s.Guards[dataplane.GuardKey{In: dataplane.NFBridge}]; !guarded {
			t.Errorf("%s is not guarded", l)
		}
	}
	for e := range s.Elements {
		linkLocal := e.Addr.IsLinkLocalUnicast()
		switch {
		case e.Set.Kind != dataplane.Sources:
		case gateways[e.Addr]:
			t.Errorf("%s is the gateway's", e)
		case !linkLocal && !want[e]:
			t.Errorf("%s is nobody's", e)
		}
	}
}

// TestPeers: whom a host lets in by what others say of themselves.
func TestPeers(t *testing.T) {
	net := cluster.Network{Name: "blue", VNI: 5, Driver: cluster.DriverOverlay, Pools: []cluster.Pool{{Prefix: netip.MustParsePrefix("10.64.0.0/16"), HostPrefix: 24}}}
	own := []netip.Addr{netip.MustParseAddr("192.168.77.1"), netip.MustParseAddr("fd77::1")}
	for _, c := range []struct {
		name string
		own  []netip.Addr
		says []string
		want string
	}{
		{"both families", own, []string{"192.168.77.2", "fd77::2"}, "192.168.77.2, 192.168.77.2 as 192.168.77.2"},
		{"the tunnel's family alone", []netip.Addr{own[1], own[0]}, []string{"192.168.77.2", "fd77::2"}, "fd77::2, fd77::2 as 192.168.77.2"},
		{"the other family", own, []string{"fd77::2"}, ""},
		{"nothing", own, nil, ""},
		{"this host's address", own, []string{"192.168.77.1"}, ""},
		{"the loopback's", own, []string{"127.0.0.1"}, ""},
		{"none", own, []string{"0.0.0.0"}, ""},
		{"a group's", own, []string{"224.0.0.1"}, ""},
		{"a container's besides", own[1:], []string{"10.64.7.7", "fd77::2"}, "fd77::2"},
		{"one that is on every link", []netip.Addr{own[1]}, []string{"fe80::1"}, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			other := cluster.Host{ID: hostID("h2"), VXLANPort: 4789}
			for _, a := range c.says {
				other.Underlay = append(other.Underlay, netip.MustParseAddr(a))
			}
			l := plan.Local{ID: hostID("h1"), Port: 4789, Underlay: plan.Underlay{Link: "eth0", MTU: 1500, Addrs: c.own}}
			subnet, err := ipam.Subnet(net.Pools[0], l.ID, nil, netip.Prefix{})
			if err != nil {
				t.Fatal(err)
			}
			l.Held = []cluster.Lease{{Network: "blue", Host: l.ID, Prefix: subnet}}
			theirs, err := ipam.Subnet(net.Pools[0], other.ID, []netip.Prefix{subnet}, netip.Prefix{})
			if err != nil {
				t.Fatal(err)
			}
			leases := []cluster.Lease{l.Held[0], {Network: "blue", Host: other.ID, Prefix: theirs}}
			self := cluster.Host{ID: l.ID, VXLANPort: 4789, Underlay: c.own}
			s := plan.Plan(cluster.NewSnapshot(1, []cluster.Network{net}, []cluster.Host{self, other}, leases), l).State
			var peers []string
			for e := range s.Elements {
				if e.Set.Kind == dataplane.Peers {
					who := e.Addr.String()
					if e.Set.Bits == 32 {
						who += " as " + e.From.String()
					}
					peers = append(peers, who)
				}
			}
			if got := strings.Join(slices.Sorted(slices.Values(peers)), ", "); got != c.want {
				t.Errorf("peers are %q; want %q", got, c.want)
			}
		})
	}
}
