package admit

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/ovlnet/ovl/internal/cluster"
	"github.com/ovlnet/ovl/internal/ipam"
	ovlv1 "github.com/ovlnet/ovl/proto/ovl/v1"
)

// segment takes from a request what a macvlan network says of its physical
// segment: where it is, its subnets, its gateways, and which part of them is for
// containers.
func segment(vs *list, n *cluster.Network, req *ovlv1.CreateNetworkRequest) {
	n.Masquerade = false // nothing goes through the host
	n.Parent = parent(vs, req.GetParent())
	if len(req.GetSubnets()) == 0 {
		vs.addf("subnets", "are missing: with the driver macvlan give the subnet of the segment that %s is on, such as 192.168.1.0/24", orWord(n.Parent, "the parent"))
		return
	}
	ranges := prefixes(vs, "ip_ranges", req.GetIpRanges())
	n.Pools = pools(vs, req.GetSubnets(), req.GetHostPrefixes(), func(vs *list, i int, p netip.Prefix, lengths []uint32) int {
		return pieceLength(vs, i, rangeOf(p, ranges), lengths)
	})
	putRanges(vs, n.Pools, ranges)
	putGateways(vs, n, req.GetGateways())
}

func orWord(s, word string) string {
	if s == "" {
		return word
	}
	return s
}

// parent checks the name of an interface (dev_valid_name in net/core/dev.c, and
// nothing that a shell or a path could misread).
func parent(vs *list, s string) string {
	const most = 15 // IFNAMSIZ less the zero
	odd := func(c rune) bool {
		return (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && !strings.ContainsRune("._-", c)
	}
	switch {
	case s == "":
		vs.addf("parent", "is missing: with the driver macvlan give the interface of the segment, such as eth1, or eth1.100 for its VLAN 100")
	case len(s) > most || s == "." || s == ".." || s == "lo" || strings.ContainsFunc(s, odd):
		vs.addf("parent", "%s is not the name of an interface: use 1 to %d of a-z, A-Z, 0-9, '.', '_' and '-'", quote(s), most)
	}
	return s
}

// prefixes parses the prefixes of a field; one that cannot be is the zero Prefix.
func prefixes(vs *list, field string, texts []string) []netip.Prefix {
	if len(texts) > 2 {
		vs.addf(field, "%d are too many: give at most one in each subnet", len(texts))
		return nil
	}
	out := make([]netip.Prefix, len(texts))
	for i, s := range texts {
		if p, ok := parsePrefix(vs, fmt.Sprintf("%s[%d]", field, i), s); ok {
			out[i] = p
		}
	}
	return out
}

// rangeOf returns the part of p that is for containers: the range within it, or
// else all.
func rangeOf(p netip.Prefix, ranges []netip.Prefix) netip.Prefix {
	for _, r := range ranges {
		if r.IsValid() && r.Bits() >= p.Bits() && p.Overlaps(r) {
			return r
		}
	}
	return p
}

func putRanges(vs *list, pools []cluster.Pool, ranges []netip.Prefix) {
	for i, r := range ranges {
		if !r.IsValid() {
			continue
		}
		field := fmt.Sprintf("ip_ranges[%d]", i)
		at := slices.IndexFunc(pools, func(p cluster.Pool) bool { return r.Bits() >= p.Prefix.Bits() && p.Prefix.Overlaps(r) })
		switch {
		case len(pools) == 0: // told of the subnets already
		case at < 0:
			vs.addf(field, "%s is not within %s: use a part of a subnet of the network", r, prefixTexts(pools))
		case pools[at].Range.IsValid():
			vs.addf(field, "%s is the second in %s: give at most one in each subnet", r, pools[at].Prefix)
		case r != pools[at].Prefix: // all of it is no part
			pools[at].Range = r
		}
	}
}

// putGateways gives each pool its gateway: the one of the request, or else the
// first address, which is the custom.
func putGateways(vs *list, n *cluster.Network, texts []string) {
	if len(texts) > 0 && n.Internal {
		vs.addf("gateways", "lead out, and an internal network has no way out: choose one of the two")
	}
	if len(texts) > 2 {
		vs.addf("gateways", "%d are too many: give at most one in each subnet", len(texts))
		return
	}
	for i, s := range texts {
		field := fmt.Sprintf("gateways[%d]", i)
		a, err := netip.ParseAddr(s)
		if err != nil || a.Zone() != "" || a.Is4In6() {
			vs.addf(field, "%s is not an address: write it like 192.168.1.1 or fd64::1", quote(s))
			continue
		}
		at := slices.IndexFunc(n.Pools, func(p cluster.Pool) bool { return p.Prefix.Contains(a) })
		switch {
		case len(n.Pools) == 0:
		case at < 0:
			vs.addf(field, "%s is not in %s: give an address of the segment", a, prefixTexts(n.Pools))
		case n.Pools[at].Gateway.IsValid():
			vs.addf(field, "%s is the second in %s: give at most one in each subnet", a, n.Pools[at].Prefix)
		default:
			if err := ipam.CheckStatic(n.Pools[at], n.Pools[at].Prefix, a); err != nil {
				vs.addf(field, "%v: give the address of the router", err)
			}
			n.Pools[at].Gateway = a
		}
	}
	for i := range n.Pools {
		p := &n.Pools[i]
		if !p.Gateway.IsValid() {
			p.Gateway = ipam.Gateway(p.Prefix)
		}
		if leased := p.Leased().Prefix; p.HostPrefix == leased.Bits() && leased.Contains(p.Gateway) {
			vs.addf(fmt.Sprintf("host_prefixes[%d]", i), "%d makes one piece of %s, and no host takes one with the gateway %s in it: use a longer prefix, or an IP range beside the gateway", p.HostPrefix, leased, p.Gateway)
		}
	}
}

// DefaultPieceLength returns the length of a host's piece of the range of a
// macvlan network for which none is asked: in IPv4 sixteen pieces of a /24 and
// more of a larger one, in IPv6 65,536.
func DefaultPieceLength(r netip.Prefix) int {
	if r.Addr().Is4() {
		return min(max(min(max(r.Bits()+4, 24), 28), r.Bits()+1), 29)
	}
	return min(r.Bits()+16, 125)
}

// pieceLength returns the length of a host's piece of r: unlike that of a private
// network, a range may be one host's alone.
func pieceLength(vs *list, i int, r netip.Prefix, lengths []uint32) int {
	most := limitsOf(r).longestHost
	if r.Bits() > most {
		vs.addf(fmt.Sprintf("ip_ranges[%d]", i), "%s has no room for containers: use /%d or larger", r, most)
		return most
	}
	if i >= len(lengths) || lengths[i] == 0 {
		return DefaultPieceLength(r)
	}
	if n := int64(lengths[i]); n < int64(r.Bits()) || n > int64(most) {
		vs.addf(fmt.Sprintf("host_prefixes[%d]", i), "%d is no piece of %s with room for containers: use %d to %d", n, r, r.Bits(), most)
	}
	return int(lengths[i])
}
