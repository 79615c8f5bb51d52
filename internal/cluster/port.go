package cluster

import (
	"cmp"
	"fmt"
	"net/netip"
)

// Proto is a transport protocol with ports.
type Proto string

// The protocols of which ports can be published.
const (
	TCP Proto = "tcp"
	UDP Proto = "udp"
)

// Port publishes a port of a container on its host.
type Port struct {
	Proto Proto
	// HostIP is the host's address at which the port is published; not valid =
	// at all of them, an unspecified one = at all of its family.
	HostIP        netip.Addr
	HostPort      uint16
	ContainerPort uint16
}

// MaxPorts bounds the ports that one container publishes.
const MaxPorts = 1024

// Check returns why p cannot be published.
func (p Port) Check() error {
	switch {
	case p.Proto != TCP && p.Proto != UDP:
		return fmt.Errorf("protocol %q: want tcp or udp", clip(string(p.Proto)))
	case p.HostPort == 0 || p.ContainerPort == 0:
		return fmt.Errorf("port 0: want 1 to 65535")
	case !p.HostIP.IsValid():
		return nil
	case p.HostIP.Is4In6() || p.HostIP.Zone() != "":
		return fmt.Errorf("host address %s: want a plain IPv4 or IPv6 address", p.HostIP)
	case p.HostIP.IsMulticast() || p.HostIP.IsLinkLocalUnicast() && p.HostIP.Is6():
		return fmt.Errorf("host address %s: want one of the host that is neither multicast nor link-local", p.HostIP)
	case p.HostIP == netip.IPv6Loopback():
		// There is no route_localnet for IPv6.
		return fmt.Errorf("host address ::1: Linux cannot translate IPv6 loopback: use 127.0.0.1, or another address of the host")
	}
	return nil
}

// Serves reports whether p is published for destinations of a's family.
func (p Port) Serves(a netip.Addr) bool {
	return !p.HostIP.IsValid() || p.HostIP.Is4() == a.Is4()
}

// Clashes reports whether p and o claim the same port of the same address.
func (p Port) Clashes(o Port) bool {
	if p.Proto != o.Proto || p.HostPort != o.HostPort {
		return false
	}
	a, b := p.HostIP, o.HostIP
	if !a.IsValid() || !b.IsValid() {
		return true
	}
	return a.Is4() == b.Is4() && (a == b || a.IsUnspecified() || b.IsUnspecified())
}

// ComparePort orders ports by host port, protocol and address.
func ComparePort(a, b Port) int {
	return cmp.Or(cmp.Compare(a.HostPort, b.HostPort), cmp.Compare(a.Proto, b.Proto), a.HostIP.Compare(b.HostIP), cmp.Compare(a.ContainerPort, b.ContainerPort))
}

// String is p as `ovlctl run -p` takes it: "192.0.2.1:8080:80/tcp".
func (p Port) String() string {
	s := fmt.Sprintf("%d:%d/%s", p.HostPort, p.ContainerPort, p.Proto)
	switch {
	case !p.HostIP.IsValid():
		return s
	case p.HostIP.Is6():
		return "[" + p.HostIP.String() + "]:" + s
	}
	return p.HostIP.String() + ":" + s
}
