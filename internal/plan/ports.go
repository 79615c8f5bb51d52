package plan

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strconv"

	"github.com/ovlnet/ovl/internal/cluster"
	"github.com/ovlnet/ovl/internal/dataplane"
)

// chainPorts begins the name of a chain that holds the rules of published ports.
// There is one for each span of host ports in use, so that one more port is one
// short chain to write and a new connection passes few rules, however many
// ports are published.
const (
	chainPorts = dataplane.ChainPrefix + "DNAT-"
	portSpan   = 128
)

// portChain returns the chain in which a host port's rules are.
func portChain(port uint16) string {
	return fmt.Sprintf("%s%d", chainPorts, port/portSpan*portSpan)
}

// published is a port with the container's address that it leads to.
type published struct {
	cluster.Port
	to netip.Addr
}

// publish finds the published ports of one family, and the bridges behind which
// they are.
func (p *planner) publish(f dataplane.Family, on []pooled) (ports []published, bridges []string) {
	for _, att := range p.local.Attachments { // sorted by what is made of them
		if len(att.Ports) == 0 {
			continue
		}
		to, bridge := outward(f, on, att)
		if !to.IsValid() {
			continue
		}
		for _, port := range att.Ports {
			if port.Serves(to) {
				ports = append(ports, published{port, to})
			}
		}
		if !slices.Contains(bridges, bridge) {
			bridges = append(bridges, bridge)
		}
	}
	slices.SortFunc(ports, func(a, b published) int {
		if a.HostPort != b.HostPort { // as a rule, and quickly
			return cmp.Compare(a.HostPort, b.HostPort)
		}
		return cmp.Or(cluster.ComparePort(a.Port, b.Port), a.to.Compare(b.to))
	})
	slices.Sort(bridges)
	return ports, bridges
}

// outward returns the address through which a container speaks to the outside
// in a family, which is where its default route is: so answers go the way that
// the question came.
func outward(f dataplane.Family, on []pooled, att cluster.Attachment) (to netip.Addr, bridge string) {
	for _, itf := range att.Interfaces {
		i := slices.IndexFunc(on, func(n pooled) bool { return n.Name == itf.Network && !n.Internal })
		if i < 0 || itf.NetworkCreated != 0 && itf.NetworkCreated != on[i].CreateRevision {
			continue
		}
		for _, a := range itf.Addrs {
			bridge, held := on[i].bridgeTo(itf, a)
			switch {
			case !held || dataplane.FamilyOf(a.Addr()) != f:
			case on[i].Driver == cluster.DriverMacvlan: // answers would go by the segment, past this host
				return netip.Addr{}, ""
			default:
				return a.Addr(), bridge
			}
		}
	}
	return netip.Addr{}, ""
}

// segmentOf returns the macvlan network by which a container speaks to the
// outside; empty if it does by another one.
func segmentOf(on []pooled, att cluster.Attachment) string {
	for _, itf := range att.Interfaces {
		i := slices.IndexFunc(on, func(n pooled) bool { return n.Name == itf.Network && !n.Internal })
		if i >= 0 && on[i].Driver == cluster.DriverMacvlan {
			return itf.Network
		} else if i >= 0 {
			return ""
		}
	}
	return ""
}

// portChains emits what leads connections to published ports into containers:
// of strangers and of containers in PREROUTING, of the host's own processes in
// OUTPUT.
func (p *planner) portChains(f dataplane.Family, on []pooled, ports []published) {
	if len(ports) == 0 {
		return
	}
	var enter []string
	for len(ports) > 0 { // sorted: those of one span stand together
		first := int(ports[0].HostPort / portSpan * portSpan)
		var rules []string
		for len(ports) > 0 && int(ports[0].HostPort) < first+portSpan {
			rules = append(rules, dnatRule(ports[0]))
			ports = ports[1:]
		}
		name := portChain(uint16(first))
		for _, proto := range []cluster.Proto{cluster.TCP, cluster.UDP} {
			enter = append(enter, fmt.Sprintf("-p %s -m %[1]s --dport %d:%d -j %s", proto, first, first+portSpan-1, name))
		}
		p.add(dataplane.NewChain(dataplane.ChainKey{Family: f, FirewallOf: "nat", Name: name}, rules...))
	}
	p.chain(f, "nat", chainPrerouting, slices.Concat(resolverRules(on), notFromOutside(f), []string{"-m addrtype ! --dst-type LOCAL -j RETURN"}, enter), "PREROUTING")
	p.chain(f, "nat", chainOutput, slices.Concat(notFromHere(f), []string{"-m addrtype ! --dst-type LOCAL -j RETURN"}, enter), "OUTPUT")
}

// dnatRule appends instead of printing: there may be thousands.
func dnatRule(p published) string {
	b := make([]byte, 0, 128)
	if p.HostIP.IsValid() && !p.HostIP.IsUnspecified() {
		b = append(b, "-d "...)
		b = netip.PrefixFrom(p.HostIP, p.HostIP.BitLen()).AppendTo(b)
		b = append(b, ' ')
	}
	b = append(append(append(append(b, "-p "...), p.Proto...), " -m "...), p.Proto...)
	b = strconv.AppendUint(append(b, " --dport "...), uint64(p.HostPort), 10)
	b = netip.AddrPortFrom(p.to, p.ContainerPort).AppendTo(append(b, " -j DNAT --to-destination "...))
	return string(b)
}

// resolverRules keep the networks' own resolver, on their gateways, with whoever
// asks it, though a container publishes a resolver of its own at all addresses.
func resolverRules(on []pooled) []string {
	var rules []string
	for _, n := range on {
		gateways := []netip.Prefix{n.pool.Prefix}
		switch {
		case !n.on():
			continue
		case n.Driver == cluster.DriverMacvlan:
			gateways = n.pieces() // the rest of the segment is others', this host's own addresses among them
		}
		for _, within := range gateways {
			for _, proto := range []cluster.Proto{cluster.UDP, cluster.TCP} {
				rules = append(rules, fmt.Sprintf("-d %s -p %s -m %[2]s --dport 53 -j RETURN", within, proto))
			}
		}
	}
	return rules
}

// notFromOutside keeps what comes in for 127.0.0.0/8 from being translated. The
// kernel drops it as martian, but only after this hook: without the rule, a port
// published at 127.0.0.1 would be open to everyone on the segment.
func notFromOutside(f dataplane.Family) []string {
	if f == dataplane.IPv6 {
		return nil // ip6_rcv_core drops ::1 before any hook
	}
	return []string{"-d 127.0.0.0/8 -j RETURN"}
}

// notFromHere leaves ::1 alone: with it as its source a packet may leave by no
// device but lo. So it is refused at once, instead of being lost.
func notFromHere(f dataplane.Family) []string {
	if f == dataplane.IPv6 {
		return []string{"-d ::1/128 -j RETURN"}
	}
	return nil
}

// portForwards let connections in that were translated: to bridges behind which
// are published ports, and to networks with services. Nobody else's are for
// containers. An internal network has no way out by them either.
func portForwards(on []pooled, bridges []string) []string {
	for _, dev := range serviceDevices(on) {
		if !slices.Contains(bridges, dev) {
			bridges = append(bridges, dev)
		}
	}
	if len(bridges) == 0 {
		return nil
	}
	var rules []string
	for _, n := range on {
		for _, b := range n.bridges() {
			if n.Internal {
				rules = append(rules, fmt.Sprintf("-i %s -j DROP", b))
			}
		}
	}
	for _, b := range bridges {
		rules = append(rules, fmt.Sprintf("-o %s -m conntrack --ctstate DNAT -j ACCEPT", b))
	}
	return rules
}

// hairpinRules give the bridge's address to clients to which the container would
// answer directly, so that the answer were never translated back: containers of
// its own networks, here or on other hosts, whose traffic among each other is
// not tracked; and the host's processes that speak from 127.0.0.1. The source of
// all others is kept.
func hairpinRules(f dataplane.Family, on []pooled, bridges []string) []string {
	if len(bridges) == 0 {
		return nil
	}
	var rules []string
	if f == dataplane.IPv4 {
		rules = append(rules, "-s 127.0.0.0/8 -o ovb+ -m conntrack --ctstate DNAT -j MASQUERADE --random-fully")
	}
	for _, n := range on {
		rules = append(rules, fmt.Sprintf("-s %s -o ovb+ -m conntrack --ctstate DNAT -j MASQUERADE --random-fully", n.pool.Prefix))
	}
	return rules
}

// loopbackRules keep containers out of the host's loopback, and from speaking in
// its name. The kernel does too, but not on a link with route_localnet, which
// ours have while a port is published, and all have where some program (such as
// kube-proxy) set it for all: CVE-2020-8558. Answers to connections from
// 127.0.0.1 pass: here, ahead of translation, they are for the bridge's address.
func loopbackRules(f dataplane.Family) []string {
	if f == dataplane.IPv6 {
		return nil
	}
	return []string{"-d 127.0.0.0/8 -i ovb+ -j DROP", "-s 127.0.0.0/8 -i ovb+ -j DROP"}
}

// localnets lets the host's processes reach published ports at 127.0.0.1.
func (p *planner) localnets(f dataplane.Family, bridges []string) {
	if f == dataplane.IPv6 {
		return
	}
	for _, b := range bridges {
		p.add(dataplane.Sysctl{SysctlKey: dataplane.RouteLocalnet(b), Value: "1"})
	}
}

// shut reports the containers whose ports lead nowhere.
func (p *planner) shut(nets []network) {
	atts := slices.Clone(p.local.Attachments)
	slices.SortFunc(atts, func(a, b cluster.Attachment) int { return cmp.Compare(a.ID, b.ID) })
	four, six := pooledOf(dataplane.IPv4, nets), pooledOf(dataplane.IPv6, nets)
	for _, att := range atts {
		if len(att.Ports) == 0 {
			continue
		}
		a, _ := outward(dataplane.IPv4, four, att)
		b, _ := outward(dataplane.IPv6, six, att)
		for _, port := range att.Ports {
			if a.IsValid() && port.Serves(a) || b.IsValid() && port.Serves(b) {
				continue
			}
			what, hint := "the container has no address of that family on a network that is not internal", "connect it to such a network, or publish the port at an address of the other family"
			if lan := segmentOf(slices.Concat(four, six), att); lan != "" {
				what = fmt.Sprintf("the container's way out is its macvlan network %s, which does not go through this host", lan)
				hint = "reach it at its own address on the segment, or put it on an overlay or bridge network first"
			}
			p.fault(cluster.SeverityError, PortsSubject(att), fmt.Sprintf("%s leads nowhere: %s", port, what), hint)
			break
		}
	}
}

// PortsSubject is what a problem with a container's published ports is about.
func PortsSubject(att cluster.Attachment) string { return "ports of container " + att.Name }
