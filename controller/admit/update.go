package admit

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/ovlnet/ovl/internal/cluster"
	ovlv1 "github.com/ovlnet/ovl/proto/ovl/v1"
)

// Update returns n as a request wants it, and everything wrong with the
// request. What a request cannot express (name, VNI, subnets, driver) never
// changes.
func Update(n cluster.Network, req *ovlv1.UpdateNetworkRequest) (cluster.Network, []Violation) {
	var vs list
	if req.GetRevision() < 0 {
		vs.addf("revision", "%d is negative: give the revision of the network that was read, or 0", req.GetRevision())
	}
	if req.Internal != nil {
		n.Internal = req.GetInternal()
	}
	if req.Masquerade != nil && n.Driver == cluster.DriverMacvlan {
		vs.addf("masquerade", "belongs to networks that leave by the host: containers of a macvlan network are on the segment themselves")
	} else if req.Masquerade != nil {
		n.Masquerade = req.GetMasquerade()
	}
	if req.Nat66 != nil {
		n.NAT66 = req.GetNat66()
	}
	if req.Nat66 != nil || req.Internal != nil {
		nat66(&vs, n)
	}
	if req.Services != nil {
		n.Services = req.GetServices()
	}
	if req.Services != nil || req.Internal != nil {
		services(&vs, n)
	}
	if req.Mtu != nil {
		n.MTU = int(req.GetMtu())
		mtu(&vs, n.MTU, n.Pools)
	}
	if req.DnsDomain != nil {
		n.DNSDomain = req.GetDnsDomain()
		domain(&vs, "dns_domain", n.DNSDomain)
	}
	if req.GetSetLabels() {
		n.Labels = req.GetLabels()
		labels(&vs, "labels", n.Labels)
	} else if len(req.GetLabels()) > 0 {
		vs.addf("labels", "are given without set_labels: set it to replace all labels by these")
	}
	return n, vs
}

// Differences returns in words how the network that exists differs from the one
// that is asked for. What the request left to the controller (VNI 0, no pools)
// is the same as whatever it got; then hostPrefixes, if any, are compared.
func Differences(have, want cluster.Network, hostPrefixes []uint32) []string {
	var out []string
	differ := func(what string, have, want any) {
		if h, w := fmt.Sprint(have), fmt.Sprint(want); h != w {
			out = append(out, fmt.Sprintf("%s is %s, not %s", what, orNone(h), orNone(w)))
		}
	}
	if want.VNI != 0 {
		differ("VNI", have.VNI, want.VNI)
	}
	differ("driver", have.Driver, want.Driver)
	differ("parent", have.Parent, want.Parent)
	if len(want.Pools) > 0 {
		differ("subnet", poolTexts(have.Pools), poolTexts(want.Pools))
	} else if len(hostPrefixes) > 0 && hostPrefixes[0] != 0 && len(have.Pools) > 0 {
		differ("host prefix", have.Pools[0].HostPrefix, hostPrefixes[0])
	}
	differ("static range", rangeTexts(have), rangeTexts(want))
	differ("internal", have.Internal, want.Internal)
	differ("masquerade", have.Masquerade, want.Masquerade)
	differ("NAT66", have.NAT66, want.NAT66)
	differ("direct routing", have.DirectRouting, want.DirectRouting)
	differ("services", have.Services, want.Services)
	differ("MTU", have.MTU, want.MTU)
	differ("DNS domain", have.DNSDomain, want.DNSDomain)
	if !maps.Equal(have.Labels, want.Labels) {
		out = append(out, "labels differ")
	}
	return out
}

func rangeTexts(n cluster.Network) string {
	var texts []string
	for _, r := range n.StaticRanges {
		texts = append(texts, r.String())
	}
	slices.Sort(texts)
	return strings.Join(texts, " and ")
}

// poolTexts is sorted: the order of subnets in a request means nothing.
func poolTexts(pools []cluster.Pool) string {
	var texts []string
	for _, p := range pools {
		text := fmt.Sprintf("%s with host prefix %d", p.Prefix, p.HostPrefix)
		if p.Range.IsValid() {
			text += fmt.Sprintf(", IP range %s", p.Range)
		}
		if p.Gateway.IsValid() {
			text += fmt.Sprintf(", gateway %s", p.Gateway)
		}
		texts = append(texts, text)
	}
	slices.Sort(texts)
	return strings.Join(texts, " and ")
}

func orNone(s string) string {
	if s == "" {
		return "none"
	}
	return s
}
