package plan

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/ovlnet/ovl/internal/cluster"
	"github.com/ovlnet/ovl/internal/dataplane"
)

// The firewall has little to say of macvlan networks: their packets do not pass
// through this host. It keeps the host's own place on the segment from being a
// way around the networks' isolation, and its resolver from strangers there.

// split parts the networks that are behind this host's bridges from those on
// segments.
func split(all []pooled) (on, lans []pooled) {
	for _, n := range all {
		switch {
		case n.Driver != cluster.DriverMacvlan:
			on = append(on, n)
		case n.on():
			lans = append(lans, n)
		}
	}
	return on, lans
}

// lanForwards let nothing cross from or to a segment by way of a link of ours.
func lanForwards(devices []string) []string {
	var rules []string
	for _, dev := range devices {
		rules = append(rules, fmt.Sprintf("-i %s -j DROP", dev), fmt.Sprintf("-o %s -j DROP", dev))
	}
	return rules
}

// lanDevices returns the links of ours on segments, of whatever family, as rules
// name them: there are VLANs only where somebody asked for one.
func lanDevices(nets []network) []string {
	var out []string
	if slices.ContainsFunc(nets, func(n network) bool { return n.parent.link != "" }) {
		out = append(out, dataplane.ShimPrefix+"+")
	}
	if slices.ContainsFunc(nets, func(n network) bool { return n.parent.vlan != 0 }) {
		out = append(out, dataplane.VLANPrefix+"+")
	}
	return out
}

// lanInputs decide what may be said to the host by way of the shim: to its address
// there what the host's own firewall agrees to, names only to this host's
// containers, and nothing to any other address.
func (p *planner) lanInputs(f dataplane.Family, devices []string, lans []pooled) []string {
	var rules []string
	if len(lans) > 0 {
		// No tunnel comes that way: see [planner.guardRules].
		rules = append(rules, fmt.Sprintf("-i ovm+ -p udp -m udp --dport %d -j DROP", p.local.Port))
	}
	if len(lans) > 0 && f == dataplane.IPv6 {
		rules = append(rules,
			"-i ovm+ -p ipv6-icmp -m icmp6 --icmpv6-type 135 -j RETURN",
			"-i ovm+ -p ipv6-icmp -m icmp6 --icmpv6-type 136 -j RETURN")
	}
	for _, n := range lans {
		shim := ShimName(n.VNI)
		for _, protocol := range []string{"udp", "tcp"} {
			for _, own := range n.pieces() {
				rules = append(rules, fmt.Sprintf("-s %s -i %s -p %s -m %[3]s --dport 53 -j ACCEPT", own, shim, protocol))
			}
			rules = append(rules, fmt.Sprintf("-i %s -p %s -m %[2]s --dport 53 -j DROP", shim, protocol))
		}
		for _, own := range n.pieces() {
			rules = append(rules, fmt.Sprintf("-d %s -i %s -j RETURN", own, shim), fmt.Sprintf("-d %s -i ovb+ -j DROP", own))
		}
	}
	for _, dev := range devices {
		rules = append(rules, fmt.Sprintf("-i %s -j DROP", dev))
	}
	return rules
}

// pieces returns what this host holds of the pool.
func (n pooled) pieces() []netip.Prefix {
	var out []netip.Prefix
	for _, own := range n.own {
		if n.pool.Prefix.Overlaps(own) {
			out = append(out, own)
		}
	}
	return out
}
