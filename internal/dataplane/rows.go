package dataplane

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/ovlnet/ovl/internal/cluster"
)

// NS names a network namespace: "" is the host's own, anything else a path
// such as /run/netns/web. Where the kernel will give the path to another one day,
// as it does with those of processes, the name has a pin too: see [NSOf].
type NS string

// Host is the host's own network namespace.
const Host NS = ""

// pinned stands between a path and its pin. No path of an attachment has it.
const pinned = "\x00"

// NSOf returns the name of the namespace that a is in: its path, and its pin if it
// has one.
func NSOf(a cluster.Attachment) NS {
	if a.Pin == "" {
		return NS(a.NetNS)
	}
	return NS(a.NetNS + pinned + a.Pin)
}

// Path returns the path that leads to the namespace.
func (n NS) Path() string {
	path, _, _ := strings.Cut(string(n), pinned)
	return path
}

// Pin returns what the namespace at the path must be, or "" if any will do.
func (n NS) Pin() string {
	_, pin, _ := strings.Cut(string(n), pinned)
	return pin
}

func (n NS) String() string {
	if n == Host {
		return "host"
	}
	return n.Path()
}

// Family is an address family, where the kernel keeps separate state for each
// (firewall, sysctl). Everything else takes [netip.Addr] as it comes.
type Family uint8

// The families.
const (
	IPv4 Family = 4
	IPv6 Family = 6
)

func (f Family) String() string { return fmt.Sprintf("ipv%d", uint8(f)) }

// FamilyOf returns the family of a.
func FamilyOf(a netip.Addr) Family {
	if a.Is4() || a.Is4In6() {
		return IPv4
	}
	return IPv6
}

// RouteProtocol marks the routes that are ours in the kernel's tables (field
// rtm_protocol of struct rtmsg, include/uapi/linux/rtnetlink.h). It is no
// registered number; rt_protos.d names it "ovl".
const RouteProtocol = 79

// SpareMetric is the metric of a [Route] that stands behind another's: above what
// engines, operators and the kernel give theirs.
const SpareMetric = 7900

// The prefixes by which a link's name is ours; see also [AliasPrefix].
const (
	BridgePrefix = "ovb"
	VXLANPrefix  = "ovx"
	VethPrefix   = "ove"
	ShimPrefix   = "ovm" // the host's own place on the segment of a macvlan network
	VLANPrefix   = "ovv"
	OfferPrefix  = "ovp" // a container's end of a veth that waits on the host for its engine
)

var linkPrefixes = [...]string{BridgePrefix, VXLANPrefix, VethPrefix, ShimPrefix, VLANPrefix, OfferPrefix}

// AliasPrefix begins the alias (IFLA_IFALIAS) of every link of ours. A link on
// the host is ours only if both its name and its alias say so; in a container's
// namespace, where the runtime chooses the name, the alias alone says it.
const AliasPrefix = "ovl/1/"

// OwnsLink reports whether a link of that name and alias in ns is ours.
func OwnsLink(ns NS, name, alias string) bool {
	if !strings.HasPrefix(alias, AliasPrefix) {
		return false
	}
	return ns != Host || OwnsName(name)
}

// OwnsName reports whether name begins as the names of our links on the host do.
func OwnsName(name string) bool {
	return slices.ContainsFunc(linkPrefixes[:], func(p string) bool { return strings.HasPrefix(name, p) })
}

// ChainPrefix begins the name of every iptables chain of ours.
const ChainPrefix = "OVL-"

// Key is the identity of a row, as the kernel keys it. All keys are comparable
// structs, so a Key can be compared with == and used in a map.
type Key interface {
	Table() Table
	Namespace() NS
	String() string
}

// Row is one row of one table.
type Row interface {
	Key() Key
	// Same reports whether o, a row of the same key, is the same state.
	Same(o Row) bool
	// String is the row in one line, in the words of ip(8) and bridge(8).
	String() string
}

// LinkKey identifies a link: its name within its namespace.
type LinkKey struct {
	NS   NS
	Name string
}

// LinkKind is the kind of a link (IFLA_INFO_KIND).
type LinkKind string

// The kinds of links that we make.
const (
	Bridge  LinkKind = "bridge"
	VXLAN   LinkKind = "vxlan"
	Veth    LinkKind = "veth"
	Macvlan LinkKind = "macvlan" // always of the mode bridge
	VLAN    LinkKind = "vlan"    // 802.1q
)

// Link is a network device of ours.
//
// A veth pair is two rows. The one in the container's namespace names the
// host's end as Peer and making it makes the pair; the host's end has no Peer
// and requires it.
type Link struct {
	LinkKey
	Kind   LinkKind
	MAC    cluster.MAC // always explicit: udev changes what is left to chance
	MTU    int         // bytes, always explicit
	Up     bool        // IFF_UP, administratively
	Alias  string
	Master string // name of the bridge that this is a port of
	Peer   string // container's end of a veth, wherever it is: name of the host's end
	// Hairpin: as a port of a bridge it may send a frame back to where it came
	// from (IFLA_BRPORT_MODE). Never set without a Master.
	Hairpin bool
	VXLAN   VXLANAttrs
	// Parent of a macvlan or VLAN: the name of the link on the host on which it
	// is, wherever it is itself. It dies with its parent.
	Parent string
	VLANID uint16 // of a VLAN: 1 to 4094
}

// VXLANAttrs are the attributes of a VXLAN link that cannot change while it
// lives. Learning is always off.
type VXLANAttrs struct {
	VNI   cluster.VNI
	Port  uint16
	Local netip.Addr // outer source address
}

// AddrKey identifies an address of a link.
type AddrKey struct {
	NS     NS
	Link   string
	Prefix netip.Prefix // the address with its length, not masked
}

// Addr is an address on a link of ours. It is always written with
// IFA_F_NOPREFIXROUTE (the route to the prefix is a [Route] of ours, so that it
// too is repaired) and, in IPv6, IFA_F_NODAD. Link-local addresses that the
// kernel makes by itself are no rows; that of a bridge is.
type Addr struct{ AddrKey }

// SysctlKey identifies a sysctl by its path below /proc/sys, with slashes,
// since link names may hold dots: "net/ipv4/ip_forward".
type SysctlKey struct {
	NS   NS
	Name string
}

// Sysctl is a kernel parameter. It is never owned: set, recorded, not
// reverted. So Observe reads only the ones of [HostSysctls], and Diff never
// deletes one.
type Sysctl struct {
	SysctlKey
	Value string
}

// HostSysctls are the sysctls that Observe reports for the host's namespace.
var HostSysctls = []string{
	"net/ipv4/ip_forward",
	"net/ipv6/conf/all/forwarding",
}

// RouteLocalnet is the sysctl by which a link on the host carries packets from
// and to 127.0.0.0/8 (IN_DEV_ROUTE_LOCALNET, include/linux/inetdevice.h).
// Observe reports it for every bridge that bears a name of ours, where it is on:
// off is what the kernel begins with.
func RouteLocalnet(link string) SysctlKey {
	return SysctlKey{Name: "net/ipv4/conf/" + link + "/route_localnet"}
}

// Link returns the link that a sysctl belongs to; ok is false for one of the
// whole namespace.
func (k SysctlKey) Link() (link LinkKey, ok bool) {
	parts := strings.Split(k.Name, "/")
	if len(parts) != 5 || parts[2] != "conf" || parts[3] == "all" || parts[3] == "default" {
		return LinkKey{}, false
	}
	return LinkKey{k.NS, parts[3]}, true
}

// NeighKey identifies a neighbour (ARP or ND) entry.
type NeighKey struct {
	NS   NS
	Link string
	IP   netip.Addr
}

// Neigh is a permanent neighbour entry on a link of ours.
type Neigh struct {
	NeighKey
	MAC cluster.MAC
}

// FDBKey identifies an entry of the forwarding database of a VXLAN device, or of
// the bridge that a link is a port of.
type FDBKey struct {
	NS   NS
	Link string
	MAC  cluster.MAC
}

// FDB is a permanent unicast forwarding entry: frames to MAC go to the VTEP at Dst;
// on a bridge, which has none, to the port Link, whether or not anything has ever
// come from there.
type FDB struct {
	FDBKey
	Dst netip.Addr // not valid: of a bridge
}

// ChainKey identifies an iptables chain of ours in the host's namespace.
type ChainKey struct {
	Family     Family
	FirewallOf string // iptables table: filter, nat, raw
	Name       string // begins with [ChainPrefix]
}

// Chain is an iptables chain of ours with all of its rules.
type Chain struct {
	ChainKey
	// Rules holds one rule a line, without "-A NAME" and without the comment
	// that carries its hash. In an observed row the text is the kernel's
	// spelling; rows are compared by Digest.
	Rules string
	// Digest is the hashes of the rules in order, one a line: see [RuleHash].
	Digest string
}

// JumpKey identifies the rule in a foreign chain that leads into one of ours.
type JumpKey struct {
	Family     Family
	FirewallOf string
	From       string // FORWARD, POSTROUTING, PREROUTING, DOCKER-USER …
	To         string // a chain of ours
}

// Jump is the first rule of a foreign chain, leading into a chain of ours and
// known by its comment. Only its presence counts, not its place: where another
// program insists on being first there is no fight.
type Jump struct{ JumpKey }

// RouteKey identifies a route of the main table.
type RouteKey struct {
	NS  NS
	Dst netip.Prefix // masked; 0.0.0.0/0 or ::/0 is the default route
}

// Route is a route of ours, known by [RouteProtocol]. Its link need not be ours.
type Route struct {
	RouteKey
	Link   string
	Via    netip.Addr // the gateway; not valid = directly on the link
	OnLink bool       // Via is reachable on Link though no address says so
	Src    netip.Addr // preferred source; not valid = the kernel's choice
	// Unreachable: whoever sends there is told so (RTN_UNREACHABLE). Such a route
	// has nothing but its destination.
	Unreachable bool
	// Spare: it has [SpareMetric], so that it counts only while nobody else's leads
	// there. A container engine makes its own routes, and minds others in their place.
	Spare bool
}

func (k LinkKey) Table() Table   { return TableLink }
func (k AddrKey) Table() Table   { return TableAddr }
func (k SysctlKey) Table() Table { return TableSysctl }
func (k NeighKey) Table() Table  { return TableNeigh }
func (k FDBKey) Table() Table    { return TableFDB }
func (k ChainKey) Table() Table  { return TableChain }
func (k JumpKey) Table() Table   { return TableJump }
func (k RouteKey) Table() Table  { return TableRoute }

func (k LinkKey) Namespace() NS   { return k.NS }
func (k AddrKey) Namespace() NS   { return k.NS }
func (k SysctlKey) Namespace() NS { return k.NS }
func (k NeighKey) Namespace() NS  { return k.NS }
func (k FDBKey) Namespace() NS    { return k.NS }
func (k ChainKey) Namespace() NS  { return Host }
func (k JumpKey) Namespace() NS   { return Host }
func (k RouteKey) Namespace() NS  { return k.NS }

func (k LinkKey) String() string   { return in(k.NS) + "link " + k.Name }
func (k AddrKey) String() string   { return in(k.NS) + "addr " + k.Prefix.String() + " dev " + k.Link }
func (k SysctlKey) String() string { return in(k.NS) + "sysctl " + k.Name }
func (k NeighKey) String() string  { return in(k.NS) + "neigh " + k.IP.String() + " dev " + k.Link }
func (k FDBKey) String() string    { return in(k.NS) + "fdb " + k.MAC.String() + " dev " + k.Link }
func (k ChainKey) String() string {
	return fmt.Sprintf("chain %s %s %s", k.Family, k.FirewallOf, k.Name)
}

func (k JumpKey) String() string {
	return fmt.Sprintf("jump %s %s %s -> %s", k.Family, k.FirewallOf, k.From, k.To)
}
func (k RouteKey) String() string { return in(k.NS) + "route " + k.Dst.String() }

func in(ns NS) string {
	if ns == Host {
		return ""
	}
	return "netns " + string(ns) + " "
}

func (r Link) Key() Key   { return r.LinkKey }
func (r Addr) Key() Key   { return r.AddrKey }
func (r Sysctl) Key() Key { return r.SysctlKey }
func (r Neigh) Key() Key  { return r.NeighKey }
func (r FDB) Key() Key    { return r.FDBKey }
func (r Chain) Key() Key  { return r.ChainKey }
func (r Jump) Key() Key   { return r.JumpKey }
func (r Route) Key() Key  { return r.RouteKey }

func (r Link) Same(o Row) bool   { return Row(r) == o }
func (r Addr) Same(o Row) bool   { return Row(r) == o }
func (r Sysctl) Same(o Row) bool { return Row(r) == o }
func (r Neigh) Same(o Row) bool  { return Row(r) == o }
func (r FDB) Same(o Row) bool    { return Row(r) == o }
func (r Jump) Same(o Row) bool   { return Row(r) == o }
func (r Route) Same(o Row) bool  { return Row(r) == o }

// Same compares chains by the hashes of their rules: the kernel may spell a
// rule differently from us.
func (r Chain) Same(o Row) bool {
	c, ok := o.(Chain)
	return ok && r.ChainKey == c.ChainKey && r.Digest == c.Digest
}

func (r Link) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%slink %s type %s", in(r.NS), r.Name, r.Kind)
	if r.Kind == VXLAN {
		fmt.Fprintf(&b, " id %d dstport %d local %s nolearning", r.VXLAN.VNI, r.VXLAN.Port, r.VXLAN.Local)
	}
	if r.Kind == VLAN {
		fmt.Fprintf(&b, " id %d", r.VLANID)
	}
	if r.Parent != "" {
		fmt.Fprintf(&b, " link %s", r.Parent)
	}
	if r.Peer != "" {
		fmt.Fprintf(&b, " peer %s", r.Peer)
	}
	if r.Master != "" {
		fmt.Fprintf(&b, " master %s", r.Master)
	}
	if r.Hairpin {
		b.WriteString(" hairpin on")
	}
	state := "down"
	if r.Up {
		state = "up"
	}
	fmt.Fprintf(&b, " address %s mtu %d %s alias %s", r.MAC, r.MTU, state, r.Alias)
	return b.String()
}

func (r Addr) String() string   { return r.AddrKey.String() }
func (r Sysctl) String() string { return r.SysctlKey.String() + " = " + r.Value }
func (r Neigh) String() string {
	return r.NeighKey.String() + " lladdr " + r.MAC.String() + " permanent"
}

func (r FDB) String() string {
	if !r.Dst.IsValid() {
		return r.FDBKey.String() + " master static"
	}
	return r.FDBKey.String() + " dst " + r.Dst.String() + " permanent"
}

func (r Chain) String() string {
	n := strings.Count(r.Rules, "\n")
	if r.Rules != "" {
		n++
	}
	s := fmt.Sprintf("%s %d rules", r.ChainKey, n)
	if n > 0 {
		s += "\n    " + strings.ReplaceAll(r.Rules, "\n", "\n    ")
	}
	return s
}
func (r Jump) String() string { return r.JumpKey.String() }

func (r Route) String() string {
	if r.Unreachable {
		return r.RouteKey.String() + " unreachable"
	}
	var b strings.Builder
	b.WriteString(r.RouteKey.String())
	if r.Via.IsValid() {
		fmt.Fprintf(&b, " via %s", r.Via)
	}
	fmt.Fprintf(&b, " dev %s", r.Link)
	if r.OnLink {
		b.WriteString(" onlink")
	}
	if r.Src.IsValid() {
		fmt.Fprintf(&b, " src %s", r.Src)
	}
	if r.Spare {
		fmt.Fprintf(&b, " metric %d", SpareMetric)
	}
	return b.String()
}
