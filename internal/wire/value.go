package wire

import (
	"fmt"
	"maps"
	"math"
	"net/netip"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/ovlnet/ovl/internal/cluster"
)

func addrTexts(as []netip.Addr) []string {
	var out []string
	for _, a := range as {
		out = append(out, a.String())
	}
	return out
}

func prefixTexts(ps []netip.Prefix) []string {
	var out []string
	for _, p := range ps {
		out = append(out, p.String())
	}
	return out
}

// prefixText is empty for the zero prefix, which means "not set".
func prefixText(p netip.Prefix) string {
	if !p.IsValid() {
		return ""
	}
	return p.String()
}

// macText is empty for the zero MAC, which means "not set".
func macText(m cluster.MAC) string {
	if m.IsZero() {
		return ""
	}
	return m.String()
}

// parseAddr refuses zones (no fact has one) and IPv4 written as IPv6, which
// would compare unequal to itself.
func parseAddr(s string) (netip.Addr, error) {
	a, err := netip.ParseAddr(s)
	if err != nil {
		return netip.Addr{}, fmt.Errorf("parse address: %w", err)
	}
	if a.Zone() != "" || a.Is4In6() {
		return netip.Addr{}, fmt.Errorf("parse address %q: want a plain IPv4 or IPv6 address", s)
	}
	return a, nil
}

func parsePrefix(s string) (netip.Prefix, error) {
	p, err := netip.ParsePrefix(s)
	if err != nil {
		return netip.Prefix{}, fmt.Errorf("parse prefix: %w", err)
	}
	if p.Addr().Is4In6() {
		return netip.Prefix{}, fmt.Errorf("parse prefix %q: want a plain IPv4 or IPv6 prefix", s)
	}
	return p, nil
}

func parseAddrs(ss []string) ([]netip.Addr, error) { return parseEach(ss, parseAddr) }

func parsePrefixes(ss []string) ([]netip.Prefix, error) { return parseEach(ss, parsePrefix) }

func parseEach[S, T any](ss []S, parse func(S) (T, error)) ([]T, error) {
	var out []T
	for _, s := range ss {
		v, err := parse(s)
		if err != nil {
			return nil, err
		}
		out = append(out, v)
	}
	return out, nil
}

func parseOptionalMAC(s string) (cluster.MAC, error) {
	if s == "" {
		return cluster.MAC{}, nil
	}
	return cluster.ParseMAC(s)
}

// labels copies, so that a message never shares a map with a fact. An empty map
// is nil on both sides: protobuf cannot tell them apart.
func labels(m map[string]string) map[string]string {
	if len(m) == 0 {
		return nil
	}
	return maps.Clone(m)
}

func timestamp(t time.Time) *timestamppb.Timestamp {
	if t.IsZero() {
		return nil
	}
	return timestamppb.New(t)
}

func parseTimestamp(t *timestamppb.Timestamp) time.Time {
	if t == nil {
		return time.Time{}
	}
	return t.AsTime()
}

// unsigned clamps: no fact is negative or beyond 32 bits, and one that were
// would have to show as something.
func unsigned(n int) uint32 {
	return uint32(min(max(n, 0), math.MaxUint32))
}
