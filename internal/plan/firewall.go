package plan

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/ovlnet/ovl/internal/cluster"
	"github.com/ovlnet/ovl/internal/dataplane"
)

// The chains of ours.
const (
	chainForward     = dataplane.ChainPrefix + "FORWARD"
	chainInput       = dataplane.ChainPrefix + "INPUT"
	chainPostrouting = dataplane.ChainPrefix + "POSTROUTING"
	chainPrerouting  = dataplane.ChainPrefix + "PREROUTING"
	chainOutput      = dataplane.ChainPrefix + "OUTPUT"
)

// firewall emits, for each family that a network here has, the chains that
// isolate the networks from each other and lead them out, and the jumps into
// them.
func (p *planner) firewall(nets []network) {
	nets = slices.Clone(nets)
	slices.SortFunc(nets, func(a, b network) int { return cmp.Compare(a.VNI, b.VNI) })
	devices := lanDevices(nets)
	for i, f := range []dataplane.Family{dataplane.IPv4, dataplane.IPv6} {
		all := pooledOf(f, nets)
		if len(all) == 0 {
			p.chain(f, "filter", chainInput, p.nameRules(f), "INPUT")
			if p.tunnelled(nets) {
				// Frames that carry the other family are of this one.
				p.chain(f, "raw", chainPrerouting, slices.Concat(p.reverseRule(f), p.tunnelRule(f)), "PREROUTING")
				p.chain(f, "raw", chainOutput, p.tunnelRule(f), "OUTPUT")
			}
			continue
		}
		on, lans := split(all)
		ports, bridges := p.publish(f, all)
		p.portChains(f, all, ports)
		p.localnets(f, bridges)
		p.chain(f, "filter", chainForward, slices.Concat(lanForwards(devices), p.forwardRules(f, on, bridges)), "FORWARD")
		p.chain(f, "filter", chainInput, slices.Concat(p.nameRules(f), p.lanInputs(f, devices, lans), inputRules(f, on)), "INPUT")
		p.chain(f, "nat", chainPostrouting, slices.Concat(hairpinRules(f, on, bridges), masqueradeRules(f, on)), "POSTROUTING")
		p.chain(f, "raw", chainPrerouting, p.untrackedRules(f, on), "PREROUTING")
		p.chain(f, "raw", chainOutput, slices.Concat(p.tunnelRule(f), redirectRules(f, on)), "OUTPUT")
		if p.local.DockerUser[i] {
			// Docker puts its own chains first, and a policy of DROP behind them;
			// DOCKER-USER is the one that it leaves to others.
			p.add(dataplane.Jump{JumpKey: dataplane.JumpKey{Family: f, FirewallOf: "filter", From: "DOCKER-USER", To: chainForward}})
		}
	}
}

// pooled is a network with its pool of the family at hand.
type pooled struct {
	network
	pool cluster.Pool
}

// devices returns the links by which packets of the network come in.
func (n network) devices() []string {
	if n.vxlan == "" {
		return n.bridges()
	}
	return append(n.bridges(), n.vxlan)
}

func pooledOf(f dataplane.Family, nets []network) []pooled {
	var on []pooled
	for _, n := range nets {
		for _, pool := range n.Pools {
			if dataplane.FamilyOf(pool.Prefix.Addr()) == f {
				on = append(on, pooled{n, pool})
			}
		}
	}
	return on
}

func (p *planner) chain(f dataplane.Family, table, name string, rules []string, from string) {
	if len(rules) == 0 {
		return
	}
	p.add(
		dataplane.NewChain(dataplane.ChainKey{Family: f, FirewallOf: table, Name: name}, rules...),
		dataplane.Jump{JumpKey: dataplane.JumpKey{Family: f, FirewallOf: table, From: from, To: name}},
	)
}

// forwardRules decides what crosses this host. Traffic within a network gets
// the first verdicts; what names no network of ours falls through untouched;
// and whatever else has to do with a device of ours is dropped, so that a
// network that is just coming or going is never open to another. Behind the
// bridges are containers with published ports.
func (p *planner) forwardRules(f dataplane.Family, on []pooled, bridges []string) []string {
	unreachable := "icmp-net-unreachable"
	if f == dataplane.IPv6 {
		unreachable = "icmp6-no-route"
	}
	var rules []string
	for _, n := range on {
		rules = append(rules, withinRules(n)...)
		rules = append(rules, p.directForwards(f, n)...)
		for _, b := range n.bridges() {
			// A subnet that no host holds, or another one that nothing leads to,
			// must not leak to the default route.
			rules = append(rules, fmt.Sprintf("-d %s -i %s -j REJECT --reject-with %s", n.pool.Prefix, b, unreachable))
		}
		for _, b := range n.bridges() {
			if !n.Internal {
				rules = append(rules, fmt.Sprintf("-o %s -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT", b))
			}
		}
	}
	rules = append(rules, serviceAnswers(on, "ACCEPT")...)
	rules = append(rules, "-i ovx+ -j DROP")
	rules = append(rules, p.directDrops(f, on)...)
	rules = append(rules, portForwards(on, bridges)...)
	rules = append(rules, "-o ovb+ -j DROP", "-o ovx+ -j DROP")
	for _, n := range on {
		rules = append(rules, outwardRules(f, n)...)
	}
	return append(rules, "-i ovb+ -j DROP")
}

// outwardRules let a network's containers out. Where they are masqueraded, only
// what is or will be: what connection tracking calls invalid (a wrong checksum is
// enough) passes no rule of the nat table, and neither does a connection that was
// confirmed without one. br_netfilter confirms those of broadcast frames
// (br_nf_local_in in net/bridge/br_netfilter_hooks.c), so that a container could
// begin one by a broadcast and go on with its own address on the underlay.
func outwardRules(f dataplane.Family, n pooled) []string {
	var rules []string
	for _, b := range n.bridges() {
		switch {
		case n.Internal:
		case n.masqueraded(f):
			rules = append(rules,
				fmt.Sprintf("-i %s -m conntrack --ctstate SNAT,DNAT -j ACCEPT", b),
				fmt.Sprintf("-i %s -m conntrack --ctstate NEW,RELATED ! --ctstatus CONFIRMED -j ACCEPT", b))
		default:
			rules = append(rules, fmt.Sprintf("-i %s -j ACCEPT", b))
		}
	}
	return rules
}

// withinRules let a network's own traffic through: between each of its bridges
// here and the tunnel, and between any two of them.
func withinRules(n pooled) []string {
	var rules []string
	for _, in := range n.bridges() {
		if n.vxlan != "" {
			rules = append(rules,
				fmt.Sprintf("-i %s -o %s -j ACCEPT", in, n.vxlan),
				fmt.Sprintf("-i %s -o %s -j ACCEPT", n.vxlan, in))
		}
		for _, out := range n.bridges() {
			rules = append(rules, fmt.Sprintf("-i %s -o %s -j ACCEPT", in, out))
		}
	}
	return rules
}

// inputRules decides what containers may say to this host: everything to their
// own network's gateway, as far as the host's own firewall agrees, and questions
// about names whether it agrees or not, since a firewall that drops what it does
// not know would drop those; nothing to another network's; and from an internal
// network, or out of the tunnel, nothing else at all.
func inputRules(f dataplane.Family, on []pooled) []string {
	var rules []string
	if f == dataplane.IPv6 {
		// Neighbour discovery of the gateway goes to multicast and link-local
		// addresses (RFC 4861): solicitations and advertisements.
		rules = append(rules,
			"-i ovb+ -p ipv6-icmp -m icmp6 --icmpv6-type 135 -j RETURN",
			"-i ovb+ -p ipv6-icmp -m icmp6 --icmpv6-type 136 -j RETURN")
	}
	for _, n := range on {
		for _, b := range n.bridges() {
			for _, protocol := range []string{"udp", "tcp"} {
				rules = append(rules, fmt.Sprintf("-d %s -i %s -p %s -m %[3]s --dport 53 -j ACCEPT", n.pool.Prefix, b, protocol))
			}
			rules = append(rules, fmt.Sprintf("-d %s -i %s -j RETURN", n.pool.Prefix, b))
		}
		if n.vxlan != "" {
			rules = append(rules, fmt.Sprintf("-d %s -i %s -j RETURN", n.pool.Prefix, n.vxlan))
		}
		for _, b := range n.bridges() {
			if n.Internal {
				rules = append(rules, fmt.Sprintf("-i %s -j DROP", b))
			}
		}
	}
	for _, n := range on {
		rules = append(rules, fmt.Sprintf("-d %s -i ovb+ -j DROP", n.pool.Prefix))
	}
	rules = append(rules, serviceAnswers(on, "RETURN")...)
	return append(rules, "-i ovx+ -j DROP")
}

// masqueraded reports whether the outside sees the host's address.
func (n network) masqueraded(f dataplane.Family) bool {
	return !n.Internal && (f == dataplane.IPv4 && n.Masquerade || f == dataplane.IPv6 && n.NAT66)
}

// masqueradeRules give the traffic of this host's containers to the outside
// the host's address, in IPv6 only where that is asked for: its addresses need
// no sharing. Between containers it is never changed.
func masqueradeRules(f dataplane.Family, on []pooled) []string {
	var rules []string
	for _, n := range on {
		if !n.masqueraded(f) {
			continue
		}
		for _, from := range n.sources() {
			rules = append(rules, fmt.Sprintf("-s %s ! -d %s -j MASQUERADE --random-fully", from, n.pool.Prefix))
		}
	}
	return rules
}

// untrackedRules keep connection tracking away from traffic between containers
// of one network, which no rule needs it for and which it costs a sixth of the
// throughput; unless the hosts lead connections there: see services.go. What is for this host itself stays tracked: its own firewall may
// need that.
func (p *planner) untrackedRules(f dataplane.Family, on []pooled) []string {
	rules := slices.Concat(p.guardRules(), p.reverseRule(f), p.tunnelRule(f), loopbackRules(f))
	for _, n := range on {
		rules = append(rules, p.directRules(f, n)...)
		if n.Services {
			continue
		}
		for _, dev := range n.devices() {
			rules = append(rules, fmt.Sprintf("-s %s -d %s -i %s -m addrtype ! --dst-type LOCAL -j CT --notrack", n.pool.Prefix, n.pool.Prefix, dev))
		}
	}
	return rules
}

// guardRules keep containers from the tunnel's port, wherever it is and whether
// they send directly or through a tunnel: masqueraded, a frame that one made would
// arrive from a member host's address, and be believed on any network.
func (p *planner) guardRules() []string {
	var rules []string
	for _, dev := range []string{"ovb+", "ovx+"} {
		rules = append(rules, fmt.Sprintf("-i %s -p udp -m udp --dport %d -j DROP", dev, p.local.Port))
	}
	return rules
}

// tunnelled reports whether any of the networks has a tunnel.
func (p *planner) tunnelled(nets []network) bool {
	return slices.ContainsFunc(nets, func(n network) bool { return n.vxlan != "" })
}

// reverseRule keeps who is not on the underlay from sending frames in the name of a
// member, to this host or through it to another: a container of any other bridge may
// make packets from any address. What comes in by another link than the underlay's
// must be of somebody whom this host would answer by that link.
func (p *planner) reverseRule(f dataplane.Family) []string {
	if dataplane.FamilyOf(p.local.Underlay.Addrs[0]) != f {
		return nil
	}
	return []string{fmt.Sprintf("! -i %s -p udp -m udp --dport %d -m rpfilter --invert -j DROP", p.local.Underlay.Link, p.local.Port)}
}

// tunnelRule keeps the tunnel itself untracked, in the underlay's family. No
// stateful rule could match it anyway: the source port is a hash of the inner
// flow, so the two directions are never one connection. What is not tracked is not
// translated either: a frame that some container here made for another host does not
// get this host's address.
func (p *planner) tunnelRule(f dataplane.Family) []string {
	if dataplane.FamilyOf(p.local.Underlay.Addrs[0]) != f {
		return nil
	}
	return []string{fmt.Sprintf("-p udp -m udp --dport %d -j CT --notrack", p.local.Port)}
}
