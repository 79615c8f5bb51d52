package attach

import (
	"google.golang.org/grpc/codes"

	"github.com/ovlnet/ovl/internal/cluster"
	"github.com/ovlnet/ovl/internal/dataplane"
	"github.com/ovlnet/ovl/internal/plan"
)

// drivers refuses networks that cannot be what is wanted of them: those of a kind that
// this version cannot plan, and those that are otherwise than the caller takes for
// granted.
func drivers(r Request, networks map[string]cluster.Network) error {
	for _, w := range r.Interfaces {
		n := networks[w.Network]
		switch {
		case !plan.Knows(n.Driver):
			return refuse(codes.FailedPrecondition, "%s: this agent does not know the driver %q of network %s: upgrade ovl-agent", r.verb(), n.Driver, n.Name)
		case n.Driver == cluster.DriverMacvlan && r.stage != cluster.Placed:
			return refuse(codes.FailedPrecondition, "%s: network %s is of the driver macvlan, which container engines cannot join through ovl: use the engine's own macvlan driver with an --ip-range of its own", r.verb(), n.Name)
		case w.Bandwidth.Ingress != (cluster.Rate{}) && n.Driver == cluster.DriverMacvlan:
			return refuse(codes.FailedPrecondition, "%s: network %s is on a segment itself: what a container receives there cannot be limited, only what it sends", r.verb(), n.Name)
		case w.Masquerade != nil && *w.Masquerade != n.Masquerade && n.Masquerade:
			return refuse(codes.FailedPrecondition, "%s: network %s is masqueraded, and is not to be: `ovlctl network update %[2]s --no-masquerade`, or do not ask", r.verb(), n.Name)
		case w.Masquerade != nil && *w.Masquerade != n.Masquerade:
			return refuse(codes.FailedPrecondition, "%s: network %s is not masqueraded, and is to be: `ovlctl network update %[2]s --masquerade`, or do not ask", r.verb(), n.Name)
		}
	}
	return nil
}

// carries returns an error if the interfaces of an attachment do not carry packets of the
// size that was taken for granted: it depends on the underlay, so that only the plan
// knows it.
func carries(r Request, att cluster.Attachment, s dataplane.State) error {
	for n, w := range r.Interfaces {
		i := att.Interfaces[n]
		link := s.Links[dataplane.LinkKey{NS: dataplane.NSOf(att), Name: i.Name}]
		if w.MTU != 0 && link.MTU != w.MTU {
			return refuse(codes.FailedPrecondition, "%s: network %s has an MTU of %d here, not %d: `ovlctl network update %[2]s --mtu`, or do not ask", r.verb(), i.Network, link.MTU, w.MTU)
		}
	}
	return nil
}
