package attach

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"

	"google.golang.org/grpc/codes"

	"github.com/ovlnet/ovl/internal/cluster"
	"github.com/ovlnet/ovl/internal/ipam"
	"github.com/ovlnet/ovl/internal/plan"
)

// netSegment is a segment of a network on this host.
type netSegment struct {
	network string
	segment int
}

type netSubnet struct {
	network string
	subnet  netip.Prefix
}

// population is what a subnet belongs to a segment by: how many addresses of it are
// spoken for on each. There is one segment, unless a journal says otherwise.
type population map[int]int

// first returns the segment of a subnet, as [cluster.SegmentsOf] finds it; ok is false
// if nobody is there, so that it may serve any.
func (p population) first() (segment int, ok bool) {
	for s := range p {
		if !ok || s < segment {
			segment, ok = s, true
		}
	}
	return segment, ok
}

// count adds n interfaces like i to its segment, and to that of its subnets.
func (x *index) count(i cluster.Interface, n int) {
	at := netSegment{i.Network, i.Segment}
	if x.plugged[at] += n; x.plugged[at] == 0 {
		delete(x.plugged, at)
	}
	for _, p := range i.Addrs {
		k := netSubnet{i.Network, i.SubnetFor(p)}
		if x.subnets[k] == nil {
			x.subnets[k] = population{}
		}
		if x.subnets[k][i.Segment] += n; x.subnets[k][i.Segment] == 0 {
			delete(x.subnets[k], i.Segment)
		}
		if len(x.subnets[k]) == 0 {
			delete(x.subnets, k)
		}
	}
}

// place chooses a segment with a port left, and in it an address of each family
// or the wanted ones: of a subnet of that segment, or of one that nobody is in.
// Where no segment has them, the shortage is that of the first one with a port.
func (s supply) place(n cluster.Network, wanted []netip.Addr) (spots []spot, segment int, short *shortage, err error) {
	segments, err := s.segments(n, wanted)
	if err != nil {
		return nil, 0, nil, err
	}
	for _, segment := range segments {
		spots, lack, err := s.addresses(n, segment, wanted)
		if err != nil || lack == nil {
			return spots, segment, nil, err
		}
		if short == nil {
			short = lack
			short.segment = segment
		}
	}
	return nil, 0, short, nil
}

// bridged reports whether containers of n are on bridges. Those of a macvlan are on
// an interface of the host, which has no such limit.
func bridged(n cluster.Network) bool { return n.Driver != cluster.DriverMacvlan }

// segments returns the segments with a port left, in order, the first unused one
// last; or the one that the wanted addresses belong to.
func (s supply) segments(n cluster.Network, wanted []netip.Addr) ([]int, error) {
	if !bridged(n) {
		return []int{0}, nil
	}
	pinned, err := s.pinned(n, wanted)
	if err != nil {
		return nil, err
	}
	last := -1
	for at := range s.taken.plugged {
		if at.network == n.Name {
			last = max(last, at.segment)
		}
	}
	var out []int
	for segment := range min(last+2, cluster.MaxSegments) {
		if s.taken.plugged[netSegment{n.Name, segment}] < s.taken.most && (pinned < 0 || segment == pinned) {
			out = append(out, segment)
		}
	}
	switch {
	case len(out) > 0:
		return out, nil
	case pinned >= 0:
		return nil, refuse(codes.ResourceExhausted, "address %s of network %s is on bridge %s, which has %d containers, as many as it takes: ask for an address of another subnet, or for none",
			wanted[0], n.Name, plan.BridgeName(n.VNI, pinned), s.taken.most)
	}
	return nil, refuse(codes.ResourceExhausted, "network %s has %d bridges on this host, the most there can be, and all are full: use another host", n.Name, cluster.MaxSegments)
}

// pinned returns the segment to whose subnets the wanted addresses belong; -1 if
// they do to none.
func (s supply) pinned(n cluster.Network, wanted []netip.Addr) (int, error) {
	pinned := -1
	for _, a := range wanted {
		for k, p := range s.taken.subnets {
			if k.network != n.Name || !k.subnet.Contains(a) {
				continue
			}
			segment, _ := p.first()
			if pinned >= 0 && pinned != segment {
				return 0, refuse(codes.FailedPrecondition, "addresses %s of network %s are on different bridges of this host: ask for one of them", wanted, n.Name)
			}
			pinned = segment
		}
	}
	return pinned, nil
}

// addresses chooses an address of every family in one segment.
func (s supply) addresses(n cluster.Network, segment int, wanted []netip.Addr) ([]spot, *shortage, error) {
	var out []spot
	for _, pool := range n.Pools {
		at, short, err := s.address(n, pool, segment, wanted)
		if short != nil || err != nil {
			return nil, short, err
		}
		out = append(out, at)
	}
	return out, nil, nil
}

// address chooses an address of pool in a segment, or confirms the wanted one.
func (s supply) address(n cluster.Network, pool cluster.Pool, segment int, wanted []netip.Addr) (spot, *shortage, error) {
	for _, a := range wanted {
		if pool.Prefix.Contains(a) {
			return s.exactly(n, pool, segment, a)
		}
	}
	for _, subnet := range s.open(n, segment, s.subnets(n, pool)) {
		taken := func(a netip.Addr) bool {
			return s.taken.addrs[netAddr{n.Name, a}] != "" || s.engaged(n, pool, a) != ""
		}
		if a, err := ipam.Address(subnet, s.taken.last[subnet], taken); err == nil {
			return spot{addr: netip.PrefixFrom(a, subnet.Bits())}, nil, nil
		}
	}
	return spot{}, &shortage{network: n, pool: pool}, nil
}

// open returns the subnets from which a segment may take addresses: its own, then
// those that nobody is in.
func (s supply) open(n cluster.Network, segment int, subnets []netip.Prefix) []netip.Prefix {
	rank := func(subnet netip.Prefix) int {
		switch at, used := s.taken.subnets[netSubnet{n.Name, subnet}].first(); {
		case !used:
			return 1
		case at == segment:
			return 0
		}
		return -1
	}
	out := slices.DeleteFunc(slices.Clone(subnets), func(p netip.Prefix) bool { return rank(p) < 0 })
	slices.SortStableFunc(out, func(a, b netip.Prefix) int { return cmp.Compare(rank(a), rank(b)) })
	return out
}

// checkSegment tells why a stored segment cannot be.
func checkSegment(i cluster.Interface) error {
	if i.Segment < 0 || i.Segment >= cluster.MaxSegments {
		return fmt.Errorf("interface %s: segment %d, want 0 to %d", i.Name, i.Segment, cluster.MaxSegments-1)
	}
	return nil
}
