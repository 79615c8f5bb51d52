package admit

import (
	"slices"

	"github.com/ovlnet/ovl/internal/cluster"
	ovlv1 "github.com/ovlnet/ovl/proto/ovl/v1"
)

// Create returns the network that a request asks for, and everything wrong with
// the request on its own. VNI 0 and no pools mean that the controller has to
// choose; see [Collisions] for what only the cluster can tell. The network is
// usable only if there are no violations.
func Create(req *ovlv1.CreateNetworkRequest) (cluster.Network, []Violation) {
	var vs list
	name(&vs, "name", req.GetName())
	n := cluster.Network{
		Name:          req.GetName(),
		VNI:           cluster.VNI(req.GetVni()),
		Driver:        driver(&vs, req),
		Internal:      req.GetInternal(),
		Masquerade:    req.Masquerade == nil || req.GetMasquerade(),
		NAT66:         req.GetNat66(),
		DirectRouting: req.GetDirectRouting(),
		Services:      req.GetServices(),
		MTU:           int(req.GetMtu()),
		DNSDomain:     req.GetDnsDomain(),
		Labels:        req.GetLabels(),
	}
	if n.Driver == cluster.DriverMacvlan {
		segment(&vs, &n, req)
	} else {
		n.Pools = pools(&vs, req.GetSubnets(), req.GetHostPrefixes(), hostPrefix)
	}
	if n.VNI != 0 && !n.VNI.Valid() {
		vs.addf("vni", "%d is out of range: use %d to %d, or 0 for the next free one", n.VNI, cluster.MinVNI, cluster.MaxVNI)
	}
	n.StaticRanges = staticRanges(&vs, req.GetStaticRanges(), n.Driver, n.Pools)
	mtu(&vs, n.MTU, n.Pools)
	nat66(&vs, n)
	services(&vs, n)
	domain(&vs, "dns_domain", n.DNSDomain)
	labels(&vs, "labels", n.Labels)
	return n, vs
}

// Name returns what is wrong with a name of a network, host or endpoint in that
// field.
func Name(field, value string) []Violation {
	var vs list
	name(&vs, field, value)
	return vs
}

func name(vs *list, field, value string) {
	switch {
	case value == "":
		vs.addf(field, "is empty: give a name, such as blue")
	case cluster.CheckName(value) != nil:
		vs.addf(field, "%s is not a name: %v", quote(value), cluster.ErrName)
	}
}

// The bounds of an MTU in bytes: what every host must accept in IPv4 (RFC 791
// section 3.1) and every link must carry in IPv6 (RFC 8200 section 5), and the
// longest packet.
const (
	minMTU4 = 576
	minMTU6 = 1280
	maxMTU  = 65535
)

func mtu(vs *list, value int, pools []cluster.Pool) {
	if value == 0 {
		return
	}
	least, why := minMTU4, ""
	for _, p := range pools {
		if p.Prefix.Addr().Is6() {
			least, why = minMTU6, " with an IPv6 subnet"
		}
	}
	if value < least || value > maxMTU {
		vs.addf("mtu", "%d is out of range: use %d to %d bytes%s, or 0 for what the underlay allows", value, least, maxMTU, why)
	}
}

// nat66 refuses a translation that would never happen.
func nat66(vs *list, n cluster.Network) {
	switch {
	case !n.NAT66:
	case n.Driver == cluster.DriverMacvlan:
		vs.addf("nat66", "belongs to networks that leave by the host: containers of a macvlan network are on the segment themselves")
	case n.Internal:
		vs.addf("nat66", "an internal network has no way out to translate on: choose one of the two")
	case !slices.ContainsFunc(n.Pools, func(p cluster.Pool) bool { return p.Prefix.Addr().Is6() }):
		vs.addf("nat66", "the network has no IPv6 subnet: give one, such as --subnet fd64::/48, or leave nat66 out")
	}
}

// services refuses what a host cannot lead connections into, or cannot bring the
// answers of back.
func services(vs *list, n cluster.Network) {
	switch {
	case !n.Services:
	case n.Driver == cluster.DriverMacvlan:
		vs.addf("services", "belongs to networks that are reached by the host: containers of a macvlan network are on the segment themselves")
	case n.Internal:
		vs.addf("services", "an internal network has no way in to lead connections by: choose one of the two")
	case n.DirectRouting:
		vs.addf("services", "an answer that is routed directly does not come back to the host that translates it: choose one of services and direct_routing")
	}
}

// Check returns what is wrong with a controller's own settings.
func (d Defaults) Check() []Violation {
	var vs list
	if !d.FirstVNI.Valid() {
		vs.addf("first-vni", "%d is out of range: use %d to %d", d.FirstVNI, cluster.MinVNI, cluster.MaxVNI)
	}
	if !wellFormed(&vs, "default-pool", d.Pool) {
		return vs
	}
	limits := limitsOf(d.Pool)
	if reserved := reservedOverlap(d.Pool); reserved != "" {
		vs.addf("default-pool", "%s overlaps %s: use a private range, such as %s", d.Pool, reserved, limits.example)
	}
	if lo, hi := max(d.Pool.Bits(), limits.shortest), limits.defaultHost-1; d.Length < lo || d.Length > hi {
		vs.addf("default-pool-length", "%d is out of range: use %d to %d for networks in %s", d.Length, lo, hi, d.Pool)
	}
	return vs
}
