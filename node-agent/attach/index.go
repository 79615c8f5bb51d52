package attach

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"

	"github.com/ovlnet/ovl/internal/cluster"
	"github.com/ovlnet/ovl/internal/dataplane"
)

// index says what is spoken for: by attachments in the journal, by those that
// are being made, and by those whose rows are still being taken away. It is not
// safe for concurrent use.
type index struct {
	claims map[string]cluster.Attachment // by ID
	addrs  map[netAddr]string            // to ID, like the rest
	macs   map[netMAC]string
	links  map[nsLink]string
	ports  map[portKey][]portClaim
	// plugged is how many interfaces each segment has, subnets on which segment those
	// of each subnet are.
	plugged map[netSegment]int
	most    int // interfaces of a segment: cluster.SegmentPorts
	subnets map[netSubnet]population
	// last holds the address last given out of each subnet, so that one just
	// given back rests as long as it can.
	last map[netip.Prefix]netip.Addr
	// retired are the subnets that are just being given back.
	retired map[netip.Prefix]bool
}

type netAddr struct {
	network string
	addr    netip.Addr
}

type netMAC struct {
	network string
	mac     cluster.MAC
}

type nsLink struct {
	netns dataplane.NS
	name  string
}

func newIndex(atts []cluster.Attachment) *index {
	x := &index{
		claims: map[string]cluster.Attachment{}, addrs: map[netAddr]string{},
		macs: map[netMAC]string{}, links: map[nsLink]string{}, ports: map[portKey][]portClaim{}, plugged: map[netSegment]int{}, most: cluster.SegmentPorts, subnets: map[netSubnet]population{}, last: map[netip.Prefix]netip.Addr{}, retired: map[netip.Prefix]bool{},
	}
	atts = slices.Clone(atts)
	slices.SortStableFunc(atts, func(a, b cluster.Attachment) int {
		return cmp.Or(a.Created.Compare(b.Created), cmp.Compare(a.ID, b.ID))
	})
	for _, a := range atts {
		x.add(a)
	}
	return x
}

// add claims all that a has, beside what was claimed for its ID before. What
// another has already stays the other's.
func (x *index) add(a cluster.Attachment) {
	whole := a
	whole.Interfaces = slices.Concat(x.claims[a.ID].Interfaces, a.Interfaces)
	whole.Ports = slices.Concat(x.claims[a.ID].Ports, a.Ports)
	x.claims[a.ID] = whole
	x.claimPorts(a)
	for _, i := range a.Interfaces {
		x.count(i, 1)
		claim(x.links, nsLink{dataplane.NSOf(a), i.Name}, a.ID)
		claim(x.macs, netMAC{i.Network, i.MAC}, a.ID)
		for _, p := range i.Addrs {
			claim(x.addrs, netAddr{i.Network, p.Addr()}, a.ID)
			if !p.IsSingleIP() {
				x.last[p.Masked()] = p.Addr()
			}
		}
	}
}

// remove gives back all that the attachment of that ID has.
func (x *index) remove(id string) {
	a, ok := x.claims[id]
	if !ok {
		return
	}
	delete(x.claims, id)
	x.unclaimPorts(a)
	for _, i := range a.Interfaces {
		x.unclaim(a, i)
	}
}

// drop gives back what the attachment of that ID has on one network.
func (x *index) drop(id, network string) {
	a, ok := x.claims[id]
	if !ok {
		return
	}
	var rest []cluster.Interface
	for _, i := range a.Interfaces {
		if i.Network == network {
			x.unclaim(a, i)
		} else {
			rest = append(rest, i)
		}
	}
	a.Interfaces = rest
	x.claims[id] = a
}

func (x *index) unclaim(a cluster.Attachment, i cluster.Interface) {
	x.count(i, -1)
	unclaim(x.links, nsLink{dataplane.NSOf(a), i.Name}, a.ID)
	unclaim(x.macs, netMAC{i.Network, i.MAC}, a.ID)
	for _, p := range i.Addrs {
		unclaim(x.addrs, netAddr{i.Network, p.Addr()}, a.ID)
	}
}

func claim[K comparable](m map[K]string, k K, id string) {
	if _, taken := m[k]; !taken {
		m[k] = id
	}
}

func unclaim[K comparable](m map[K]string, k K, id string) {
	if m[k] == id {
		delete(m, k)
	}
}

// conflict tells what of the request somebody else has, or "".
func (x *index) conflict(r Request) string {
	if who, taken := x.namesake(cluster.Attachment{ID: r.ID, Name: r.Name, NetNS: r.NetNS, Pin: r.Pin}); taken {
		return fmt.Sprintf("the name %s is in use on this host by container %s: choose another, or remove that one", r.Name, who)
	}
	for _, w := range r.Interfaces {
		if id, taken := x.links[nsLink{r.ns(), w.Name}]; taken {
			return fmt.Sprintf("interface %s of %s is in use by container %s: ask for another interface name", w.Name, r.NetNS, x.who(id))
		}
		if id, taken := x.macs[netMAC{w.Network, w.MAC}]; taken && !w.MAC.IsZero() {
			return fmt.Sprintf("MAC %s on network %s is in use by container %s: ask for another, or for none", w.MAC, w.Network, x.who(id))
		}
		for _, a := range w.Addrs {
			if id, taken := x.addrs[netAddr{w.Network, a}]; taken {
				return fmt.Sprintf("address %s of network %s is in use by container %s: ask for another, or for none", a, w.Network, x.who(id))
			}
		}
	}
	return x.portConflict(r.Ports)
}

// namesake returns another container that bears the name of att. A container may have
// several attachments, such as one for each network that a CNI runtime adds it to; they
// bear one name.
func (x *index) namesake(att cluster.Attachment) (who string, found bool) {
	for id, o := range x.claims {
		if id != att.ID && o.Name == att.Name && whereabouts(o) != whereabouts(att) {
			return x.who(id), true
		}
	}
	return "", false
}

// whereabouts tells which container an attachment is of: its namespace, or that for which
// it is meant; before that is known it is one of its own.
func whereabouts(a cluster.Attachment) string {
	if a.NetNS != "" {
		return string(dataplane.NSOf(a))
	}
	if a.Sandbox != "" {
		return a.Sandbox
	}
	return a.ID
}

// who names an attachment for people.
func (x *index) who(id string) string {
	if a := x.claims[id]; a.Name != "" && a.Name != id {
		return fmt.Sprintf("%s (%s)", a.Name, id)
	}
	return id
}

// used returns how many addresses of a subnet are spoken for.
func (x *index) used(network string, subnet netip.Prefix) int {
	if subnet.IsSingleIP() {
		if x.busy(network, subnet) {
			return 1
		}
		return 0
	}
	n := 0
	for k := range x.addrs {
		if k.network == network && subnet.Contains(k.addr) {
			n++
		}
	}
	return n
}

// busy reports whether a subnet is needed, for an address of it or for its
// gateway, or a static address is spoken for.
func (x *index) busy(network string, subnet netip.Prefix) bool {
	if subnet.IsSingleIP() {
		_, taken := x.addrs[netAddr{network, subnet.Addr()}]
		return taken
	}
	_, inUse := x.subnets[netSubnet{network, subnet}].first()
	return inUse
}

// retire lets no more addresses of an unused subnet be chosen. It reports false
// if the subnet is in use after all.
func (x *index) retire(network string, subnet netip.Prefix) bool {
	if x.busy(network, subnet) {
		return false
	}
	x.retired[subnet] = true
	return true
}
