package plan

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"

	"github.com/ovlnet/ovl/internal/cluster"
	"github.com/ovlnet/ovl/internal/dataplane"
	"github.com/ovlnet/ovl/internal/ipam"
)

// Plan returns the rows that the kernel of the host l should hold, given the
// snapshot s. A network is on a host when the host holds a subnet of it.
func Plan(s *cluster.Snapshot, l Local) Result {
	p := &planner{snapshot: s, local: l, belongs: cluster.SegmentsOf(l.Attachments)}
	nets := p.networks()
	for _, n := range nets {
		for _, pool := range n.Pools {
			p.pools = append(p.pools, pool.Prefix)
		}
	}
	for _, n := range nets {
		drivers[n.Driver](p, n)
	}
	p.containers(nets)
	p.guards(nets)
	p.names()
	p.firewall(nets)
	p.shut(nets)
	p.sysctls(nets)
	return Result{State: p.state, Problems: p.problems}
}

// planner gathers what one call of Plan emits.
type planner struct {
	snapshot *cluster.Snapshot
	local    Local
	belongs  cluster.Segments          // the subnets of this host
	pools    []netip.Prefix            // of the networks here
	behind   map[dataplane.FDBKey]bool // MACs of which a bridge has an entry
	state    dataplane.State
	problems []cluster.Problem
}

// network is a network that this host is on, with what the features need of it.
type network struct {
	cluster.Network
	own      []netip.Prefix      // the subnets that this host holds, sorted
	static   map[netip.Addr]bool // the static addresses that this host holds
	segments []segment           // the parts into which its subnets fall, by number
	mtu      int                 // of the container's interfaces
	vxlan    string              // empty: nothing leads to other hosts
	parent   parent              // of the driver macvlan
}

// gateway returns the host's own address in the network for the family of a.
func (n network) gateway(a netip.Addr) netip.Addr {
	for _, own := range n.own {
		if own.Addr().Is4() == a.Is4() {
			return ipam.Gateway(own)
		}
	}
	return netip.Addr{}
}

// subnetOf returns the subnet of this host that holds a.
func (n network) subnetOf(a netip.Addr) (netip.Prefix, bool) {
	for _, own := range n.own {
		if own.Contains(a) {
			return own, true
		}
	}
	return netip.Prefix{}, false
}

func (p *planner) add(rows ...dataplane.Row) { p.state.Add(rows...) }

func (p *planner) fault(severity cluster.Severity, subject, what, hint string) {
	p.problems = append(p.problems, cluster.Problem{Severity: severity, Subject: subject, What: what, Hint: hint})
}

// networks returns the networks that this host is on, sorted by name. What is
// held of a network that is gone, or of another one of its name, is a problem.
func (p *planner) networks() []network {
	if len(p.local.Held) == 0 {
		return nil
	}
	if len(p.local.Underlay.Addrs) == 0 || p.local.Underlay.MTU <= 0 {
		p.fault(cluster.SeverityError, "underlay", "the underlay interface "+p.local.Underlay.Link+" has no usable address",
			"bring it up, or name another with --underlay-interface or --underlay-address")
		return nil
	}
	held := slices.Clone(p.local.Held)
	slices.SortFunc(held, func(a, b cluster.Lease) int {
		return cmp.Or(cmp.Compare(a.Network, b.Network), cluster.ComparePrefix(a.Prefix, b.Prefix))
	})
	var nets []network
	for i, lease := range held {
		if last := len(nets) - 1; last >= 0 && nets[last].Name == lease.Network {
			p.hold(&nets[last], lease.Prefix)
			continue
		}
		n, ok := p.snapshot.Network(lease.Network)
		switch {
		case lease.Prefix.IsSingleIP() && i > 0 && held[i-1].Network == lease.Network: // said once, not a thousand times
		case !ok:
			p.fault(cluster.SeverityWarning, "network "+lease.Network, fmt.Sprintf("this host holds %s of it, but it is not in the cluster", lease.Prefix),
				"it was deleted; its containers here have no network")
		case !Knows(n.Driver):
			p.fault(cluster.SeverityError, "network "+n.Name, fmt.Sprintf("this agent does not know its driver %q", n.Driver), "upgrade ovl-agent")
		default:
			nets = append(nets, p.network(n))
			p.hold(&nets[len(nets)-1], lease.Prefix)
		}
	}
	for i := range nets {
		nets[i].segments = p.cut(nets[i])
	}
	return slices.DeleteFunc(nets, func(n network) bool { return len(n.own) == 0 })
}

// hold adds what this host holds of a network to it: a subnet, or a static
// address.
func (p *planner) hold(n *network, own netip.Prefix) {
	pool, ok := n.Pool(own)
	what := ""
	switch {
	case !ok:
		what = "which is not in its subnets"
	case n.IsStatic(own):
		n.static[own.Addr()] = true
	case own.IsSingleIP():
		what = "which is in no static range"
	case n.StaticRange(pool).IsValid() && n.StaticRange(pool).Overlaps(own):
		what = "of which its static range has a part"
	default:
		n.own = append(n.own, own)
	}
	if what != "" {
		p.fault(cluster.SeverityError, "network "+n.Name, fmt.Sprintf("this host holds %s, %s", own, what),
			"the network was made anew with other subnets: start its containers here again")
	}
}

// network returns n with what follows from it alone.
func (p *planner) network(n cluster.Network) network {
	out := network{Network: n, static: map[netip.Addr]bool{}}
	if n.Driver == cluster.DriverMacvlan {
		if out.parent = p.parentOf(n); out.on() {
			out.mtu = p.parentMTU(n, out.parent.mtu)
		}
		return out
	}
	out.mtu = p.mtu(n)
	if n.Driver == cluster.DriverOverlay {
		out.vxlan = VXLANName(n.VNI)
	}
	return out
}

// sysctls emits the kernel parameters without which nothing is forwarded.
func (p *planner) sysctls(nets []network) {
	names := map[dataplane.Family]string{
		dataplane.IPv4: "net/ipv4/ip_forward",
		dataplane.IPv6: "net/ipv6/conf/all/forwarding",
	}
	for _, n := range nets {
		if n.Driver == cluster.DriverMacvlan {
			continue // nothing of it is forwarded
		}
		for _, own := range n.own {
			p.add(dataplane.Sysctl{SysctlKey: dataplane.SysctlKey{Name: names[dataplane.FamilyOf(own.Addr())]}, Value: "1"})
		}
	}
}
