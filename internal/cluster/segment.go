package cluster

import "net/netip"

// A segment is a part of a network on one host that has a bridge of its own. A
// host has one, until a network has more containers there than a bridge has
// ports. Each of the host's subnets belongs to one segment: that of the
// containers with addresses in it.
const (
	// SegmentPorts is how many interfaces one segment takes. A Linux bridge takes
	// 1,023 (BR_MAX_PORTS, net/bridge/br_private.h, less port number 0); the rest
	// is room for what is not ours: a sniffer, or the veth of a container that
	// is being replaced.
	SegmentPorts = 1000
	// MaxSegments is how many segments a network has on one host: the name of
	// the last one's bridge, ovb16777215.999, is as long as a name can be.
	MaxSegments = 1000
)

// Segments says which segment the subnets of one host belong to.
type Segments map[netSubnet]int

type netSubnet struct {
	network string
	subnet  netip.Prefix
}

// SegmentsOf returns the segments of the subnets in which the attachments have
// addresses. No honest journal has one subnet in two segments; of those it is
// the first, whatever the order of the attachments.
func SegmentsOf(atts []Attachment) Segments {
	s := make(Segments)
	for _, att := range atts {
		for _, i := range att.Interfaces {
			for _, a := range i.Addrs {
				k := netSubnet{i.Network, i.SubnetFor(a)}
				if old, ok := s[k]; !ok || i.Segment < old {
					s[k] = i.Segment
				}
			}
		}
	}
	return s
}

// Of returns the segment of a subnet: 0 if nobody has an address in it.
func (s Segments) Of(network string, subnet netip.Prefix) int {
	return s[netSubnet{network, subnet}]
}
