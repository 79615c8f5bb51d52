package dataplane

import (
	"fmt"
	"net/netip"
	"strings"

	"github.com/ovlnet/ovl/internal/cluster"
)

// NFTable is a table of nf_tables that is ours: one of each family, both of the
// name [NFTableName].
type NFTable uint8

// The tables of nf_tables.
const (
	NFInet   NFTable = iota // sees packets that reach the host
	NFBridge                // sees frames that enter a bridge by a port
)

// NFTableName is the name of our tables in nf_tables: all within is ours.
const NFTableName = "ovl"

func (t NFTable) String() string { return [...]string{"inet ", "bridge "}[t] + NFTableName }

// SetKind says what the elements of a set are.
type SetKind uint8

// The kinds of sets.
const (
	Peers    SetKind = iota // in whose name a host may send through the tunnel
	Networks                // VNIs of the networks that are on this host
	Sources                 // who may send as whom: a port with a MAC and an IP address
	Owners                  // a map: the MAC of the container that has an IP address
)

// SetKey identifies a set in one of our tables of nf_tables. What a set of its kind
// has no use for is zero.
type SetKey struct {
	Kind   SetKind
	Family Family // of the addresses: peers (of their hosts), sources, owners
	Inner  Family // peers: of what they send
	Bits   uint8  // peers: the length of the prefixes from which they send
}

// In returns the table that the set is in.
func (k SetKey) In() NFTable {
	if k.Kind == Sources || k.Kind == Owners {
		return NFBridge
	}
	return NFInet
}

// Name returns the set's name within its table.
func (k SetKey) Name() string {
	switch k.Kind {
	case Peers:
		return fmt.Sprintf("peers_%s_%d_over_%s", k.Inner, k.Bits, k.Family)
	case Networks:
		return "networks"
	case Owners:
		return "owners_" + k.Family.String()
	default:
		return "sources_" + k.Family.String()
	}
}

// IsMap reports whether the set's elements have a value each.
func (k SetKey) IsMap() bool { return k.Kind == Owners }

// Type returns the type of the set's elements in the words of nft(8).
func (k SetKey) Type() string {
	switch k.Kind {
	case Peers:
		return k.Family.String() + "_addr . integer . integer" // an address in raw data is a number to nft
	case Networks:
		return "integer"
	case Owners:
		return k.Family.String() + "_addr : ether_addr"
	default:
		return "ifname . ether_addr . " + k.Family.String() + "_addr"
	}
}

// Set is a set of nf_tables, without its elements.
type Set struct{ SetKey }

// ElementKey identifies an element of a set. Which of the fields it has follows
// from the set's kind; the others are zero.
type ElementKey struct {
	Set  SetKey
	VNI  cluster.VNI // networks, peers
	MAC  cluster.MAC // sources
	Link string      // sources: the port of a bridge
	Addr netip.Addr  // sources, owners; peers: of the host
	From netip.Addr  // peers: where a prefix begins whose length is the set's
}

// Element is an element of a set of nf_tables.
type Element struct {
	ElementKey
	Owner cluster.MAC // owners: to what the address maps
}

// PeerSet returns the set of the hosts that have an address of that family and send
// from prefixes like this one.
func PeerSet(host Family, like netip.Prefix) SetKey {
	return SetKey{Kind: Peers, Family: host, Inner: FamilyOf(like.Addr()), Bits: uint8(like.Bits())}
}

// Peer returns the element by which the host at addr may send from a prefix, through
// the tunnel of a network.
func Peer(addr netip.Addr, vni cluster.VNI, from netip.Prefix) Element {
	return Element{ElementKey: ElementKey{Set: PeerSet(FamilyOf(addr), from), VNI: vni, Addr: addr, From: from.Addr()}}
}

// OnHost returns the element by which a network counts as one of this host.
func OnHost(vni cluster.VNI) Element {
	return Element{ElementKey: ElementKey{Set: SetKey{Kind: Networks}, VNI: vni}}
}

// Source returns the element by which frames from mac and a are let in at a port.
func Source(link string, mac cluster.MAC, a netip.Addr) Element {
	return Element{ElementKey: ElementKey{Set: SetKey{Kind: Sources, Family: FamilyOf(a)}, Link: link, MAC: mac, Addr: a}}
}

// Owner returns the element by which a question for the address a goes to mac.
func Owner(a netip.Addr, mac cluster.MAC) Element {
	return Element{ElementKey{Set: SetKey{Kind: Owners, Family: FamilyOf(a)}, Addr: a}, mac}
}

// GuardKey identifies the rules in one of our tables of nf_tables.
type GuardKey struct{ In NFTable }

// Guard is all chains of one of our tables of nf_tables, with their rules. It is
// changed as a whole, in one transaction.
type Guard struct {
	GuardKey
	// Rules holds one chain or rule a line, as nft(8) has them; see [NewGuard]. In
	// an observed row a rule stands for itself by its hash.
	Rules string
	// Digest is the chains and the hashes of the rules, one a line; rows are
	// compared by it.
	Digest string
}

// NewGuard returns a guard of the given lines: each chain's name after "chain",
// with its hook if it has one, and behind it its rules.
func NewGuard(in NFTable, lines ...string) Guard {
	digest := make([]string, len(lines))
	for i, l := range lines {
		if digest[i] = l; !IsChainLine(l) {
			digest[i] = RuleHash(l)
		}
	}
	return Guard{GuardKey{in}, strings.Join(lines, "\n"), strings.Join(digest, "\n")}
}

// IsChainLine reports whether a line of a guard begins a chain.
func IsChainLine(line string) bool { return strings.HasPrefix(line, "chain ") }

func (k SetKey) Table() Table     { return TableSet }
func (k ElementKey) Table() Table { return TableElement }
func (k GuardKey) Table() Table   { return TableGuard }

func (k SetKey) Namespace() NS     { return Host }
func (k ElementKey) Namespace() NS { return Host }
func (k GuardKey) Namespace() NS   { return Host }

func (k SetKey) String() string { return fmt.Sprintf("set %s %s", k.In(), k.Name()) }
func (k ElementKey) String() string {
	at := fmt.Sprintf("element %s %s ", k.Set.In(), k.Set.Name())
	switch k.Set.Kind {
	case Networks:
		return fmt.Sprintf("%s%d", at, k.VNI)
	case Peers:
		return fmt.Sprintf("%s%s . %d . %s", at, k.Addr, k.VNI, k.From)
	case Owners:
		return at + k.Addr.String()
	default:
	}
	return fmt.Sprintf("%s%s . %s . %s", at, k.Link, k.MAC, k.Addr)
}
func (k GuardKey) String() string { return "guard " + k.In.String() }

func (r Set) Key() Key     { return r.SetKey }
func (r Element) Key() Key { return r.ElementKey }
func (r Guard) Key() Key   { return r.GuardKey }

func (r Set) Same(o Row) bool     { return Row(r) == o }
func (r Element) Same(o Row) bool { return Row(r) == o }

// Same compares guards by their digests: the kernel does not keep the text.
func (r Guard) Same(o Row) bool {
	g, ok := o.(Guard)
	return ok && r.GuardKey == g.GuardKey && r.Digest == g.Digest
}

func (r Set) String() string { return r.SetKey.String() + " type " + r.Type() }
func (r Element) String() string {
	if r.Set.IsMap() {
		return fmt.Sprintf("%s : %s", r.ElementKey, r.Owner)
	}
	return r.ElementKey.String()
}

func (r Guard) String() string {
	var b strings.Builder
	b.WriteString(r.GuardKey.String())
	for l := range strings.Lines(r.Rules) {
		if b.WriteString("\n    "); !IsChainLine(l) {
			b.WriteString("    ")
		}
		b.WriteString(strings.TrimSuffix(l, "\n"))
	}
	return b.String()
}
