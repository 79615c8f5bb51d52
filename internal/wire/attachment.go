package wire

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/ovlnet/ovl/internal/cluster"
	ovlv1 "github.com/ovlnet/ovl/proto/ovl/v1"
)

// InterfaceDetail is what the message of an interface says beyond the fact:
// what the agent derived from its plan.
type InterfaceDetail struct {
	HostLink string // the host's end of the veth
	Gateways []netip.Addr
	MTU      int // bytes
	Routes   []Route
	Addrs    []netip.Prefix // as long as in the container, where the fact has another length
	Domain   string         // of the network's names; empty: the gateways answer no questions about names
}

func (d InterfaceDetail) addrs(i cluster.Interface) []netip.Prefix {
	if len(d.Addrs) > 0 {
		return d.Addrs
	}
	return i.Addrs
}

// Route is a route that a container has through an interface.
type Route struct {
	Dst netip.Prefix
	Via netip.Addr // not valid = directly
}

// Attachment returns a as a message; detail derives the rest of each interface
// and may be nil.
func Attachment(a cluster.Attachment, detail func(cluster.Interface) InterfaceDetail) *ovlv1.Attachment {
	p := &ovlv1.Attachment{
		Id: a.ID, Name: a.Name, Netns: a.NetNS, Hostname: a.Hostname,
		Labels: labels(a.Labels), Created: timestamp(a.Created),
	}
	for _, port := range a.Ports {
		p.Ports = append(p.Ports, Port(port))
	}
	for _, i := range a.Interfaces {
		var d InterfaceDetail
		if detail != nil {
			d = detail(i)
		}
		p.Interfaces = append(p.Interfaces, Interface(i, d))
	}
	return p
}

// Interface returns i as a message.
func Interface(i cluster.Interface, d InterfaceDetail) *ovlv1.Interface {
	p := &ovlv1.Interface{
		Network: i.Network, Name: i.Name, HostLink: d.HostLink,
		Addresses: prefixTexts(d.addrs(i)), Gateways: addrTexts(d.Gateways),
		Mac: macText(i.MAC), Mtu: unsigned(d.MTU), Aliases: slices.Clone(i.Aliases),
		Domain: d.Domain, Bandwidth: Bandwidth(i.Bandwidth),
	}
	for _, r := range d.Routes {
		p.Routes = append(p.Routes, route(r))
	}
	return p
}

func route(r Route) *ovlv1.Route {
	p := &ovlv1.Route{Destination: prefixText(r.Dst)}
	if r.Via.IsValid() {
		p.Gateway = r.Via.String()
	}
	return p
}

func parseRoute(p *ovlv1.Route) (Route, error) {
	dst, err := parsePrefix(p.GetDestination())
	if err != nil {
		return Route{}, err
	}
	r := Route{Dst: dst}
	if p.GetGateway() != "" {
		r.Via, err = parseAddr(p.GetGateway())
	}
	return r, err
}

// ParseAttachment returns the attachment in p.
func ParseAttachment(p *ovlv1.Attachment) (cluster.Attachment, error) {
	a := cluster.Attachment{
		ID: p.GetId(), Name: p.GetName(), NetNS: p.GetNetns(), Hostname: p.GetHostname(),
		Labels: labels(p.GetLabels()), Created: parseTimestamp(p.GetCreated()),
	}
	for _, m := range p.GetPorts() {
		port, err := ParsePort(m)
		if err != nil {
			return cluster.Attachment{}, fmt.Errorf("parse attachment %q: %w", p.GetId(), err)
		}
		a.Ports = append(a.Ports, port)
	}
	for _, m := range p.GetInterfaces() {
		i, _, err := ParseInterface(m)
		if err != nil {
			return cluster.Attachment{}, fmt.Errorf("parse attachment %q: %w", p.GetId(), err)
		}
		a.Interfaces = append(a.Interfaces, i)
	}
	return a, nil
}

// ParseInterface returns the interface in p. The message does not carry the
// revision at which its network was created.
func ParseInterface(p *ovlv1.Interface) (cluster.Interface, InterfaceDetail, error) {
	fail := func(err error) (cluster.Interface, InterfaceDetail, error) {
		return cluster.Interface{}, InterfaceDetail{}, fmt.Errorf("parse interface %q: %w", p.GetName(), err)
	}
	addrs, err := parsePrefixes(p.GetAddresses())
	if err != nil {
		return fail(err)
	}
	gateways, err := parseAddrs(p.GetGateways())
	if err != nil {
		return fail(err)
	}
	mac, err := parseOptionalMAC(p.GetMac())
	if err != nil {
		return fail(err)
	}
	routes, err := parseEach(p.GetRoutes(), parseRoute)
	if err != nil {
		return fail(err)
	}
	i := cluster.Interface{
		Network: p.GetNetwork(), Name: p.GetName(), Addrs: addrs, MAC: mac, Aliases: slices.Clone(p.GetAliases()), Bandwidth: ParseBandwidth(p.GetBandwidth()),
	}
	return i, InterfaceDetail{HostLink: p.GetHostLink(), Gateways: gateways, MTU: int(p.GetMtu()), Routes: routes, Domain: p.GetDomain()}, nil
}
