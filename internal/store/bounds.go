package store

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/ovlnet/ovl/internal/cluster"
)

// The bounds that internal/cluster does not already give.
const (
	// MaxValueLen is the longest value that is decoded or written, in bytes.
	MaxValueLen = 64 << 10
	// sealRoom is what a signature may add to a value that was encoded.
	sealRoom = 256
	// MaxHostEndpoints and MaxHostLeases are how many endpoints one host may have, and
	// subnets and static addresses: a bridge takes a thousand containers, and hosts run
	// hundreds.
	MaxHostEndpoints = 16384
	MaxHostLeases    = 16384
	// minMTU is what every IPv4 host must accept (RFC 791 section 3.1).
	minMTU = 576
	maxMTU = 65535
	// maxShort bounds words such as a version or a boot ID, in bytes.
	maxShort = 128
	// maxText bounds each text of a problem, in bytes: as many problems as there
	// may be, each byte of them escaped by another, still fit into a value.
	maxText = 320
	// maxDomain is the longest name in DNS as text (RFC 1035 section 3.1).
	maxDomain = 253
	// ifNameSize is IFNAMSIZ of include/uapi/linux/if.h: 15 bytes and a zero.
	ifNameSize = 16
)

// special are the prefixes that no network of containers may overlap: "this
// network", loopback, link-local, multicast and reserved (RFC 6890). ::/8 holds
// the unspecified, loopback and IPv4-mapped addresses.
var special = []netip.Prefix{
	netip.MustParsePrefix("0.0.0.0/8"),
	netip.MustParsePrefix("127.0.0.0/8"),
	netip.MustParsePrefix("169.254.0.0/16"),
	netip.MustParsePrefix("224.0.0.0/3"),
	netip.MustParsePrefix("::/8"),
	netip.MustParsePrefix("fe80::/10"),
	netip.MustParsePrefix("ff00::/8"),
}

// checkPrefix reports whether p is a well-formed prefix in its one spelling.
func checkPrefix(p netip.Prefix) error {
	switch {
	case !p.IsValid():
		return errors.New("prefix missing")
	case p.Addr().Is4In6():
		return fmt.Errorf("prefix %s: write IPv4 as IPv4", p)
	case p != p.Masked():
		return fmt.Errorf("prefix %s: host bits set, want %s", p, p.Masked())
	}
	return nil
}

// checkContainerPrefix reports whether containers may live in p.
func checkContainerPrefix(p netip.Prefix) error {
	if err := checkPrefix(p); err != nil {
		return err
	}
	for _, s := range special {
		if s.Overlaps(p) {
			return fmt.Errorf("prefix %s: overlaps %s, which is not for unicast between hosts", p, s)
		}
	}
	return nil
}

// checkSubnet reports whether p can be a host's subnet: with room for a
// gateway and at least one container.
func checkSubnet(p netip.Prefix) error {
	if err := checkContainerPrefix(p); err != nil {
		return err
	}
	if p.Bits() > p.Addr().BitLen()-2 {
		return fmt.Errorf("prefix %s: no room for a gateway and a container", p)
	}
	return nil
}

// checkLeased reports whether p can be leased: a host's subnet, or one address.
func checkLeased(p netip.Prefix) error {
	if !p.IsSingleIP() {
		return checkSubnet(p)
	}
	return checkContainerPrefix(p)
}

// checkUnicast reports whether a can be the address of one interface.
func checkUnicast(a netip.Addr) error {
	broadcast := netip.AddrFrom4([4]byte{255, 255, 255, 255})
	switch {
	case !a.IsValid():
		return errors.New("address missing")
	case a.Zone() != "":
		return fmt.Errorf("address %s: has a zone", a)
	case a.Is4In6():
		return fmt.Errorf("address %s: write IPv4 as IPv4", a)
	case a.IsUnspecified(), a.IsMulticast(), a.IsLoopback(), a == broadcast:
		return fmt.Errorf("address %s: not a unicast address that others can reach", a)
	case a.Is6() && a.IsLinkLocalUnicast():
		return fmt.Errorf("address %s: link-local, means nothing without a zone", a)
	}
	return nil
}

// checkAddrs reports whether as are unicast and at most one of each family.
func checkAddrs(as []netip.Addr) error {
	for i, a := range as {
		if err := checkUnicast(a); err != nil {
			return err
		}
		if i > 1 || i == 1 && a.Is4() == as[0].Is4() {
			return fmt.Errorf("address %s: a second one of its family", a)
		}
	}
	return nil
}

func checkPools(pools []cluster.Pool) error {
	if len(pools) < 1 || len(pools) > 2 {
		return fmt.Errorf("%d pools: want one, or one of each family", len(pools))
	}
	for i, p := range pools {
		if err := checkContainerPrefix(p.Prefix); err != nil {
			return err
		}
		if limit := p.Prefix.Addr().BitLen() - 2; p.HostPrefix < p.Prefix.Bits() || p.HostPrefix > limit {
			return fmt.Errorf("host prefix /%d: want %d to %d for pool %s", p.HostPrefix, p.Prefix.Bits(), limit, p.Prefix)
		}
		if i == 1 && p.Prefix.Addr().Is4() == pools[0].Prefix.Addr().Is4() {
			return fmt.Errorf("pool %s: a second one of its family", p.Prefix)
		}
	}
	return nil
}

// checkSegment reports whether a network says of a physical segment what its
// driver needs, and nothing else.
func checkSegment(n cluster.Network) error {
	if err := checkIfName(n.Parent); err != nil {
		return err
	}
	if macvlan := n.Driver == cluster.DriverMacvlan; macvlan != (n.Parent != "") {
		return fmt.Errorf("driver %s with parent %q: want one with macvlan, none without", n.Driver, n.Parent)
	}
	for _, p := range n.Pools {
		switch {
		case n.Driver != cluster.DriverMacvlan && (p.Range.IsValid() || p.Gateway.IsValid()):
			return fmt.Errorf("driver %s with a range or a gateway of pool %s: want none", n.Driver, p.Prefix)
		case n.Driver == cluster.DriverMacvlan && !p.Prefix.Contains(p.Gateway):
			return fmt.Errorf("gateway %s: not within pool %s", p.Gateway, p.Prefix)
		case p.Range != netip.Prefix{} && (checkPrefix(p.Range) != nil || p.Range.Bits() < p.Prefix.Bits() || !p.Prefix.Contains(p.Range.Addr())):
			return fmt.Errorf("range %s: not within pool %s", p.Range, p.Prefix)
		case p.Range.IsValid() && p.HostPrefix < p.Range.Bits():
			return fmt.Errorf("host prefix /%d: want %d or longer for the range %s", p.HostPrefix, p.Range.Bits(), p.Range)
		}
	}
	return nil
}

func checkStaticRanges(n cluster.Network) error {
	used := map[netip.Prefix]bool{}
	for _, r := range n.StaticRanges {
		if err := checkPrefix(r); err != nil {
			return fmt.Errorf("static range: %w", err)
		}
		pool, ok := n.Pool(r)
		switch {
		case !ok:
			return fmt.Errorf("static range %s: not within a pool", r)
		case pool.Prefix == r:
			return fmt.Errorf("static range %s: leaves nothing of its pool", r)
		case used[pool.Prefix]:
			return fmt.Errorf("static range %s: a second one in pool %s", r, pool.Prefix)
		}
		used[pool.Prefix] = true
	}
	return nil
}

func checkLabels(labels map[string]string) error {
	if len(labels) > cluster.MaxLabels {
		return fmt.Errorf("%d labels: want at most %d", len(labels), cluster.MaxLabels)
	}
	for k, v := range labels {
		if k == "" {
			return errors.New("label without a key")
		}
		if err := checkText("label", k, cluster.MaxLabelLen); err != nil {
			return err
		}
		if err := checkText("label "+clip(k), v, cluster.MaxLabelLen); err != nil {
			return err
		}
	}
	return nil
}

// checkText reports whether s is printable text of at most limit bytes: it ends
// up in terminals and logs.
func checkText(what, s string, limit int) error {
	if len(s) > limit {
		return fmt.Errorf("%s: %d bytes, want at most %d", what, len(s), limit)
	}
	if !utf8.ValidString(s) || strings.ContainsFunc(s, unprintable) {
		return fmt.Errorf("%s %q: want printable text", what, clip(s))
	}
	return nil
}

func unprintable(r rune) bool { return !unicode.IsPrint(r) }

// checkDomain reports whether s is empty or a domain name of labels.
func checkDomain(s string) error {
	if s == "" {
		return nil
	}
	if len(s) > maxDomain {
		return fmt.Errorf("domain: %d bytes, want at most %d", len(s), maxDomain)
	}
	for label := range strings.SplitSeq(s, ".") {
		if err := cluster.CheckName(label); err != nil {
			return fmt.Errorf("domain %q: %w", clip(s), err)
		}
	}
	return nil
}

// checkIfName reports whether s is empty or a name that the kernel gives a
// device (dev_valid_name in net/core/dev.c), in ASCII.
func checkIfName(s string) error {
	if len(s) >= ifNameSize || s == "." || s == ".." {
		return fmt.Errorf("interface name %q: want at most %d characters", clip(s), ifNameSize-1)
	}
	for _, c := range []byte(s) {
		if c <= ' ' || c > '~' || c == '/' || c == ':' {
			return fmt.Errorf("interface name %q: %q is not allowed", clip(s), c)
		}
	}
	return nil
}

// checkTime reports whether t can be written as JSON (RFC 3339: four digits of
// a year).
func checkTime(t time.Time) error {
	if y := t.UTC().Year(); y < 1 || y > 9999 {
		return fmt.Errorf("time: year %d", y)
	}
	return nil
}
