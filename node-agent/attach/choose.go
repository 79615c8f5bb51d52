package attach

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/ovlnet/ovl/internal/cluster"
	"github.com/ovlnet/ovl/internal/ipam"
	"github.com/ovlnet/ovl/node-agent/lease"
)

// supply is what addresses are chosen from.
type supply struct {
	networks map[string]cluster.Network
	held     []lease.Held
	taken    *index
}

// shortage is what stands in the way of a choice: this host holds no subnet of
// the pool with an address left.
type shortage struct {
	network cluster.Network
	pool    cluster.Pool
}

// choose returns the attachment for r, with an address of every family that its
// networks have, or the first shortage. It is pure: it claims nothing.
func choose(r Request, s supply, now time.Time) (cluster.Attachment, *shortage, error) {
	a := cluster.Attachment{ID: r.ID, Name: r.Name, NetNS: r.NetNS, Hostname: r.Hostname, Ports: r.Ports, Labels: r.Labels, Created: now}
	if what := s.taken.conflict(r); what != "" {
		return a, nil, refuse(codes.AlreadyExists, "%s: %s", r.verb(), what)
	}
	for n, w := range r.Interfaces {
		network := s.networks[w.Network]
		if bad := outside(network, w.Addrs, n); len(bad) > 0 {
			return a, nil, bad.err(r.verb())
		}
		i := cluster.Interface{Network: network.Name, NetworkCreated: network.CreateRevision, Name: w.Name, MAC: w.MAC, Aliases: w.Aliases}
		addrs, segment, short, err := s.place(network, w.Addrs)
		if short != nil || err != nil {
			return a, short, wrap(r.verb(), err)
		}
		i.Addrs, i.Segment = addrs, segment
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
		case h.Network != n.Name || h.NetworkCreated != 0 && h.NetworkCreated != n.CreateRevision || !ok || p != pool:
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

// static returns the wanted address with the length of the subnet that it is in.
func static(n cluster.Network, subnets []netip.Prefix, a netip.Addr) (netip.Prefix, error) {
	var texts []string
	for _, subnet := range subnets {
		if !subnet.Contains(a) {
			texts = append(texts, subnet.String())
			continue
		}
		if err := ipam.CheckAddress(subnet, a); err != nil {
			return netip.Prefix{}, refuse(codes.InvalidArgument, "%v: ask for another, or for none", err)
		}
		return netip.PrefixFrom(a, subnet.Bits()), nil
	}
	return netip.Prefix{}, refuse(codes.FailedPrecondition,
		"address %s of network %s is in no subnet that this host holds (%s): ask for one of those, or for none", a, n.Name, strings.Join(texts, ", "))
}
