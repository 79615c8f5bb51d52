package plan_test

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/ovlnet/ovl/internal/cluster"
	"github.com/ovlnet/ovl/internal/dataplane"
	"github.com/ovlnet/ovl/internal/plan"
)

func TestBridgeNames(t *testing.T) {
	for _, vni := range []cluster.VNI{cluster.MinVNI, 100, cluster.MaxVNI} {
		for _, segment := range []int{0, 1, cluster.MaxSegments - 1} {
			name := plan.BridgeName(vni, segment)
			if len(name) > 15 {
				t.Errorf("%s is no name of a link: longer than 15 bytes", name)
			}
			if got, ok := plan.GatewayVNI(name); !ok || got != vni {
				t.Errorf("GatewayVNI(%s) = %d, %v; want %d", name, got, ok, vni)
			}
		}
	}
	for _, name := range []string{"", "ovb", "ovbx", "ovx100", "ovb16777216", "br0"} {
		if vni, ok := plan.GatewayVNI(name); ok {
			t.Errorf("GatewayVNI(%q) = %d; want none", name, vni)
		}
	}
}

// TestSegmentsReach: what the host routes to a container leads to the bridge
// that the container is on.
func TestSegmentsReach(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := drawWorld(t)
		s := plan.Plan(w.shuffled(rand.New(rand.NewPCG(1, 1)))).State
		claims := map[netip.Prefix]int{} // also by those who have no address now, as an engine has it in hand
		for _, att := range w.local.Attachments {
			for _, i := range att.Interfaces {
				for _, p := range i.Addrs {
					claims[p]++
				}
			}
		}
		for k := range s.Addrs {
			if k.NS == dataplane.Host || claims[k.Prefix] > 1 { // no honest journal has one address twice
				continue
			}
			inside := s.Links[dataplane.LinkKey{NS: k.NS, Name: k.Link}]
			if inside.Kind == dataplane.Macvlan {
				if r, ok := toPiece(s, k.Prefix.Addr()); !ok || !has(s, r.Link, r.Src) || s.Links[dataplane.LinkKey{Name: r.Link}].Parent != inside.Parent {
					t.Errorf("%s is on the segment of %s, but the host's way is %v", k, inside.Parent, r)
				}
				continue
			}
			master := s.Links[dataplane.LinkKey{Name: inside.Peer}].Master
			r, ok := s.Routes[dataplane.RouteKey{Dst: k.Prefix.Masked()}]
			if !ok || r.Link != master {
				t.Errorf("%s is on %s, but %v", k, master, r)
			}
			if !has(s, master, r.Src) {
				t.Errorf("%s has no gateway %s on %s", k, r.Src, master)
			}
		}
	})
}

// toPiece returns the host's route to the piece of a segment that holds a.
func toPiece(s dataplane.State, a netip.Addr) (dataplane.Route, bool) {
	for k, r := range s.Routes {
		if k.NS == dataplane.Host && k.Dst.Contains(a) && strings.HasPrefix(r.Link, dataplane.ShimPrefix) {
			return r, true
		}
	}
	return dataplane.Route{}, false
}

// has reports whether a link of the host has an address.
func has(s dataplane.State, link string, a netip.Addr) bool {
	for k := range s.Addrs {
		if k.NS == dataplane.Host && k.Link == link && k.Prefix.Addr() == a {
			return true
		}
	}
	return false
}

// TestSegmentsIsolate: between devices of one network everything is accepted,
// between those of two nothing is, whatever their names begin with.
func TestSegmentsIsolate(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := drawWorld(t)
		s := plan.Plan(w.shuffled(rand.New(rand.NewPCG(1, 1)))).State
		network := map[string]string{}
		for _, l := range s.Links {
			if l.NS == dataplane.Host && l.Kind != dataplane.Veth {
				network[l.Name] = strings.Split(l.Alias, "/")[2]
			}
		}
		for _, f := range []dataplane.Family{dataplane.IPv4, dataplane.IPv6} {
			chain, ok := s.Chains[dataplane.ChainKey{Family: f, FirewallOf: "filter", Name: "OVL-FORWARD"}]
			if !ok {
				continue
			}
			for in := range network {
				for out := range network {
					want := "DROP"
					if network[in] == network[out] && w.pooled(network[in], f) {
						want = "ACCEPT"
					}
					if strings.HasPrefix(in, dataplane.VXLANPrefix) && strings.HasPrefix(out, dataplane.VXLANPrefix) {
						want = "DROP" // nobody's packets pass through
					}
					if onSegment(in) || onSegment(out) {
						want = "DROP" // what is on a segment does not need the host
					}
					if got := verdict(chain.Rules, in, out); got != want {
						t.Errorf("%s from %s to %s: %s, want %s\n%s", f, in, out, got, want, chain.Rules)
					}
				}
			}
		}
	})
}

func onSegment(link string) bool {
	return strings.HasPrefix(link, dataplane.ShimPrefix) || strings.HasPrefix(link, dataplane.VLANPrefix)
}

// pooled reports whether a network of the world has addresses of that family.
func (w world) pooled(network string, f dataplane.Family) bool {
	return slices.ContainsFunc(w.networks, func(n cluster.Network) bool {
		return n.Name == network && slices.ContainsFunc(n.Pools, func(p cluster.Pool) bool { return dataplane.FamilyOf(p.Prefix.Addr()) == f })
	})
}

// verdict is what a new packet meets that only the names of devices tell about.
func verdict(rules, in, out string) string {
	for rule := range strings.Lines(rules) {
		words := strings.Fields(rule)
		matches := true
		for i := 0; i+1 < len(words) && matches; i += 2 {
			switch words[i] {
			case "-i":
				matches = named(words[i+1], in)
			case "-o":
				matches = named(words[i+1], out)
			case "-j":
				return words[i+1]
			default:
				matches = false
			}
		}
	}
	return "none"
}

// named matches as iptables does: a + at the end stands for anything.
func named(pattern, device string) bool {
	if prefix, ok := strings.CutSuffix(pattern, "+"); ok {
		return strings.HasPrefix(device, prefix)
	}
	return pattern == device
}

// TestSegmentRules: the rules do not grow with the segments beyond the second.
func TestSegmentRules(t *testing.T) {
	count := func(segments int) int {
		s, l := sharded(segments)
		rules := 0
		for k, c := range plan.Plan(s, l).State.Chains {
			if k.FirewallOf != "nat" { // that has one for each subnet
				rules += strings.Count(c.Rules, "\n")
			}
		}
		return rules
	}
	if two, ten := count(2), count(10); two != ten {
		t.Errorf("two segments have %d rules, ten %d", two, ten)
	}
}

// sharded is a host with that many segments of one network, a container on each.
func sharded(segments int) (*cluster.Snapshot, plan.Local) {
	s, l := large(1)
	l.Held = nil
	for i := range segments {
		subnet := netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 9, byte(i), 0}), 24)
		l.Held = append(l.Held, cluster.Lease{Network: "blue", Host: l.ID, Prefix: subnet})
		id := fmt.Sprintf("c%d", i)
		l.Attachments = append(l.Attachments, cluster.Attachment{ID: id, Name: id, NetNS: "/run/netns/" + id, Interfaces: []cluster.Interface{{
			Network: "blue", Name: "eth0", Addrs: []netip.Prefix{netip.PrefixFrom(subnet.Addr().Next().Next(), 24)}, MAC: cluster.MAC{2, byte(i)}, Segment: i,
		}}})
	}
	return s, l
}
