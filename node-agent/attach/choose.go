package attach

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/ovlnet/ovl/internal/cluster"
	"github.com/ovlnet/ovl/internal/ipam"
	"github.com/ovlnet/ovl/internal/plan"
	"github.com/ovlnet/ovl/node-agent/lease"
)

// supply is what addresses are chosen from.
type supply struct {
	networks map[string]cluster.Network
	held     []lease.Held
	hosts    []cluster.Host // which may be on a network's own segment
	taken    *index
}

// shortage is what stands in the way of a choice: this host holds no subnet of
// the pool with an address left, or not the one with a wanted address.
type shortage struct {
	network cluster.Network
	pool    cluster.Pool
	exact   netip.Prefix // that is needed; the zero Prefix: any
	segment int          // that needs it
}

// same reports whether two shortages are of the same thing.
func (s shortage) same(o shortage) bool {
	return s.network.Name == o.network.Name && s.pool == o.pool && s.exact == o.exact
}

// String names what is short.
func (s shortage) String() string {
	switch {
	case !s.exact.IsValid() && s.segment > 0:
		return fmt.Sprintf("a subnet of network %s for bridge %s, beside those that have %d containers each", s.network.Name, plan.BridgeName(s.network.VNI, s.segment), cluster.SegmentPorts)
	case !s.exact.IsValid():
		return "a subnet of network " + s.network.Name
	case s.exact.IsSingleIP():
		return fmt.Sprintf("static address %s of network %s", s.exact.Addr(), s.network.Name)
	}
	return fmt.Sprintf("subnet %s of network %s", s.exact, s.network.Name)
}

// choose returns the attachment for r, with an address of every family that its
// networks have, or the first shortage. It is pure: it claims nothing.
func choose(r Request, s supply, now time.Time) (cluster.Attachment, *shortage, error) {
	a := cluster.Attachment{ID: r.ID, Name: r.Name, NetNS: r.NetNS, Pin: r.Pin, Hostname: r.Hostname, Ports: r.Ports, Labels: r.Labels, Created: now, Stage: r.stage}
	if what := s.taken.conflict(r); what != "" {
		return a, nil, refuse(codes.AlreadyExists, "%s: %s", r.verb(), what)
	}
	for n, w := range r.Interfaces {
		network := s.networks[w.Network]
		if bad := outside(network, w.Addrs, n); len(bad) > 0 {
			return a, nil, bad.err(r.verb())
		}
		i := cluster.Interface{Network: network.Name, NetworkCreated: network.CreateRevision, Name: w.Name, MAC: w.MAC, Aliases: w.Aliases, Bandwidth: w.Bandwidth}
		spots, segment, short, err := s.place(network, w.Addrs)
		if short != nil || err != nil {
			return a, short, wrap(r.verb(), err)
		}
		i.Segment = segment
		for _, at := range spots {
			i.Addrs = append(i.Addrs, at.addr)
			if at.via.IsValid() {
				i.Via = append(i.Via, at.via)
			}
		}
		if i.MAC.IsZero() && len(i.Addrs) > 0 {
			i.MAC = cluster.EndpointMAC(network.VNI, i.Addrs[0].Addr())
		}
		a.Interfaces = append(a.Interfaces, i)
	}
	return a, nil, nil
}

func wrap(verb string, err error) error {
	if err == nil {
		return nil
	}
	return because(verb, err, codes.Internal)
}

// outside returns the wanted addresses that are in none of the network's pools.
func outside(n cluster.Network, addrs []netip.Addr, at int) violations {
	var bad violations
	for i, a := range addrs {
		if _, ok := n.Pool(netip.PrefixFrom(a, a.BitLen())); !ok {
			bad.add(fmt.Sprintf("interfaces[%d].addresses[%d]", at, i), "%s is not in network %s (%s)", a, n.Name, pools(n))
		}
	}
	return bad
}

func pools(n cluster.Network) string {
	var texts []string
	for _, p := range n.Pools {
		texts = append(texts, p.Prefix.String())
	}
	return strings.Join(texts, ", ")
}

// subnets returns the subnets of pool that this host may use: those that the
// store has confirmed, then those that are on disk from before and are being
// confirmed, so that containers start while the store is away. (Whether that is
// safe is Subnets.MayAttach's to say.) Lost ones are another host's.
func (s supply) subnets(n cluster.Network, pool cluster.Pool) []netip.Prefix {
	var sure, pending []netip.Prefix
	for _, h := range s.held {
		p, ok := n.Pool(h.Prefix)
		switch {
		case h.Prefix.IsSingleIP() || h.Network != n.Name || h.NetworkCreated != 0 && h.NetworkCreated != n.CreateRevision || !ok || p != pool:
		case h.State == lease.Lost || s.taken.retired[h.Prefix]:
		case h.State == lease.Pending:
			pending = append(pending, h.Prefix)
		default:
			sure = append(sure, h.Prefix)
		}
	}
	slices.SortFunc(sure, cluster.ComparePrefix)
	slices.SortFunc(pending, cluster.ComparePrefix)
	return append(sure, pending...)
}

// spot is where an interface is in one family.
type spot struct {
	addr netip.Prefix // with the length of its subnet
	via  netip.Prefix // of a static address: the subnet by whose gateway it gets on
}

// exactly returns the spot of a wanted address of pool: in a subnet of this host,
// or in one that it can take whole, or anywhere in the static range.
func (s supply) exactly(n cluster.Network, pool cluster.Pool, segment int, a netip.Addr) (spot, *shortage, error) {
	if why := s.engaged(n, pool, a); why != "" {
		return spot{}, nil, refuse(codes.InvalidArgument, "address %s of network %s is %s: ask for another, or for none", a, n.Name, why)
	}
	subnets := s.subnets(n, pool)
	if alone := netip.PrefixFrom(a, a.BitLen()); n.IsStatic(alone) {
		return s.static(n, pool, s.open(n, segment, subnets), alone)
	}
	for _, subnet := range subnets {
		if subnet.Contains(a) {
			return spot{addr: netip.PrefixFrom(a, subnet.Bits())}, nil, fits(subnet, a)
		}
	}
	if ours := pool.Leased().Prefix; !ours.Contains(a) {
		return spot{}, nil, refuse(codes.FailedPrecondition, "address %s of network %s is not in %s, the part of it that hosts take: ask for one of that, or for none", a, n.Name, ours)
	}
	around := netip.PrefixFrom(a, pool.HostPrefix).Masked()
	if static := n.StaticRange(pool); static.IsValid() && static.Overlaps(around) {
		return spot{}, nil, refuse(codes.FailedPrecondition, "address %s of network %s is in no host's subnet, since the static range %s has a part of %s: ask for one in the static range, or for none", a, n.Name, static, around)
	}
	return spot{}, &shortage{network: n, pool: pool, exact: around}, fits(around, a)
}

// static returns the spot of a static address: it gets on by the gateway of any
// of those subnets.
func (s supply) static(n cluster.Network, pool cluster.Pool, subnets []netip.Prefix, alone netip.Prefix) (spot, *shortage, error) {
	if err := ipam.CheckStatic(pool, n.StaticRange(pool), alone.Addr()); err != nil {
		return spot{}, nil, refuse(codes.InvalidArgument, "%v: ask for another, or for none", err)
	}
	switch {
	case !s.holds(n, alone):
		return spot{}, &shortage{network: n, pool: pool, exact: alone}, nil
	case len(subnets) == 0:
		return spot{}, &shortage{network: n, pool: pool}, nil
	}
	return spot{addr: alone, via: subnets[0]}, nil, nil
}

// holds reports whether this host has a static address that it may use.
func (s supply) holds(n cluster.Network, alone netip.Prefix) bool {
	i, ok := slices.BinarySearchFunc(s.held, cluster.Lease{Network: n.Name, Prefix: alone}, func(h lease.Held, l cluster.Lease) int {
		return cmp.Or(cmp.Compare(h.Network, l.Network), cluster.ComparePrefix(h.Prefix, l.Prefix))
	})
	return ok && s.held[i].State != lease.Lost && !s.taken.retired[alone] &&
		(s.held[i].NetworkCreated == 0 || s.held[i].NetworkCreated == n.CreateRevision)
}

// fits returns why a cannot be an address in the subnet, or nil.
func fits(subnet netip.Prefix, a netip.Addr) error {
	if err := ipam.CheckAddress(subnet, a); err != nil {
		return refuse(codes.InvalidArgument, "%v: ask for another, or for none", err)
	}
	return nil
}
