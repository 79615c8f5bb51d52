package dockerdriver

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/ovlnet/ovl/internal/cluster"
	"github.com/ovlnet/ovl/internal/ipam"
	"github.com/ovlnet/ovl/internal/plan"
	"github.com/ovlnet/ovl/node-agent/attach"
)

// createEndpoint makes an attachment whose interface waits on the host for the container.
func (d *Driver) createEndpoint(ctx context.Context, m createEndpoint) (any, error) {
	if err := checkID("endpoint", m.EndpointID); err != nil {
		return nil, fmt.Errorf("create endpoint: %w", err)
	}
	var asked endpointInterface
	if m.Interface != nil {
		asked = *m.Interface
	}
	w, err := asked.want()
	if err != nil {
		return nil, fmt.Errorf("create endpoint: %w", err)
	}
	n, _, err := d.networkOf(ctx, m.NetworkID, w.Addrs)
	if err != nil {
		return nil, fmt.Errorf("create endpoint: %w", err)
	}
	w.Network = n.Name
	name := "docker-" + strings.ToLower(short(m.EndpointID))
	att, err := d.cfg.Attachments.Offer(ctx, attach.Request{ID: m.EndpointID, Name: name, Hostname: name, Interfaces: []attach.Want{w}})
	if err != nil {
		return nil, plain(err)
	}
	// Only what was left open: an engine takes an answer to what it has given for an error.
	i := att.Interfaces[0]
	var chosen endpointInterface
	if asked.MacAddress == "" {
		chosen.MacAddress = i.MAC.String()
	}
	for _, a := range i.Addrs {
		switch {
		case a.Addr().Is4() && asked.Address == "":
			chosen.Address = a.String()
		case a.Addr().Is6() && asked.AddressIPv6 == "":
			chosen.AddressIPv6 = a.String()
		}
	}
	return createdEndpoint{Interface: &chosen}, nil
}

// want returns what an engine's interface asks for.
func (e endpointInterface) want() (attach.Want, error) {
	var w attach.Want
	for _, text := range []string{e.Address, e.AddressIPv6} {
		if text == "" {
			continue
		}
		p, err := netip.ParsePrefix(text)
		if err != nil {
			return w, fmt.Errorf("address %s: want one with its length, such as 10.70.0.9/24", clip(text))
		}
		w.Addrs = append(w.Addrs, p.Addr().Unmap())
	}
	if e.MacAddress != "" {
		mac, err := cluster.ParseMAC(strings.ToLower(e.MacAddress))
		if err != nil {
			return w, err
		}
		w.MAC = mac
	}
	return w, nil
}

// endpointInfo is what `docker network inspect --verbose` shows of an endpoint.
func (d *Driver) endpointInfo(_ context.Context, m endpointRef) (any, error) {
	a, ok := d.cfg.Attachments.Get(m.EndpointID)
	if !ok || len(a.Interfaces) != 1 {
		return endpointInfo{Value: map[string]string{}}, nil
	}
	i := a.Interfaces[0]
	info := map[string]string{keyMAC: i.MAC.String(), "ovl.network": i.Network, "ovl.veth": plan.HostEnd(a, i)}
	for _, p := range i.Addrs {
		if p.Addr().Is4() {
			info["ovl.address"] = p.String()
		} else {
			info["ovl.address6"] = p.String()
		}
	}
	return endpointInfo{Value: info}, nil
}

// join hands the interface over to the engine, which moves it into the container's
// namespace, names it, and gives it its addresses and routes.
func (d *Driver) join(ctx context.Context, m join) (any, error) {
	a, ok := d.cfg.Attachments.Get(m.EndpointID)
	if !ok || len(a.Interfaces) != 1 {
		return nil, fmt.Errorf("join: there is no endpoint %s here: start the container again", short(m.EndpointID))
	}
	n, page, err := d.networkOf(ctx, m.NetworkID, addrsOf(a.Interfaces[0]))
	if err != nil {
		return nil, fmt.Errorf("join: %w", err)
	}
	if a, err = d.cfg.Attachments.HandOver(ctx, m.EndpointID, m.SandboxKey, n.Internal || page.EgressDocker); err != nil {
		return nil, plain(err)
	}
	out := answerJoin(a, n, page)
	if a.Onward && !d.leads(a) {
		out.StaticRoutes = append(out.StaticRoutes, d.wayToNames(a.Interfaces[0])...)
	}
	return out, nil
}

// leads reports whether another endpoint of the container leads to where names are
// answered: engines fail at a second route to one place.
func (d *Driver) leads(a cluster.Attachment) bool {
	for _, other := range d.cfg.Attachments.List() {
		if other.ID != a.ID && other.Sandbox == a.Sandbox && other.Onward {
			return true
		}
	}
	return false
}

// wayToNames returns the route to where names are answered, for a container that may have
// no default route, or one that leads past us. The plan has it too, and keeps it if the
// container leaves this network; but the container may ask before a pass has seen it.
func (d *Driver) wayToNames(i cluster.Interface) []staticRoute {
	to := d.cfg.NameAddr
	for _, p := range i.Addrs {
		if gw := ipam.Gateway(i.SubnetFor(p)); to.IsValid() && gw.Is4() == to.Is4() {
			return []staticRoute{{Destination: netip.PrefixFrom(to, to.BitLen()).String(), RouteType: routeNextHop, NextHop: gw.String()}}
		}
	}
	return nil
}

// answerJoin tells the engine the interface and the ways on. Other hosts' parts of the
// network are beyond this host's gateway, and that is the way there whatever network the
// engine takes for the container's default.
func answerJoin(a cluster.Attachment, n cluster.Network, page Page) joined {
	i := a.Interfaces[0]
	out := joined{
		InterfaceName: interfaceName{SrcName: plan.OfferName(a.ID), DstPrefix: "eth"},
		// Without a gateway of ours the engine adds one of its own, docker_gwbridge:
		// wanted where the way out is the engine's, and not where there is to be none.
		DisableGatewayService: n.Internal && !page.EgressDocker,
	}
	for _, p := range i.Addrs {
		gw := ipam.Gateway(i.SubnetFor(p))
		around := p.Masked()
		if p.IsSingleIP() { // nothing is around it, so the way to the gateway is told
			around = netip.PrefixFrom(gw, gw.BitLen())
			out.StaticRoutes = append(out.StaticRoutes, staticRoute{Destination: around.String(), RouteType: routeConnected})
		}
		if pool, ok := n.Pool(p.Masked()); ok && pool.Prefix != around {
			out.StaticRoutes = append(out.StaticRoutes, staticRoute{Destination: pool.Prefix.String(), RouteType: routeNextHop, NextHop: gw.String()})
		}
		switch {
		case n.Internal || page.EgressDocker:
		case gw.Is4():
			out.Gateway = gw.String()
		default:
			out.GatewayIPv6 = gw.String()
		}
	}
	return out
}

// leave takes the interface back: the engine moves it out of the container next. From one that
// has ended it need not come: DeleteEndpoint would follow at once, and to take a link down,
// rename it and move it takes the kernel as long as to remove it. An engine that finds no
// link in a namespace that it takes down does not mind (releaseOSSboxResources in
// libnetwork/sandbox_linux.go); in one that lives on it would keep it in its count.
func (d *Driver) leave(ctx context.Context, m endpointRef) (any, error) {
	if a, ok := d.cfg.Attachments.Get(m.EndpointID); ok && d.hasEnded(a) {
		return nil, d.detach(ctx, m.EndpointID)
	}
	if err := d.cfg.Attachments.TakeBack(ctx, m.EndpointID); err != nil && status.Code(err) != codes.NotFound {
		return nil, plain(err)
	}
	return nil, nil
}

func (d *Driver) deleteEndpoint(ctx context.Context, m endpointRef) (any, error) {
	return nil, d.detach(ctx, m.EndpointID)
}

// detach ends an attachment. What is not there has ended.
func (d *Driver) detach(ctx context.Context, id string) error {
	if err := checkID("endpoint", id); err != nil {
		return fmt.Errorf("delete endpoint: %w", err)
	}
	d.forgetProcess(id)
	if a, ok := d.cfg.Attachments.Get(id); !ok || a.Stage == cluster.Placed {
		return nil // not ours to end: an ID of the engine's is no other runtime's
	}
	if err := d.cfg.Attachments.Dismiss(ctx, id); err != nil && status.Code(err) != codes.NotFound {
		return plain(err)
	}
	return nil
}

func addrsOf(i cluster.Interface) []netip.Addr {
	var out []netip.Addr
	for _, p := range i.Addrs {
		out = append(out, p.Addr())
	}
	return out
}

// plain is a status error in its own words.
func plain(err error) error {
	if s, ok := status.FromError(err); ok {
		return errors.New(s.Message())
	}
	return err
}
