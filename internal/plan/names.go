package plan

import (
	"fmt"
	"net/netip"

	"github.com/ovlnet/ovl/internal/cluster"
	"github.com/ovlnet/ovl/internal/dataplane"
)

// NameLink is the link that has [Local.NameAddr]: a bridge without ports, since not
// every kernel has dummies. The address is the same on every host, and for all
// networks, so that one line in a container engine's settings names it.
const NameLink = dataplane.BridgePrefix + "names"

const nameLinkMTU = 1500 // of Ethernet; nothing ever leaves by it

// names emits the address at which containers ask that cannot be told their network's
// gateway. That the address is the host's is all: it is listened on bridge by bridge.
func (p *planner) names() {
	a := p.local.NameAddr
	if !a.IsValid() {
		return
	}
	p.add(
		dataplane.Link{
			LinkKey: dataplane.LinkKey{Name: NameLink}, Kind: dataplane.Bridge,
			MAC: cluster.GatewayMAC(p.local.ID, 0, 0), MTU: nameLinkMTU, Up: true, Alias: Alias("", "names"),
		},
		dataplane.Addr{AddrKey: dataplane.AddrKey{Link: NameLink, Prefix: netip.PrefixFrom(a, a.BitLen())}},
	)
}

// wayToNames emits the route from an engine's container to where it asks, by the first of
// its networks: its default route may lead past us, or to none.
func (p *planner) wayToNames(ns dataplane.NS, link string, gw netip.Addr) {
	to := p.local.NameAddr
	if !to.IsValid() || to.Is4() != gw.Is4() {
		return
	}
	key := dataplane.RouteKey{NS: ns, Dst: netip.PrefixFrom(to, to.BitLen())}
	if _, taken := p.state.Routes[key]; !taken {
		p.add(dataplane.Route{RouteKey: key, Link: link, Via: gw, Spare: true})
	}
}

// nameRules let those questions in, from internal networks too, and whatever the
// host's own firewall thinks; not out of a tunnel.
func (p *planner) nameRules(f dataplane.Family) []string {
	a := p.local.NameAddr
	if !a.IsValid() || dataplane.FamilyOf(a) != f {
		return nil
	}
	var rules []string
	for _, protocol := range []string{"udp", "tcp"} {
		rules = append(rules, fmt.Sprintf("-d %s ! -i ovx+ -p %s -m %[2]s --dport 53 -j ACCEPT", netip.PrefixFrom(a, a.BitLen()), protocol))
	}
	return rules
}
