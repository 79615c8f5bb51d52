package plan

import (
	"fmt"
	"net/netip"

	"github.com/ovlnet/ovl/internal/dataplane"
)

// A network with services is one into which somebody else on the hosts leads
// connections, by translating their destination: kube-proxy does, from the address
// of a service to that of a container on any host. Then
//
//   - connections within the network are tracked. A container asks a service, and
//     is answered by another container: only tracking knows that this is one
//     connection, and that the answer has to bear the service's address;
//   - what was translated is let in, to here and into the tunnel, and its answers out
//     of it, wherever the other's own rules stand;
//   - the tunnel has an address: see [planner.serviceSource].

// serviceAnswers find what comes out of the tunnel and answers connections that this
// host translated: for containers and others, or, translated back, for an address of
// the underlay and so for its own processes.
func serviceAnswers(on []pooled, verdict string) []string {
	var rules []string
	for _, n := range on {
		if n.Services && n.vxlan != "" {
			rules = append(rules, fmt.Sprintf("-i %s -m conntrack --ctstate DNAT -j %s", n.vxlan, verdict))
		}
	}
	return rules
}

// serviceDevices returns the links by which translated connections go in to networks
// with services: to here, and to other hosts.
func serviceDevices(on []pooled) []string {
	var devices []string
	for _, n := range on {
		if n.Services {
			devices = append(devices, n.devices()...)
		}
	}
	return devices
}

// serviceSource gives the tunnel the gateway's address. Who translates what comes
// from outside has to translate its source too, lest the container answer past this
// host, and does so by MASQUERADE, which takes an address of the link by which the
// packet leaves, and if that has none the first of any link (inet_select_addr in
// net/ipv4/devinet.c): the underlay's, to which the container would answer past
// the tunnel. In IPv6 it takes the address that is nearest to the destination
// (ipv6_dev_get_saddr), which is the gateway's whatever link it is on.
func (p *planner) serviceSource(n network) {
	for _, own := range n.own {
		if gw := n.gateway(own.Addr()); n.Services && gw.Is4() {
			p.add(dataplane.Addr{AddrKey: dataplane.AddrKey{Link: n.vxlan, Prefix: netip.PrefixFrom(gw, gw.BitLen())}})
		}
	}
}
