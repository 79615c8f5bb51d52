package plan_test

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/ovlnet/ovl/internal/cluster"
	"github.com/ovlnet/ovl/internal/dataplane"
	"github.com/ovlnet/ovl/internal/ipam"
	"github.com/ovlnet/ovl/internal/plan"
)

// world is the facts of a cluster as one of its hosts sees them.
type world struct {
	networks []cluster.Network
	hosts    []cluster.Host
	leases   []cluster.Lease
	local    plan.Local
}

// drawWorld makes a random cluster, with a sprinkling of records that no honest
// agent writes.
func drawWorld(t *rapid.T) world {
	var w world
	w.local = plan.Local{ID: hostID("h0"), Port: 4789, Underlay: plan.Underlay{
		Link: "eth0", MTU: 1500, Addrs: []netip.Addr{netip.MustParseAddr("192.168.77.1")}, OnLink: segment(0),
	}, Links: hostLinks}
	if rapid.Bool().Draw(t, "both families") {
		w.local.Underlay.Addrs = append(w.local.Underlay.Addrs, netip.MustParseAddr("fd77::1"))
	}
	hosts := rapid.IntRange(1, 12).Draw(t, "hosts")
	for i := range hosts {
		w.hosts = append(w.hosts, drawHost(t, i))
	}
	for n := range rapid.IntRange(0, 4).Draw(t, "networks") {
		net := cluster.Network{
			Name: fmt.Sprintf("net%d", n), VNI: []cluster.VNI{1, 10, 100, 101}[n], // names that begin alike
			Driver:   rapid.SampledFrom([]cluster.Driver{cluster.DriverOverlay, cluster.DriverBridge, cluster.DriverMacvlan}).Draw(t, "driver"),
			Internal: rapid.Bool().Draw(t, "internal"), Masquerade: rapid.Bool().Draw(t, "masquerade"), NAT66: rapid.Bool().Draw(t, "nat66"), DirectRouting: rapid.Bool().Draw(t, "direct routing"), Services: rapid.Bool().Draw(t, "services"), CreateRevision: int64(n + 1),
			Pools: []cluster.Pool{{Prefix: netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(64 + n), 0, 0}), 16), HostPrefix: 24}},
		}
		if net.Driver == cluster.DriverMacvlan {
			w.onSegment(t, n, &net)
		} else if rapid.Bool().Draw(t, "dual") {
			net.Pools = append(net.Pools, cluster.Pool{Prefix: netip.MustParsePrefix(fmt.Sprintf("fd%d::/48", 64+n)), HostPrefix: 64})
		}
		for _, pool := range net.Pools {
			if net.Driver != cluster.DriverMacvlan && rapid.Bool().Draw(t, "static range") {
				a := pool.Prefix.Addr().As16()
				if pool.Prefix.Addr().Is4() {
					net.StaticRanges = append(net.StaticRanges, netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(64 + n), 255, 0}), 24))
				} else {
					net.StaticRanges = append(net.StaticRanges, netip.PrefixFrom(netip.AddrFrom16(a), 120))
				}
			}
		}
		w.networks = append(w.networks, net)
		for _, pool := range net.Pools {
			w.drawLeases(t, net, pool)
		}
	}
	w.drawAttachments(t)
	if rapid.IntRange(0, 3).Draw(t, "stray") == 0 {
		w.leases = append(w.leases, cluster.Lease{Network: "net0", Host: hostID("nobody"), Prefix: netip.MustParsePrefix("10.64.250.0/24")},
			cluster.Lease{Network: "net0", Host: hostID("h1"), Prefix: netip.MustParsePrefix("172.31.0.0/24")})
	}
	return w
}

// segment is what is on link on one of two segments.
func segment(i int) []netip.Prefix {
	return []netip.Prefix{
		netip.PrefixFrom(netip.AddrFrom4([4]byte{192, 168, byte(77 + i), 0}), 24),
		netip.MustParsePrefix(fmt.Sprintf("fd%d::/64", 77+i)),
	}
}

// drawHost draws a host on this host's segment or on another, which may know
// nothing of what is on link there.
func drawHost(t *rapid.T, i int) cluster.Host {
	on := segment(rapid.IntRange(0, 1).Draw(t, "segment"))
	h := cluster.Host{ID: hostID(fmt.Sprintf("h%d", i)), Name: fmt.Sprintf("h%d", i), VXLANPort: 4789}
	four, six := on[0].Addr().As4(), on[1].Addr().As16()
	four[3], six[15] = byte(1+i), byte(1+i)
	h.Underlay = []netip.Addr{netip.AddrFrom4(four)}
	if rapid.Bool().Draw(t, "peer of both families") {
		h.Underlay = append(h.Underlay, netip.AddrFrom16(six))
	}
	if rapid.Bool().Draw(t, "peer on link") {
		h.OnLink = on
	}
	return h
}

// hostLinks are what a host has that networks may be put on.
var hostLinks = []dataplane.HostLink{
	{Name: "eth0", MTU: 1500, Up: true, Addrs: []netip.Prefix{
		netip.MustParsePrefix("192.168.77.1/24"), netip.MustParsePrefix("fd77::1/64"),
	}},
	{Name: "eth1", MTU: 1400, Up: true},
}

// onSegment makes a macvlan network of net: on a link, on a VLAN, or on what this
// host has not.
func (w *world) onSegment(t *rapid.T, n int, net *cluster.Network) {
	net.Masquerade, net.NAT66 = false, false
	net.Parent = rapid.SampledFrom([]string{"eth0", "eth1", fmt.Sprintf("eth0.%d", 100+n), "eth9", "eth9.1"}).Draw(t, "parent")
	net.Pools = []cluster.Pool{{Prefix: netip.MustParsePrefix(fmt.Sprintf("172.%d.0.0/16", 16+n)), HostPrefix: 24, Gateway: netip.MustParseAddr(fmt.Sprintf("172.%d.0.1", 16+n))}}
	if rapid.Bool().Draw(t, "range") {
		net.Pools[0].Range = netip.MustParsePrefix(fmt.Sprintf("172.%d.128.0/17", 16+n))
	}
	if rapid.Bool().Draw(t, "dual") {
		net.Pools = append(net.Pools, cluster.Pool{Prefix: netip.MustParsePrefix(fmt.Sprintf("2001:db8:%d::/64", n)), HostPrefix: 80, Gateway: netip.MustParseAddr(fmt.Sprintf("2001:db8:%d::1", n))})
	}
}

func (w *world) drawLeases(t *rapid.T, net cluster.Network, pool cluster.Pool) {
	var taken []netip.Prefix
	for _, h := range w.hosts {
		for range rapid.IntRange(0, 2).Draw(t, "subnets") {
			p, err := ipam.Subnet(pool.Leased(), h.ID, taken, net.StaticRange(pool))
			if err != nil {
				t.Fatal(err)
			}
			taken = append(taken, p)
			w.lease(net, h, p)
		}
	}
	static := net.StaticRange(pool)
	if !static.IsValid() {
		return
	}
	for a := range rapid.IntRange(0, 4).Draw(t, "statics") {
		addr := static.Addr()
		for range a + 1 {
			addr = addr.Next()
		}
		p := netip.PrefixFrom(addr, addr.BitLen())
		w.lease(net, rapid.SampledFrom(w.hosts).Draw(t, "holder"), p)
		if rapid.IntRange(0, 8).Draw(t, "claim") == 0 { // on this host's disk, whatever the store says
			w.local.Held = append(w.local.Held, cluster.Lease{Network: net.Name, Host: w.local.ID, Prefix: p})
		}
	}
}

func (w *world) lease(net cluster.Network, h cluster.Host, p netip.Prefix) {
	l := cluster.Lease{Network: net.Name, Host: h.ID, Prefix: p}
	w.leases = append(w.leases, l)
	if h.ID == w.local.ID {
		w.local.Held = append(w.local.Held, l)
	}
}

func (w *world) drawAttachments(t *rapid.T) {
	for i, l := range w.local.Held {
		segment := rapid.SampledFrom([]int{0, 0, 1, 2, cluster.MaxSegments - 1}).Draw(t, "segment")
		via := w.drawVia(t, l)
		if len(via) > 0 {
			segment = cluster.SegmentsOf(w.local.Attachments).Of(l.Network, via[0])
		}
		for j := range rapid.IntRange(0, 2).Draw(t, "containers") {
			if rapid.IntRange(0, 9).Draw(t, "astray") == 0 {
				segment++ // no honest journal has one subnet in two segments
			}
			name := fmt.Sprintf("c%d-%d", i, j)
			addr := l.Prefix.Addr()
			if !l.Prefix.IsSingleIP() {
				for range j + 2 {
					addr = addr.Next()
				}
			}
			att := drawStage(t, name)
			att.Ports = drawPorts(t)
			w.local.Attachments = append(w.local.Attachments, cluster.Attachment{
				ID: name, Name: name, NetNS: att.NetNS, Ports: att.Ports, Stage: att.Stage, Sandbox: att.Sandbox, Onward: att.Onward,
				Interfaces: []cluster.Interface{{
					Network: l.Network, Name: att.Interfaces[0].Name, Addrs: []netip.Prefix{netip.PrefixFrom(addr, l.Prefix.Bits())}, MAC: cluster.EndpointMAC(1, addr), Segment: segment, Via: via,
					Bandwidth: cluster.Bandwidth{Ingress: drawRate(t), Egress: drawRate(t)},
				}},
			})
		}
	}
}

// drawStage draws how far a container is that an engine moves interfaces into, or that it
// is none of those.
func drawStage(t *rapid.T, name string) cluster.Attachment {
	a := cluster.Attachment{NetNS: "/run/netns/" + name, Interfaces: []cluster.Interface{{Name: "eth0"}}}
	switch a.Stage = rapid.SampledFrom([]cluster.Stage{cluster.Placed, cluster.Placed, cluster.Offered, cluster.HandedOver, cluster.Adopted, cluster.TakenBack}).Draw(t, "stage"); a.Stage {
	case cluster.Placed:
	case cluster.Adopted:
		a.Sandbox, a.Onward = a.NetNS, rapid.Bool().Draw(t, "onward")
	case cluster.HandedOver, cluster.TakenBack:
		a.Sandbox, a.NetNS, a.Interfaces[0].Name = a.NetNS, "", plan.OfferName(name)
	case cluster.Offered:
		a.NetNS, a.Interfaces[0].Name = "", plan.OfferName(name)
	}
	return a
}

func drawRate(t *rapid.T) cluster.Rate {
	return rapid.SampledFrom([]cluster.Rate{{}, {Bits: cluster.MinRate, Burst: 1}, {Bits: cluster.MaxRate, Burst: 1 << 50}}).Draw(t, "rate")
}

// drawVia draws the subnet by which a container gets on whose address is leased
// alone; none if this host has none.
func (w *world) drawVia(t *rapid.T, l cluster.Lease) []netip.Prefix {
	var own []netip.Prefix
	for _, h := range w.local.Held {
		if h.Network == l.Network && !h.Prefix.IsSingleIP() && h.Prefix.Addr().Is4() == l.Prefix.Addr().Is4() {
			own = append(own, h.Prefix)
		}
	}
	if !l.Prefix.IsSingleIP() || len(own) == 0 {
		return nil
	}
	return []netip.Prefix{rapid.SampledFrom(own).Draw(t, "via")}
}

// drawPorts draws ports that may clash with those of other containers.
func drawPorts(t *rapid.T) []cluster.Port {
	var ports []cluster.Port
	for range rapid.IntRange(0, 3).Draw(t, "ports") {
		p := cluster.Port{
			Proto:    rapid.SampledFrom([]cluster.Proto{cluster.TCP, cluster.UDP}).Draw(t, "proto"),
			HostPort: rapid.SampledFrom([]uint16{1, 80, 127, 128, 8080, 65535}).Draw(t, "host port"), ContainerPort: 80,
		}
		if ip := rapid.SampledFrom([]string{"", "0.0.0.0", "::", "127.0.0.1", "192.168.77.1", "2001:db8::1"}).Draw(t, "host address"); ip != "" {
			p.HostIP = netip.MustParseAddr(ip)
		}
		ports = append(ports, p)
	}
	return ports
}

// shuffled returns the same facts in another order.
func (w world) shuffled(r *rand.Rand) (*cluster.Snapshot, plan.Local) {
	shuffle := func(n int, swap func(i, j int)) { r.Shuffle(n, swap) }
	networks, hosts, leases := slices.Clone(w.networks), slices.Clone(w.hosts), slices.Clone(w.leases)
	local := w.local
	local.Held, local.Attachments = slices.Clone(local.Held), slices.Clone(local.Attachments)
	shuffle(len(networks), func(i, j int) { networks[i], networks[j] = networks[j], networks[i] })
	shuffle(len(hosts), func(i, j int) { hosts[i], hosts[j] = hosts[j], hosts[i] })
	shuffle(len(leases), func(i, j int) { leases[i], leases[j] = leases[j], leases[i] })
	shuffle(len(local.Held), func(i, j int) { local.Held[i], local.Held[j] = local.Held[j], local.Held[i] })
	shuffle(len(local.Attachments), func(i, j int) {
		local.Attachments[i], local.Attachments[j] = local.Attachments[j], local.Attachments[i]
	})
	return cluster.NewSnapshot(1, networks, hosts, leases), local
}

// TestDeterminism is the first law: the same facts give the same rows, whatever
// order they came in.
func TestDeterminism(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := drawWorld(t)
		seed := rapid.Uint64().Draw(t, "seed")
		a := plan.Plan(w.shuffled(rand.New(rand.NewPCG(seed, 1))))
		b := plan.Plan(w.shuffled(rand.New(rand.NewPCG(seed, 2))))
		if a.State.String() != b.State.String() {
			t.Fatalf("one order gives\n%s\nanother\n%s", a.State, b.State)
		}
		if !slices.Equal(a.Problems, b.Problems) {
			t.Fatalf("one order gives %v, another %v", a.Problems, b.Problems)
		}
	})
}

// TestSoundness holds what every plan must keep, whatever the facts.
func TestSoundness(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := drawWorld(t)
		s := plan.Plan(w.shuffled(rand.New(rand.NewPCG(1, 1)))).State
		for _, r := range s.Routes {
			if _, ok := s.Links[dataplane.LinkKey{NS: r.NS, Name: r.Link}]; !ok && !r.Unreachable && r.Link != w.local.Underlay.Link {
				t.Errorf("%s is on no link of ours", r)
			}
			if r.NS != dataplane.Host && r.Via.IsValid() && !reached(s, r) {
				t.Errorf("%s: its gateway cannot be reached", r)
			}
			if r.NS == dataplane.Host && r.Link == w.local.Underlay.Link {
				w.checkDirect(t, r)
				continue
			}
			if r.NS != dataplane.Host || !r.Via.IsValid() {
				continue
			}
			n, ok := s.Neighs[dataplane.NeighKey{Link: r.Link, IP: r.Via}]
			if !ok {
				t.Errorf("%s: no neighbour entry for its gateway", r)
			}
			if _, ok := s.FDB[dataplane.FDBKey{Link: r.Link, MAC: n.MAC}]; !ok {
				t.Errorf("%s: no FDB entry for %s", r, n.MAC)
			}
		}
		for _, l := range s.Links {
			if _, ok := s.Links[dataplane.LinkKey{NS: l.NS, Name: l.Master}]; l.Master != "" && !ok {
				t.Errorf("%s: no such bridge", l)
			}
			if !dataplane.OwnsLink(l.NS, l.Name, l.Alias) || len(l.Name) > 15 {
				t.Errorf("%s: a fresh process would not know it as ours", l)
			}
			if l.MAC.IsZero() || l.MTU == 0 {
				t.Errorf("%s: left to chance", l)
			}
		}
		for a, ra := range s.Routes {
			for b, rb := range s.Routes {
				if a != b && a.NS == dataplane.Host && b.NS == dataplane.Host && a.Dst.Overlaps(b.Dst) && !ra.Unreachable && !rb.Unreachable {
					t.Errorf("%s and %s overlap", ra, rb)
				}
			}
		}
	})
}

// reached reports whether the gateway of a route is on its link: the kernel
// refuses the route otherwise.
func reached(s dataplane.State, r dataplane.Route) bool {
	for _, d := range s.Routes {
		if d.NS == r.NS && d.Link == r.Link && !d.Via.IsValid() && d.Dst.Contains(r.Via) {
			return true
		}
	}
	return false
}

// checkDirect holds a direct route against what makes it right.
func (w world) checkDirect(t *rapid.T, r dataplane.Route) {
	i := slices.IndexFunc(w.leases, func(l cluster.Lease) bool { return l.Prefix == r.Dst })
	n := slices.IndexFunc(w.networks, func(n cluster.Network) bool { return i >= 0 && n.Name == w.leases[i].Network })
	if n < 0 || !w.networks[n].DirectRouting {
		t.Fatalf("%s: nobody asked for it", r)
	}
	h := slices.IndexFunc(w.hosts, func(h cluster.Host) bool { return h.ID == w.leases[i].Host && slices.Contains(h.Underlay, r.Via) })
	if h < 0 || r.Via.Is4() != r.Dst.Addr().Is4() || r.OnLink {
		t.Errorf("%s: not by way of its host", r)
	}
	if !slices.ContainsFunc(segment(0), func(p netip.Prefix) bool { return p.Contains(r.Via) }) || len(w.hosts[h].OnLink) == 0 {
		t.Errorf("%s: the two are not on link for each other", r)
	}
}

// large is a host with one subnet among that many peers.
func large(peers int) (*cluster.Snapshot, plan.Local) {
	net := cluster.Network{
		Name: "blue", VNI: 100, Driver: cluster.DriverOverlay, Masquerade: true,
		Pools: []cluster.Pool{{Prefix: netip.MustParsePrefix("10.0.0.0/8"), HostPrefix: 24}},
	}
	var hosts []cluster.Host
	var leases []cluster.Lease
	for i := range peers + 1 {
		id := cluster.HostID(fmt.Sprintf("%032x", i))
		hosts = append(hosts, cluster.Host{ID: id, VXLANPort: 4789, Underlay: []netip.Addr{netip.AddrFrom4([4]byte{172, 16, byte(i >> 8), byte(i)})}})
		leases = append(leases, cluster.Lease{Network: "blue", Host: id, Prefix: netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(i >> 8), byte(i), 0}), 24)})
	}
	return cluster.NewSnapshot(1, []cluster.Network{net}, hosts, leases), plan.Local{
		ID: hosts[0].ID, Port: 4789, Held: leases[:1:1],
		Underlay: plan.Underlay{Link: "eth0", MTU: 1500, Addrs: hosts[0].Underlay},
	}
}

// manyStatics is a host with a thousand static addresses among as many of a peer.
func manyStatics() (*cluster.Snapshot, plan.Local) {
	s, l := large(1)
	s.Networks[0].StaticRanges = []netip.Prefix{netip.MustParsePrefix("10.255.0.0/16")}
	leases := s.Leases
	for i := range 1000 {
		own, other := netip.AddrFrom4([4]byte{10, 255, byte(i >> 8), byte(i)}), netip.AddrFrom4([4]byte{10, 255, byte(16 + i>>8), byte(i)})
		l.Held = append(l.Held, cluster.Lease{Network: "blue", Host: l.ID, Prefix: netip.PrefixFrom(own, 32)})
		leases = append(leases, cluster.Lease{Network: "blue", Host: s.Hosts[1].ID, Prefix: netip.PrefixFrom(other, 32)})
		name := fmt.Sprintf("c%d", i)
		l.Attachments = append(l.Attachments, cluster.Attachment{ID: name, Name: name, NetNS: "/run/netns/" + name, Interfaces: []cluster.Interface{{
			Network: "blue", Name: "eth0", Addrs: []netip.Prefix{netip.PrefixFrom(own, 32)}, Via: []netip.Prefix{l.Held[0].Prefix}, MAC: cluster.EndpointMAC(100, own),
		}}})
	}
	return cluster.NewSnapshot(1, s.Networks, s.Hosts, leases), l
}

func BenchmarkPlanStatic1000(b *testing.B) {
	s, l := manyStatics()
	if p := plan.Plan(s, l); len(p.Problems) > 0 {
		b.Fatal(p.Problems[0])
	}
	for b.Loop() {
		plan.Plan(s, l)
	}
}

func BenchmarkPlan5000(b *testing.B) {
	s, l := large(5000)
	for b.Loop() {
		plan.Plan(s, l)
	}
}

// BenchmarkPlanContainers is a host with 1,200 containers on two bridges.
func BenchmarkPlanContainers(b *testing.B) {
	s, l := sharded(2)
	for i, first := range l.Attachments {
		for j := range 600 {
			id := fmt.Sprintf("c%d-%d", i, j)
			itf := first.Interfaces[0]
			itf.Addrs = []netip.Prefix{netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(10 + i), byte(j >> 8), byte(j)}).Next().Next(), 16)}
			l.Held[i].Prefix = itf.Addrs[0].Masked()
			l.Attachments = append(l.Attachments, cluster.Attachment{ID: id, Name: id, NetNS: "/run/netns/" + id, Interfaces: []cluster.Interface{itf}})
		}
	}
	l.Attachments = l.Attachments[2:]
	for b.Loop() {
		plan.Plan(s, l)
	}
}

func BenchmarkDiff5000(b *testing.B) {
	s, l := large(5000)
	want := plan.Plan(s, l).State
	have := plan.Plan(s, l).State
	b.Run("atRest", func(b *testing.B) {
		for b.Loop() {
			if len(dataplane.Diff(want, have)) != 0 {
				b.Fatal("not at rest")
			}
		}
	})
	b.Run("fromNothing", func(b *testing.B) {
		for b.Loop() {
			dataplane.Diff(want, dataplane.State{})
		}
	})
}
