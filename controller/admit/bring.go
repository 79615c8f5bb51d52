package admit

import (
	"github.com/ovlnet/ovl/internal/cluster"
	ovlv1 "github.com/ovlnet/ovl/proto/ovl/v1"
)

// Brought returns n as a network that a host's container engine brings in.
func Brought(n cluster.Network, host cluster.HostID) cluster.Network {
	n.Labels = map[string]string{cluster.LabelDockerHost: string(host)}
	return n
}

// Bringing returns what is wrong with a request of a host: it says of a network what
// `docker network create` can, and leaves the rest to the controller.
func Bringing(req *ovlv1.CreateNetworkRequest) []Violation {
	var vs list
	const why = "cannot be chosen by a host: leave it out, or use ovlctl network create"
	for _, given := range []struct {
		field string
		is    bool
	}{
		{"driver", req.GetDriver() != ovlv1.Driver_DRIVER_UNSPECIFIED && req.GetDriver() != ovlv1.Driver_overlay},
		{"vni", req.GetVni() != 0},
		{"masquerade", req.Masquerade != nil},
		{"direct_routing", req.GetDirectRouting()},
		{"mtu", req.GetMtu() != 0},
		{"nat66", req.GetNat66()},
		{"static_ranges", len(req.GetStaticRanges()) > 0},
		{"dns_domain", req.GetDnsDomain() != ""},
		{"parent", req.GetParent() != ""},
		{"gateways", len(req.GetGateways()) > 0},
		{"ip_ranges", len(req.GetIpRanges()) > 0},
		{"labels", len(req.GetLabels()) > 0},
	} {
		if given.is {
			vs.addf(given.field, why)
		}
	}
	return vs
}
