package admit

import (
	"fmt"
	"net/netip"

	"github.com/ovlnet/ovl/internal/cluster"
)

// limits are the sizes that a network's subnet may have, by family.
type limits struct {
	family      string
	shortest    int // prefix length of the largest network
	longest     int // of the smallest network
	longestHost int // of the smallest host subnet
	defaultHost int // of a host subnet when none is asked for
	example     string
}

func limitsOf(p netip.Prefix) limits {
	if p.Addr().Is4() {
		// A /29 has five container addresses after network, gateway and broadcast.
		return limits{"IPv4", 8, 28, 29, DefaultHostPrefix(p), "10.64.0.0/16"}
	}
	return limits{"IPv6", 16, 124, 125, DefaultHostPrefix(p), "fd64::/48"}
}

// DefaultHostPrefix returns the length of a host's subnet in a network of p's
// family for which none is asked.
func DefaultHostPrefix(p netip.Prefix) int {
	if p.Addr().Is4() {
		return 24
	}
	return 64
}

// HostPrefix returns the length of a host's subnet in the default subnet that a
// request without subnets gets, and what is wrong with the lengths it asks for.
func HostPrefix(d Defaults, lengths []uint32) (int, []Violation) {
	var vs list
	if len(lengths) > 1 {
		vs.addf("host_prefixes", "%d lengths for the one default subnet: give one, or the subnets too", len(lengths))
		return 0, vs
	}
	return hostPrefix(&vs, 0, netip.PrefixFrom(d.Pool.Addr(), d.Length), lengths), vs
}

// pools parses the subnets, with the lengths by position (none or 0 = the
// default). Without subnets the lengths are judged when the default subnet is
// known: see [HostPrefix]. length is asked for that of a host's subnet of each.
func pools(vs *list, subnets []string, lengths []uint32, length func(*list, int, netip.Prefix, []uint32) int) []cluster.Pool {
	if len(subnets) > 2 {
		vs.addf("subnets", "%d are too many: give at most one IPv4 and one IPv6 subnet", len(subnets))
		return nil
	}
	if len(subnets) > 0 && len(lengths) > len(subnets) {
		vs.addf("host_prefixes", "%d lengths for %d subnets: give at most one for each", len(lengths), len(subnets))
	}
	var out []cluster.Pool
	for i, s := range subnets {
		p, ok := subnet(vs, fmt.Sprintf("subnets[%d]", i), s)
		if !ok {
			continue
		}
		if len(out) > 0 && out[0].Prefix.Addr().Is4() == p.Addr().Is4() {
			vs.addf(fmt.Sprintf("subnets[%d]", i), "%s is a second %s subnet: give at most one of each family", p, limitsOf(p).family)
			continue
		}
		out = append(out, cluster.Pool{Prefix: p, HostPrefix: length(vs, i, p, lengths)})
	}
	return out
}

// Prefix returns the prefix in s, and what is wrong with it: it must be written
// as the store does, without host bits. It says nothing of its size.
func Prefix(field, s string) (netip.Prefix, []Violation) {
	var vs list
	p, _ := parsePrefix(&vs, field, s)
	return p, vs
}

func parsePrefix(vs *list, field, s string) (netip.Prefix, bool) {
	p, err := netip.ParsePrefix(s)
	if err != nil {
		if a, err := netip.ParseAddr(s); err == nil && a.Zone() == "" {
			vs.addf(field, "%s has no prefix length: write it like %s/%d", s, s, DefaultHostPrefix(netip.PrefixFrom(a.Unmap(), 0)))
		} else {
			vs.addf(field, "%s is not a subnet: write it like 10.64.0.0/16 or fd64::/48", quote(s))
		}
		return netip.Prefix{}, false
	}
	return p, wellFormed(vs, field, p)
}

func wellFormed(vs *list, field string, p netip.Prefix) bool {
	switch {
	case !p.IsValid():
		vs.addf(field, "is not a subnet: write it like 10.64.0.0/16 or fd64::/48")
	case p.Addr().Is4In6():
		vs.addf(field, "%s is IPv4 written as IPv6: write it like 10.64.0.0/16", p)
	case p != p.Masked():
		vs.addf(field, "%s has host bits set: write %s", p, p.Masked())
	default:
		return true
	}
	return false
}

func subnet(vs *list, field, s string) (netip.Prefix, bool) {
	p, ok := parsePrefix(vs, field, s)
	if !ok {
		return p, false
	}
	limits := limitsOf(p)
	if reserved := reservedOverlap(p); reserved != "" {
		vs.addf(field, "%s overlaps %s, which containers cannot use: use a private range, such as %s", p, reserved, limits.example)
		return p, false
	}
	switch {
	case p.Bits() < limits.shortest:
		vs.addf(field, "%s is too large: use a subnet from /%d to /%d", p, limits.shortest, limits.longest)
		return p, false
	case p.Bits() > limits.longest:
		vs.addf(field, "%s is too small to be divided among hosts: use /%d or larger, such as %s", p, limits.longest, limits.example)
		return p, false
	}
	return p, true
}

func hostPrefix(vs *list, i int, p netip.Prefix, lengths []uint32) int {
	limits := limitsOf(p)
	if i >= len(lengths) || lengths[i] == 0 {
		if limits.defaultHost <= p.Bits() {
			vs.addf(fmt.Sprintf("subnets[%d]", i), "%s has no room for more than one host's /%d: use a larger subnet, or a host prefix from %d to %d",
				p, limits.defaultHost, p.Bits()+1, limits.longestHost)
		}
		return limits.defaultHost
	}
	n := int64(lengths[i])
	field := fmt.Sprintf("host_prefixes[%d]", i)
	switch {
	case n <= int64(p.Bits()):
		vs.addf(field, "%d leaves no room for more than one host in %s: use %d to %d", n, p, p.Bits()+1, limits.longestHost)
	case n > int64(limits.longestHost):
		vs.addf(field, "%d leaves no room for containers on a host: use %d to %d for %s", n, p.Bits()+1, limits.longestHost, p)
	}
	return int(n)
}

// reservedRanges are those in which no container can live (RFC 6890 and the
// IANA special-purpose registries). ::/8 holds the unspecified, loopback,
// IPv4-mapped and NAT64 addresses.
var reservedRanges = []struct {
	prefix netip.Prefix
	what   string
}{
	{netip.MustParsePrefix("0.0.0.0/8"), "\"this network\""},
	{netip.MustParsePrefix("127.0.0.0/8"), "loopback"},
	{netip.MustParsePrefix("169.254.0.0/16"), "link-local"},
	{netip.MustParsePrefix("224.0.0.0/4"), "multicast"},
	{netip.MustParsePrefix("240.0.0.0/4"), "reserved"},
	{netip.MustParsePrefix("::/8"), "loopback, IPv4-mapped and NAT64"},
	{netip.MustParsePrefix("fe80::/10"), "link-local"},
	{netip.MustParsePrefix("ff00::/8"), "multicast"},
}

// reservedOverlap returns the reserved range that p overlaps, in words, or "".
func reservedOverlap(p netip.Prefix) string {
	for _, r := range reservedRanges {
		if r.prefix.Overlaps(p) {
			return fmt.Sprintf("the %s range %s", r.what, r.prefix)
		}
	}
	return ""
}
