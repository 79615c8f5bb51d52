package cluster

import (
	"cmp"
	"net/netip"
	"time"
)

// Host is one member of the cluster. The host's own agent writes it.
type Host struct {
	ID   HostID
	Name string
	// Underlay holds the addresses at which this host receives VXLAN, at most
	// one of each family.
	Underlay []netip.Addr
	// VXLANPort is the UDP port of the tunnel. All hosts of a cluster use one.
	VXLANPort uint16
	// Routes are the prefixes that the host itself routes, none of them ours: a
	// network must not cover them. At most [MaxHostRoutes].
	Routes []netip.Prefix
	// OnLink are the prefixes that the host reaches through the underlay's
	// interface without a gateway. At most [MaxHostRoutes].
	OnLink  []netip.Prefix
	Version string // of the agent
	// Draining hosts take no new attachments. It is the operator's wish, kept
	// under a key of its own and joined in here on reading.
	Draining bool
	Revision int64 // of the record, for compare-and-swap; 0 = not stored
}

// UnderlayFor returns the underlay address of this host that a host with the
// addresses own can reach: the first family of own that this host has too.
// ok is false when they share no family.
func (h Host) UnderlayFor(own []netip.Addr) (addr netip.Addr, ok bool) {
	for _, o := range own {
		for _, a := range h.Underlay {
			if a.Is4() == o.Is4() {
				return a, true
			}
		}
	}
	return netip.Addr{}, false
}

// LabelDockerHost is the label of a network that a container engine brought into the
// cluster. Its value is the HostID of that engine's host.
const LabelDockerHost = "docker.host"

// Driver says how a network's traffic travels between hosts.
type Driver string

// The drivers of a network.
const (
	DriverOverlay Driver = "overlay" // VXLAN between hosts
	DriverBridge  Driver = "bridge"  // this host only
	DriverMacvlan Driver = "macvlan" // directly on a physical segment
)

// Pool is one family's address range of a network, and the size of the piece
// that each host takes of it.
type Pool struct {
	Prefix     netip.Prefix // masked
	HostPrefix int          // length of a host's subnet, Prefix.Bits() to the family's limit
	// Range is the part of Prefix that hosts take their subnets of; the zero
	// Prefix is all of it. Macvlan only, as is the next.
	Range   netip.Prefix
	Gateway netip.Addr // the way out of the segment, somebody else's
}

// Leased returns the pool that hosts take their subnets of: p without what is
// none of theirs.
func (p Pool) Leased() Pool {
	if p.Range.IsValid() {
		p.Prefix = p.Range
	}
	return p
}

// Network is one private network. A controller writes it; its name and VNI are
// unique in the cluster and never change.
type Network struct {
	Name          string
	VNI           VNI
	Driver        Driver
	Pools         []Pool // one or two; at most one of each family
	Internal      bool   // no way out, and none in
	Masquerade    bool   // IPv4 to the outside gets the host's address
	NAT66         bool   // IPv6 to the outside does too
	DirectRouting bool   // peers on the same segment are routed without VXLAN
	Services      bool   // the hosts lead connections to its containers (kube-proxy)
	MTU           int    // bytes; 0 = what the underlay allows
	// StaticRanges are parts of the pools, at most one of each, whose addresses
	// are leased one by one and move between hosts with their containers.
	StaticRanges []netip.Prefix
	DNSDomain    string
	Parent       string // macvlan only
	Labels       map[string]string
	Created      time.Time
	// Created in the store at this revision: it tells a network from an
	// earlier one of the same name.
	CreateRevision int64
	Revision       int64
}

// DefaultDNSDomain is the domain of a network that names none. The top-level
// domain internal is reserved for private use (ICANN resolution 2024.07.29.06):
// no name in it will ever exist outside.
const DefaultDNSDomain = "ovl.internal"

// Domain returns the domain of the network's names, such as blue.ovl.internal,
// without a dot at the end.
func (n Network) Domain() string { return n.Name + "." + cmp.Or(n.DNSDomain, DefaultDNSDomain) }

// Pool returns the pool that holds p, or ok = false.
func (n Network) Pool(p netip.Prefix) (pool Pool, ok bool) {
	for _, pool := range n.Pools {
		if pool.Prefix.Addr().Is4() == p.Addr().Is4() && pool.Prefix.Bits() <= p.Bits() && pool.Prefix.Contains(p.Addr()) {
			return pool, true
		}
	}
	return Pool{}, false
}

// StaticRange returns the static range within pool; the zero Prefix if there is
// none.
func (n Network) StaticRange(pool Pool) netip.Prefix {
	for _, r := range n.StaticRanges {
		if r.Overlaps(pool.Prefix) {
			return r
		}
	}
	return netip.Prefix{}
}

// IsStatic reports whether p is one address of a static range: a lease of such a
// one is of the address alone, and has no gateway within.
func (n Network) IsStatic(p netip.Prefix) bool {
	if !p.IsSingleIP() {
		return false
	}
	for _, r := range n.StaticRanges {
		if r.Contains(p.Addr()) {
			return true
		}
	}
	return false
}

// Lease says that a host owns a subnet of a network, or one static address: then
// Prefix is as long as an address. It lives on the host's
// ownership lease in the store.
type Lease struct {
	Network  string
	Prefix   netip.Prefix // masked
	Host     HostID
	Revision int64
}

// Endpoint is a container's interface on a network. Its host's agent writes it.
type Endpoint struct {
	Network  string
	Host     HostID
	ID       string // unique on its host: the attachment's ID
	Name     string
	Aliases  []string
	Addrs    []netip.Addr // at most one of each family
	MAC      MAC
	Labels   map[string]string
	Revision int64
}

// Session says that a host's agent is up now. It lives on the short session
// lease; forwarding never depends on it.
type Session struct {
	Host            HostID
	BootID          string // the kernel's: tells a reboot from a cloned disk
	Instance        string // of this agent process
	Started         time.Time
	AppliedRevision int64 // of the store, as of the last pass that did all it wanted
	Problems        []Problem
	Revision        int64
}

// Severity orders problems.
type Severity string

// The severities, from bad to noteworthy.
const (
	SeverityError   Severity = "error"
	SeverityWarning Severity = "warning"
)

// Problem is something wrong, as a value: pure code cannot log, so it returns
// these, the agent publishes them and ovlctl shows them.
type Problem struct {
	Severity Severity `json:"severity"`
	Subject  string   `json:"subject"` // what it is about, such as "network blue" or "host h2"
	What     string   `json:"what"`
	Hint     string   `json:"hint,omitempty"` // what to do about it
}

// The bounds of what a record may hold; the store's decoding enforces them.
const (
	MaxHostRoutes = 256
	MaxAliases    = 64
	MaxLabels     = 64
	MaxLabelLen   = 256 // bytes, of a key and of a value
	MaxProblems   = 32
)
