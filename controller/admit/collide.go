package admit

import (
	"fmt"
	"net/netip"

	"github.com/ovlnet/ovl/internal/cluster"
	"github.com/ovlnet/ovl/internal/ipam"
)

// Facts are what the cluster holds already.
type Facts struct {
	Networks []cluster.Network
	Hosts    []cluster.Host
	// VNIs holds what is reserved, and for which network.
	VNIs map[cluster.VNI]string
}

// Collisions returns everything in the cluster that n, not yet in it, collides
// with: another network's VNI or subnets, a host's own routes or underlay.
func Collisions(n cluster.Network, f Facts) []Violation {
	var vs list
	if holder, taken := f.VNIs[n.VNI]; taken && n.VNI != 0 && holder != n.Name {
		vs.addf("vni", "%d is in use by network %s: choose another, or leave it out for the next free one", n.VNI, holder)
	}
	for _, other := range f.Networks {
		if n.Driver == cluster.DriverMacvlan && other.Parent == n.Parent && other.Name != n.Name {
			vs.addf("parent", "%s is that of network %s: use that network, or another interface or VLAN", n.Parent, other.Name)
		}
	}
	for i, p := range n.Pools {
		if with := overlap(p.Prefix, n, f); with != "" {
			vs.addf(fmt.Sprintf("subnets[%d]", i), "%s overlaps %s: choose another subnet, or leave it out for a free one", p.Prefix, with)
		}
	}
	return vs
}

// overlap returns the first thing that a pool of own overlaps, in words, or "".
// That the hosts are on the segment of a macvlan network themselves is its nature.
func overlap(p netip.Prefix, own cluster.Network, f Facts) string {
	macvlan := own.Driver == cluster.DriverMacvlan
	for _, n := range f.Networks {
		for _, pool := range n.Pools {
			if n.Name != own.Name && pool.Prefix.Overlaps(p) {
				return fmt.Sprintf("%s of network %s", pool.Prefix, n.Name)
			}
		}
	}
	for _, h := range f.Hosts {
		for _, a := range h.Underlay {
			if !macvlan && p.Contains(a) {
				return fmt.Sprintf("the underlay address %s of host %s", a, h.Name)
			}
		}
		for _, r := range h.Routes {
			if counts(r) && r.Overlaps(p) && !(macvlan && (r == p || r.IsSingleIP())) {
				return fmt.Sprintf("the route %s of host %s", r, h.Name)
			}
		}
	}
	return ""
}

// counts reports whether a host's route keeps networks away: a default route,
// whole or in halves as VPNs write it, leads to everywhere and is no reason.
func counts(r netip.Prefix) bool { return r.Bits() > 1 }

// Defaults is what a controller chooses from.
type Defaults struct {
	FirstVNI cluster.VNI  // VNIs are given out from here upwards
	Pool     netip.Prefix // networks without subnets get theirs from here
	Length   int          // of each of those
}

// Choose fills in what n leaves to the controller: the first free VNI, and the
// first free default subnet, divided into pieces of length hostPrefix. A
// violation names the field for which nothing is left.
func Choose(n cluster.Network, hostPrefix int, d Defaults, f Facts) (cluster.Network, []Violation) {
	var vs list
	if n.VNI == 0 {
		vni, err := ipam.VNI(d.FirstVNI, func(v cluster.VNI) bool { _, taken := f.VNIs[v]; return taken })
		if err != nil {
			vs.addf("vni", "none is free: delete a network")
		}
		n.VNI = vni
	}
	if len(n.Pools) == 0 {
		p, err := ipam.Pool(d.Pool, d.Length, taken(f))
		if err != nil {
			vs.addf("subnets", "no /%d of the default pool %s is free of networks and of hosts' routes: give a subnet, or the controller another default pool", d.Length, d.Pool)
			return n, vs
		}
		n.Pools = []cluster.Pool{{Prefix: p, HostPrefix: hostPrefix}}
	}
	return n, vs
}

// taken returns every prefix that a new network must keep clear of.
func taken(f Facts) []netip.Prefix {
	var ps []netip.Prefix
	for _, n := range f.Networks {
		for _, p := range n.Pools {
			ps = append(ps, p.Prefix)
		}
	}
	for _, h := range f.Hosts {
		for _, a := range h.Underlay {
			ps = append(ps, netip.PrefixFrom(a, a.BitLen()))
		}
		for _, r := range h.Routes {
			if counts(r) {
				ps = append(ps, r)
			}
		}
	}
	return ps
}
