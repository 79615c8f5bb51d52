package resolver

import (
	"net/netip"
	"slices"
	"strings"

	"github.com/miekg/dns"

	"github.com/ovlnet/ovl/internal/cluster"
)

// nobody is the TTL of every answer of ours, positive and negative: the next
// question costs microseconds, and nobody shall remember a container that has
// gone or miss one that has come.
const nobody = 0

// defaultDomain ends the full names of most networks. All below it is ours, that
// of networks which the asker does not know too: it is never forwarded.
const defaultDomain = "." + cluster.DefaultDNSDomain + "."

// ofZone are the types that only a zone has. A name of one label is a container
// or nothing, and is never forwarded; but whoever checks signatures must be able
// to ask for the keys of a top-level domain.
var ofZone = map[uint16]bool{dns.TypeNS: true, dns.TypeSOA: true, dns.TypeDS: true, dns.TypeDNSKEY: true}

// Answer answers a message with one question from what the view sees, or
// returns nil if the question is not about any name of ours. Where a name has
// several addresses, turn says which comes first.
func (v View) Answer(req *dns.Msg, turn uint32) *dns.Msg {
	q := req.Question[0]
	if q.Qclass != dns.ClassINET && q.Qclass != dns.ClassANY {
		return nil
	}
	name := strings.ToLower(q.Name)
	if p, ok := parseReverse(name); ok {
		return v.reverse(req, p)
	}
	z, label, origin := v.find(name)
	switch {
	case origin == "":
		return nil
	case origin == "." && z == nil && ofZone[q.Qtype]:
		return nil
	case label == "": // the origin itself
		return negative(req, dns.RcodeSuccess, origin)
	case z == nil || len(z.addrs[label]) == 0:
		return negative(req, dns.RcodeNameError, origin)
	}
	return positive(req, z.addrs[label], turn, origin)
}

// find takes a name, in lower case, apart: the zone whose it is, the label in
// it, and the origin that the zone then has. There is no origin if the name is
// none of ours, no zone if it is ours but unknown, no label if it is an origin.
func (v View) find(name string) (z *Zone, label, origin string) {
	dotted := "." + name
	for _, z := range v {
		if label, ok := strings.CutSuffix(dotted, z.origin); ok {
			return z, strings.TrimPrefix(label, "."), z.origin[1:]
		}
	}
	if label, ok := strings.CutSuffix(dotted, defaultDomain); ok {
		return nil, strings.TrimPrefix(label, "."), defaultDomain[1:]
	}
	label, rest, _ := strings.Cut(name, ".")
	if label == "" {
		return nil, "", "" // the root
	}
	if rest == "" {
		return v.first(label), label, "."
	}
	for _, z := range v {
		if "."+rest == z.short {
			return z, label, rest
		}
	}
	return nil, "", ""
}

// first returns the first zone that knows the label, or nil.
func (v View) first(label string) *Zone {
	for _, z := range v {
		if len(z.addrs[label]) > 0 {
			return z
		}
	}
	return nil
}

// reverse answers a question about a reverse name, if it is that of an address
// of a network in sight or of several of them.
func (v View) reverse(req *dns.Msg, p netip.Prefix) *dns.Msg {
	for _, z := range v {
		for _, pool := range z.pools {
			if pool.Addr().Is4() != p.Addr().Is4() || pool.Bits() > p.Bits() || !pool.Contains(p.Addr()) {
				continue
			}
			// Names above an address exist, but have nothing.
			if !p.IsSingleIP() {
				return negative(req, dns.RcodeSuccess, "")
			}
			label, ok := z.labels[p.Addr()]
			if !ok {
				return negative(req, dns.RcodeNameError, "")
			}
			if t := req.Question[0].Qtype; t != dns.TypePTR && t != dns.TypeANY {
				return negative(req, dns.RcodeSuccess, "")
			}
			m := authoritative(req, dns.RcodeSuccess)
			m.Answer = []dns.RR{&dns.PTR{Hdr: header(req, dns.TypePTR), Ptr: label + z.origin}}
			return m
		}
	}
	return nil
}

// positive returns the addresses of the family that the question asks for. A
// name without one of that family exists all the same: NODATA, not NXDOMAIN
// (RFC 2308 section 2.2; a client that asked for AAAA first would give up).
func positive(req *dns.Msg, addrs []netip.Addr, turn uint32, origin string) *dns.Msg {
	m := authoritative(req, dns.RcodeSuccess)
	t := req.Question[0].Qtype
	split := slices.IndexFunc(addrs, netip.Addr.Is6) // sorted, so those of IPv4 come first
	if split < 0 {
		split = len(addrs)
	}
	if t == dns.TypeA || t == dns.TypeANY {
		rotate(addrs[:split], turn, func(a netip.Addr) {
			m.Answer = append(m.Answer, &dns.A{Hdr: header(req, dns.TypeA), A: a.AsSlice()})
		})
	}
	if t == dns.TypeAAAA || t == dns.TypeANY {
		rotate(addrs[split:], turn, func(a netip.Addr) {
			m.Answer = append(m.Answer, &dns.AAAA{Hdr: header(req, dns.TypeAAAA), AAAA: a.AsSlice()})
		})
	}
	if len(m.Answer) == 0 {
		return negative(req, dns.RcodeSuccess, origin)
	}
	return m
}

// rotate calls f with each address, beginning with another at each turn.
func rotate(addrs []netip.Addr, turn uint32, f func(netip.Addr)) {
	for i := range uint32(len(addrs)) {
		f(addrs[(i+turn%uint32(len(addrs)))%uint32(len(addrs))])
	}
}

// negative returns NODATA (success) or NXDOMAIN. With an origin it carries the
// SOA that says for how long that may be remembered: not at all.
func negative(req *dns.Msg, rcode int, origin string) *dns.Msg {
	m := authoritative(req, rcode)
	if origin == "" || origin == "." {
		return m // we speak for no such zone
	}
	soa := &dns.SOA{
		Hdr: dns.RR_Header{Name: origin, Rrtype: dns.TypeSOA, Class: dns.ClassINET, Ttl: nobody},
		Ns:  "ns." + defaultDomain[1:], Mbox: "hostmaster." + defaultDomain[1:], Serial: 1,
		Refresh: 3600, Retry: 600, Expire: 86400, Minttl: nobody,
	}
	if q := req.Question[0]; rcode == dns.RcodeSuccess && strings.EqualFold(q.Name, origin) && (q.Qtype == dns.TypeSOA || q.Qtype == dns.TypeANY) {
		m.Answer = []dns.RR{soa}
	} else {
		m.Ns = []dns.RR{soa}
	}
	return m
}

func authoritative(req *dns.Msg, rcode int) *dns.Msg {
	m := new(dns.Msg).SetRcode(req, rcode)
	m.Authoritative, m.RecursionAvailable = true, true
	return m
}

// header is that of a record of the name asked for, in the asker's spelling:
// some clients check it (draft-vixie-dnsext-dns0x20).
func header(req *dns.Msg, rrtype uint16) dns.RR_Header {
	return dns.RR_Header{Name: req.Question[0].Name, Rrtype: rrtype, Class: dns.ClassINET, Ttl: nobody}
}
