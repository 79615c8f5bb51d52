package wire

import (
	"fmt"
	"math"

	"github.com/ovlnet/ovl/internal/cluster"
	ovlv1 "github.com/ovlnet/ovl/proto/ovl/v1"
)

// Port returns p as a message.
func Port(p cluster.Port) *ovlv1.Port {
	m := &ovlv1.Port{Protocol: string(p.Proto), HostPort: uint32(p.HostPort), ContainerPort: uint32(p.ContainerPort)}
	if p.HostIP.IsValid() {
		m.HostIp = p.HostIP.String()
	}
	return m
}

// ParsePort returns the port in m, or why it cannot be published.
func ParsePort(m *ovlv1.Port) (cluster.Port, error) {
	p := cluster.Port{Proto: cluster.Proto(m.GetProtocol())}
	if m.GetHostPort() > math.MaxUint16 || m.GetContainerPort() > math.MaxUint16 {
		return p, fmt.Errorf("parse port: %d:%d: want 1 to 65535", m.GetHostPort(), m.GetContainerPort())
	}
	p.HostPort, p.ContainerPort = uint16(m.GetHostPort()), uint16(m.GetContainerPort())
	if m.GetHostIp() != "" {
		a, err := parseAddr(m.GetHostIp())
		if err != nil {
			return p, err
		}
		p.HostIP = a
	}
	if err := p.Check(); err != nil {
		return p, fmt.Errorf("parse port: %w", err)
	}
	return p, nil
}
