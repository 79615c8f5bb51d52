package admit

import (
	"github.com/ovlnet/ovl/internal/cluster"
	ovlv1 "github.com/ovlnet/ovl/proto/ovl/v1"
)

// driver returns the driver that is asked for, and refuses what belongs to
// another one: an option that is ignored is worse than none.
func driver(vs *list, req *ovlv1.CreateNetworkRequest) cluster.Driver {
	d := cluster.DriverOverlay
	switch asked := req.GetDriver(); asked {
	case ovlv1.Driver_DRIVER_UNSPECIFIED, ovlv1.Driver_overlay:
	case ovlv1.Driver_bridge:
		d = cluster.DriverBridge
	case ovlv1.Driver_macvlan:
		d = cluster.DriverMacvlan
	default:
		vs.addf("driver", "%d is unknown: use overlay, bridge or macvlan", int32(asked))
	}
	if req.GetDirectRouting() && d != cluster.DriverOverlay {
		vs.addf("direct_routing", "is about the way between hosts, and networks of driver %s have none of their own: leave it out", d)
	}
	if d != cluster.DriverMacvlan {
		notMacvlan(vs, d, req)
	}
	return d
}

func notMacvlan(vs *list, d cluster.Driver, req *ovlv1.CreateNetworkRequest) {
	for _, o := range []struct {
		field string
		given bool
	}{{"parent", req.GetParent() != ""}, {"gateways", len(req.GetGateways()) > 0}, {"ip_ranges", len(req.GetIpRanges()) > 0}} {
		if o.given {
			vs.addf(o.field, "belongs to the driver macvlan, and this network has the driver %s: leave it out, or use macvlan", d)
		}
	}
}
