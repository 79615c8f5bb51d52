package cluster

import (
	"net/netip"
	"time"
)

// Attachment is a container that this host has attached to networks. It is
// local: the host's journal holds it, and the store sees only its endpoints.
type Attachment struct {
	ID    string // chosen by the runtime, unique on its host
	Name  string // what others call it: a DNS label
	NetNS string // path of its network namespace
	// Pin tells this namespace from the next at that path; "" if whatever is there
	// is the container's, since its owner gave it the name.
	Pin        string
	Hostname   string
	Interfaces []Interface
	Ports      []Port // published on the host, sorted; at most [MaxPorts]
	Labels     map[string]string
	Created    time.Time
	// Stage says who has the interfaces in hand; Sandbox is where a container engine
	// takes them, once it has said so.
	Stage   Stage
	Sandbox string
	// Onward: its default route is somebody else's, such as a second network's of its
	// engine.
	Onward bool
}

// Stage is how far an interface has come on its way into a container. An agent makes
// those that it is asked for right where they belong. A container engine of Docker's kind
// insists on moving them itself, into a namespace that may not exist yet, and back.
type Stage uint8

// The stages. While the engine has an interface in hand, nothing of it is wanted or
// unwanted: whatever the agent did would come between.
const (
	Placed     Stage = iota // in the container's namespace; no engine has a part in it
	Offered                 // both ends are on the host; NetNS is empty
	HandedOver              // the engine may be moving it into Sandbox
	Adopted                 // the engine has moved it, and NetNS is Sandbox: like Placed
	TakenBack               // the engine may be moving it back to the host
)

// Lent reports whether the container engine has the interfaces in hand.
func (s Stage) Lent() bool { return s == HandedOver || s == TakenBack }

// Valid reports whether s is a stage.
func (s Stage) Valid() bool { return s <= TakenBack }

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
	Segment   int
	Bandwidth Bandwidth
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
