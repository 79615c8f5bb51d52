package resolver

import (
	"net/netip"
	"strconv"
	"strings"
)

// The domains of reverse names (RFC 1035 section 3.5, RFC 3596 section 2.5).
const (
	reverse4 = ".in-addr.arpa."
	reverse6 = ".ip6.arpa."
)

// parseReverse returns the prefix that a reverse name stands for: of an address
// if it is complete, of all addresses below if it is not. The name is in lower
// case; ok is false for all others.
func parseReverse(name string) (p netip.Prefix, ok bool) {
	if rest, found := strings.CutSuffix(name, reverse4); found {
		return reversed(rest, 4, 8, func(s string) (uint64, error) {
			if len(s) > 1 && s[0] == '0' {
				return 0, strconv.ErrSyntax // 010 is not 10
			}
			return strconv.ParseUint(s, 10, 8)
		})
	}
	if rest, found := strings.CutSuffix(name, reverse6); found {
		return reversed(rest, 32, 4, func(s string) (uint64, error) {
			if len(s) != 1 {
				return 0, strconv.ErrSyntax
			}
			return strconv.ParseUint(s, 16, 4)
		})
	}
	return netip.Prefix{}, false
}

// reversed reads labels of so many bits each, the least significant first, of
// which an address has most.
func reversed(labels string, most, bits int, parse func(string) (uint64, error)) (p netip.Prefix, ok bool) {
	var b [16]byte
	n := 0
	for labels != "" {
		i := strings.LastIndexByte(labels, '.')
		v, err := parse(labels[i+1:])
		if err != nil || n == most || i == 0 { // i == 0: an empty label comes before this one
			return p, false
		}
		at := n * bits
		b[at/8] |= byte(v << (8 - bits - at%8))
		n++
		labels = labels[:max(i, 0)]
	}
	addr, ok := netip.AddrFromSlice(b[:most*bits/8])
	return netip.PrefixFrom(addr, n*bits), ok
}
