package cluster

import (
	"net/netip"
	"time"
)

// Attachment is a container that this host has attached to networks. It is
// local: the host's journal holds it, and the store sees only its endpoints.
type Attachment struct {
	ID         string // chosen by the runtime, unique on its host
	Name       string // what others call it: a DNS label
	NetNS      string // path of its network namespace
	Hostname   string
	Interfaces []Interface
	Ports      []Port // published on the host, sorted; at most [MaxPorts]
	Labels     map[string]string
	Created    time.Time
}

// Interface is one interface of an attachment, on one network.
type Interface struct {
	Network string
	// NetworkCreated is the network's CreateRevision when the interface was
	// made: a later network of the same name is another one.
	NetworkCreated int64
	Name           string         // in the container: eth0
	Addrs          []netip.Prefix // address and length of the subnet, at most one of each family
	// Via holds, for each static address, the subnet of this host by whose gateway
	// it gets on: nothing is around such an address.
	Via     []netip.Prefix
	MAC     MAC
	Aliases []string
	// Segment is the part of the network on this host whose bridge the interface
	// is on: chosen with its addresses, below [MaxSegments].
	Segment int
}

// SubnetFor returns the subnet of this host whose gateway serves the
// interface's address a: the one around it or, if it is static, that in Via. It
// is the zero Prefix if there is none.
func (i Interface) SubnetFor(a netip.Prefix) netip.Prefix {
	if !a.IsSingleIP() {
		return a.Masked()
	}
	for _, p := range i.Via {
		if p.Addr().Is4() == a.Addr().Is4() {
			return p
		}
	}
	return netip.Prefix{}
}

// HasAddr reports whether a is one of the interface's addresses.
func (i Interface) HasAddr(a netip.Addr) bool {
	for _, p := range i.Addrs {
		if p.Addr() == a {
			return true
		}
	}
	return false
}
