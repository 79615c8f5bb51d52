package wire

import (
	"fmt"

	"github.com/ovlnet/ovl/internal/cluster"
	ovlv1 "github.com/ovlnet/ovl/proto/ovl/v1"
)

// Subnet returns l as a message, with what h, its host, says of itself. A host
// whose record is gone is the zero Host; vni 0 means that the network is not
// known, and leaves out the VTEP's MAC.
func Subnet(l cluster.Lease, h cluster.Host, vni cluster.VNI) *ovlv1.Subnet {
	p := &ovlv1.Subnet{
		Network: l.Network, Prefix: prefixText(l.Prefix), HostId: string(l.Host),
		Host: h.Name, Underlay: addrTexts(h.Underlay), Revision: l.Revision,
	}
	if vni.Valid() && l.Host != "" {
		p.VtepMac = cluster.VTEPMAC(l.Host, vni).String()
	}
	return p
}

// ParseSubnet returns the lease in p.
func ParseSubnet(p *ovlv1.Subnet) (cluster.Lease, error) {
	prefix, err := parsePrefix(p.GetPrefix())
	if err != nil {
		return cluster.Lease{}, fmt.Errorf("parse subnet of network %q: %w", p.GetNetwork(), err)
	}
	host, err := cluster.ParseHostID(p.GetHostId())
	if err != nil {
		return cluster.Lease{}, fmt.Errorf("parse subnet %s: %w", prefix, err)
	}
	return cluster.Lease{Network: p.GetNetwork(), Prefix: prefix, Host: host, Revision: p.GetRevision()}, nil
}
