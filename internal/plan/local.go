package plan

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"github.com/ovlnet/ovl/internal/cluster"
	"github.com/ovlnet/ovl/internal/dataplane"
)

// Local is what a host knows of itself.
type Local struct {
	ID       cluster.HostID
	Underlay Underlay
	Port     uint16 // UDP, of the tunnel
	// Held are the subnets that this host owns, as its own disk says: not as
	// the snapshot does, which may be older or newer.
	Held        []cluster.Lease
	Attachments []cluster.Attachment
	DockerUser  [2]bool // the filter table has a chain DOCKER-USER: IPv4, IPv6
	NoGuard     [2]bool // what the kernel lacks, by [dataplane.NFTable]
	// NameAddr is the address at which this host answers questions about names,
	// besides its gateways; the zero Addr: nowhere else. See names.go.
	NameAddr netip.Addr
	// Links are this host's that are not ours: a network may be put on one.
	Links []dataplane.HostLink
}

// Underlay is the interface that carries the tunnel.
type Underlay struct {
	Link  string
	Addrs []netip.Addr // at most one of each family; the first is preferred
	MTU   int          // bytes
	// OnLink are the prefixes that are reached through Link without a gateway.
	OnLink []netip.Prefix
}

// Result is a plan: rows, and what stood in the way of more.
type Result struct {
	State    dataplane.State
	Problems []cluster.Problem
}

// BridgeName returns the name of the bridge of a network's segment on every host:
// ovb100, ovb100.1, ovb100.2 …
func BridgeName(vni cluster.VNI, segment int) string {
	if segment == 0 {
		return fmt.Sprintf("%s%d", dataplane.BridgePrefix, vni)
	}
	return fmt.Sprintf("%s%d.%d", dataplane.BridgePrefix, vni, segment)
}

// GatewayVNI returns the VNI of the network whose gateways are on a link of the
// host: one with a name that [BridgeName] or [ShimName] returned.
func GatewayVNI(name string) (vni cluster.VNI, ok bool) {
	number, ok := strings.CutPrefix(name, dataplane.BridgePrefix)
	if !ok {
		number, ok = strings.CutPrefix(name, dataplane.ShimPrefix)
	}
	number, _, _ = strings.Cut(number, ".")
	v, err := strconv.ParseUint(number, 10, 24)
	return cluster.VNI(v), ok && err == nil
}

// VXLANName returns the name of a network's VXLAN device on every host.
func VXLANName(vni cluster.VNI) string { return fmt.Sprintf("%s%d", dataplane.VXLANPrefix, vni) }

// ShimName returns the name of the host's own macvlan on a network's segment.
func ShimName(vni cluster.VNI) string { return fmt.Sprintf("%s%d", dataplane.ShimPrefix, vni) }

// VLANName returns the name of the VLAN that a network's segment is on, where it
// is ours.
func VLANName(vni cluster.VNI) string { return fmt.Sprintf("%s%d", dataplane.VLANPrefix, vni) }

// HostLink returns the name of the host's end of the veth that is the interface
// ifname of the attachment id: a hash, since IFNAMSIZ leaves 15 bytes.
func HostLink(id, ifname string) string {
	sum := sha256.Sum256([]byte(id + "\x00" + ifname))
	return dataplane.VethPrefix + hex.EncodeToString(sum[:6])
}

// HostEnd returns the name of the host's end of an interface. Where an engine chooses
// the interface's name, it does not depend on that.
func HostEnd(a cluster.Attachment, i cluster.Interface) string {
	if a.Stage == cluster.Placed {
		return HostLink(a.ID, i.Name)
	}
	return HostLink(a.ID, "")
}

// OfferName returns the name that the container's end of an attachment's veth has on the
// host, while it waits for its engine or has come back from it.
func OfferName(id string) string {
	sum := sha256.Sum256([]byte(id))
	return dataplane.OfferPrefix + hex.EncodeToString(sum[:6])
}

// Concerns returns a predicate that is true of the rows that belong to one
// attachment alone: both ends of its veths, what they may send as, and all within its namespace; and of
// those without which its published ports lead nowhere.
func Concerns(a cluster.Attachment) func(dataplane.Row) bool {
	links := map[string]bool{}
	for _, i := range a.Interfaces {
		links[HostEnd(a, i)] = true
		if a.Stage == cluster.Offered {
			links[i.Name] = true
		}
	}
	chains := map[string]bool{}
	for _, p := range a.Ports {
		chains[chainPrerouting], chains[chainOutput], chains[portChain(p.HostPort)] = true, true, true
	}
	return func(r dataplane.Row) bool {
		switch k := r.Key().(type) {
		case dataplane.LinkKey:
			if k.NS == dataplane.Host {
				return links[k.Name]
			}
		case dataplane.QdiscKey:
			if k.NS == dataplane.Host {
				return links[k.Link]
			}
		case dataplane.ElementKey:
			return k.Link != "" && links[k.Link]
		case dataplane.ChainKey:
			return chains[k.Name] && k.FirewallOf == "nat"
		case dataplane.JumpKey:
			return chains[k.To] && k.FirewallOf == "nat"
		}
		return a.NetNS != "" && r.Key().Namespace() == dataplane.NSOf(a)
	}
}

// Upholds returns a predicate that is true of the rows without which an attachment
// has less than it was given: its own, the bridge that it is on with the gateway, and
// what filters. Those of peers are not among them: hosts come and go.
func Upholds(a cluster.Attachment, networks func(name string) (cluster.Network, bool)) func(dataplane.Row) bool {
	own := Concerns(a)
	shared := map[string]bool{}
	for _, i := range a.Interfaces {
		if n, ok := networks(i.Network); ok {
			shared[BridgeName(n.VNI, i.Segment)], shared[VXLANName(n.VNI)], shared[ShimName(n.VNI)] = true, true, true
		}
	}
	return func(r dataplane.Row) bool {
		switch r := r.(type) {
		case dataplane.Link:
			return own(r) || r.NS == dataplane.Host && shared[r.Name]
		case dataplane.Addr:
			return own(r) || r.NS == dataplane.Host && shared[r.Link]
		case dataplane.Route:
			return own(r) || r.NS == dataplane.Host && shared[r.Link] && !r.Via.IsValid()
		case dataplane.Chain:
			return own(r) || r.FirewallOf != "nat"
		case dataplane.Jump:
			return own(r) || r.FirewallOf != "nat"
		case dataplane.Set, dataplane.Guard, dataplane.Sysctl:
			return true
		}
		return own(r)
	}
}
