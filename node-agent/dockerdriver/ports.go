package dockerdriver

import (
	"context"
	"fmt"
	"net/netip"

	"github.com/ovlnet/ovl/internal/cluster"
	"github.com/ovlnet/ovl/node-agent/attach"
)

// The ports from which one is chosen where the user named none: those that the kernel
// gives out by itself (net.ipv4.ip_local_port_range), as engines do.
const (
	firstPort = 32768
	lastPort  = 60999
)

// program publishes a container's ports. Engines ask for it on the one network that is the
// container's way out.
func (d *Driver) program(ctx context.Context, m programConnectivity) (any, error) {
	ports, err := wantedPorts(m.Options.PortMap)
	if err != nil {
		return nil, fmt.Errorf("publish ports: %w", err)
	}
	a, ok := d.cfg.Attachments.Get(m.EndpointID)
	if !ok || len(ports) == 0 && len(a.Ports) == 0 {
		return nil, nil
	}
	if _, err := d.cfg.Attachments.Publish(ctx, m.EndpointID, ports); err != nil {
		return nil, plain(err)
	}
	return nil, nil
}

// revoke withdraws the ports of an endpoint.
func (d *Driver) revoke(ctx context.Context, m endpointRef) (any, error) {
	if a, ok := d.cfg.Attachments.Get(m.EndpointID); !ok || len(a.Ports) == 0 {
		return nil, nil
	}
	if _, err := d.cfg.Attachments.Publish(ctx, m.EndpointID, nil); err != nil {
		return nil, plain(err)
	}
	return nil, nil
}

// wantedPorts returns the ports of an engine's port map.
func wantedPorts(bindings []portBinding) ([]attach.PortWant, error) {
	if len(bindings) > cluster.MaxPorts {
		return nil, fmt.Errorf("%d of them: want at most %d", len(bindings), cluster.MaxPorts)
	}
	var out []attach.PortWant
	for _, b := range bindings {
		w := attach.PortWant{First: b.HostPort, Last: max(b.HostPort, b.HostPortEnd), ContainerPort: b.Port}
		switch b.Proto {
		case 6:
			w.Proto = cluster.TCP
		case 17:
			w.Proto = cluster.UDP
		default:
			return nil, fmt.Errorf("port %d: protocol %d: only tcp and udp can be published: use a network with -o egress=docker", b.Port, b.Proto)
		}
		if b.HostIP != "" {
			ip, err := netip.ParseAddr(b.HostIP)
			if err != nil || ip.Zone() != "" {
				return nil, fmt.Errorf("port %d: host address %s: want one such as 192.0.2.7", b.Port, clip(b.HostIP))
			}
			w.HostIP = ip.Unmap()
		}
		if w.First == 0 {
			w.First, w.Last = firstPort, lastPort
		}
		out = append(out, w)
	}
	return out, nil
}
