package ipam

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"math/big"
	"net/netip"
	"slices"

	"github.com/ovlnet/ovl/internal/cluster"
)

// ErrExhausted is the cause when there is nothing left to choose.
var ErrExhausted = errors.New("none left")

// maxProbes bounds the search in a pool too large to try whole: with at most
// half of it taken, a hundred probes miss with probability 2^-100.
const maxProbes = 1 << 16

// Subnet chooses a subnet of pool for the host: the first that overlaps none of
// taken and not reserved, beginning at a hash of the host's ID and the pool and
// going round. So a host gets the same answer after a reboot, and a rack that
// boots at once hardly collides. A zero reserved prefix reserves nothing. The
// error wraps [ErrExhausted].
func Subnet(pool cluster.Pool, host cluster.HostID, taken []netip.Prefix, reserved netip.Prefix) (netip.Prefix, error) {
	bits := pool.HostPrefix - pool.Prefix.Bits()
	if bits < 0 || pool.HostPrefix > pool.Prefix.Addr().BitLen() {
		return netip.Prefix{}, fmt.Errorf("choose subnet of %s: host prefix /%d is outside of it", pool.Prefix, pool.HostPrefix)
	}
	used := newIntervals(taken)
	start := hash64(string(host), pool.Prefix.String())
	kept := reservedSpan(pool, reserved)
	count := Subnets(pool, reserved)
	for i := range min(count, maxProbes) {
		n := (start + i) % count
		if n >= kept.first {
			n += kept.count // past them in one step: there may be more than could be probed
		}
		if p := nthSubnet(pool, n); !used.overlaps(p) {
			return p, nil
		}
	}
	return netip.Prefix{}, fmt.Errorf("choose subnet of %s: %w of %d subnets of length /%d", pool.Prefix, ErrExhausted, count, pool.HostPrefix)
}

// Subnets returns how many hosts' subnets of a pool do not overlap reserved, at
// most 2^63. A zero reserved prefix reserves nothing.
func Subnets(pool cluster.Pool, reserved netip.Prefix) uint64 {
	if pool.HostPrefix < pool.Prefix.Bits() {
		return 0
	}
	return uint64(1)<<min(pool.HostPrefix-pool.Prefix.Bits(), 63) - reservedSpan(pool, reserved).count
}

// span is a run of a pool's subnets, by their numbers.
type span struct{ first, count uint64 }

// reservedSpan returns the subnets of the pool that reserved overlaps.
func reservedSpan(pool cluster.Pool, reserved netip.Prefix) span {
	whole := uint64(1) << min(pool.HostPrefix-pool.Prefix.Bits(), 63)
	if !reserved.IsValid() || !reserved.Overlaps(pool.Prefix) {
		return span{}
	}
	if reserved.Bits() <= pool.Prefix.Bits() {
		return span{0, whole}
	}
	first := new(big.Int).SetBytes(reserved.Masked().Addr().AsSlice())
	first.Sub(first, new(big.Int).SetBytes(pool.Prefix.Masked().Addr().AsSlice()))
	first.Rsh(first, uint(reserved.Addr().BitLen()-pool.HostPrefix))
	if !first.IsUint64() || first.Uint64() >= whole {
		return span{} // beyond the subnets that are ever chosen
	}
	n := uint64(1) << min(max(pool.HostPrefix-reserved.Bits(), 0), 63)
	return span{first.Uint64(), min(n, whole-first.Uint64())}
}

// nthSubnet returns the n-th subnet of length pool.HostPrefix in the pool.
func nthSubnet(pool cluster.Pool, n uint64) netip.Prefix {
	return netip.PrefixFrom(add(pool.Prefix.Addr(), n, pool.Prefix.Addr().BitLen()-pool.HostPrefix), pool.HostPrefix)
}

// Gateway returns the gateway of a subnet: its first address after the
// network's own. In a subnet without room for both (/31, /127 and longer) it is
// not valid.
func Gateway(subnet netip.Prefix) netip.Addr {
	if subnet.Addr().BitLen()-subnet.Bits() < 2 {
		return netip.Addr{}
	}
	return subnet.Masked().Addr().Next()
}

// Size returns how many containers a subnet holds: all but the network address,
// the gateway and, in IPv4, the broadcast address. It saturates at 2^63-1.
func Size(subnet netip.Prefix) uint64 {
	hostBits := subnet.Addr().BitLen() - subnet.Bits()
	if hostBits < 2 {
		return 0
	}
	if hostBits >= 63 {
		return 1<<63 - 1
	}
	n := uint64(1)<<hostBits - 2
	if subnet.Addr().Is4() {
		n--
	}
	return n
}

// Address chooses an address of subnet that is not taken, beginning after last
// (not valid = at the start) and going round, so that an address just given
// back rests as long as it can. Network address, gateway and IPv4 broadcast are
// never chosen. The error wraps [ErrExhausted].
func Address(subnet netip.Prefix, last netip.Addr, taken func(netip.Addr) bool) (netip.Addr, error) {
	first := Gateway(subnet)
	if !first.IsValid() {
		return netip.Addr{}, fmt.Errorf("choose address of %s: %w: it has no room", subnet, ErrExhausted)
	}
	first = first.Next()
	a := first
	if last.IsValid() && subnet.Contains(last) && last.Next().IsValid() && usable(subnet, last.Next()) {
		a = last.Next()
	}
	n := Size(subnet)
	for range min(n, maxProbes) {
		if !usable(subnet, a) {
			a = first
		}
		if !taken(a) {
			return a, nil
		}
		a = a.Next()
	}
	return netip.Addr{}, fmt.Errorf("choose address of %s: %w of %d addresses", subnet, ErrExhausted, n)
}

// CheckAddress reports why a cannot be a container's address in subnet, or nil.
func CheckAddress(subnet netip.Prefix, a netip.Addr) error {
	switch {
	case !subnet.Contains(a):
		return fmt.Errorf("address %s: not in subnet %s", a, subnet)
	case a == subnet.Masked().Addr():
		return fmt.Errorf("address %s: the network address of %s", a, subnet)
	case a == Gateway(subnet):
		return fmt.Errorf("address %s: the gateway of %s", a, subnet)
	case !usable(subnet, a):
		return fmt.Errorf("address %s: the broadcast address of %s", a, subnet)
	}
	return nil
}

// CheckStatic reports why a cannot be a container's address in the static range
// of a pool, or nil. It has no gateway within, and so none of its addresses is
// special but those that are so in the pool.
func CheckStatic(pool cluster.Pool, static netip.Prefix, a netip.Addr) error {
	switch {
	case !static.Contains(a):
		return fmt.Errorf("address %s: not in static range %s", a, static)
	case a == pool.Prefix.Masked().Addr():
		return fmt.Errorf("address %s: the network address of %s", a, pool.Prefix)
	case !usable(pool.Prefix, a):
		return fmt.Errorf("address %s: the broadcast address of %s", a, pool.Prefix)
	}
	return nil
}

// usable reports whether a is in the subnet and is not its IPv4 broadcast.
func usable(subnet netip.Prefix, a netip.Addr) bool {
	if !a.IsValid() || !subnet.Contains(a) {
		return false
	}
	return !a.Is4() || a.Next().IsValid() && subnet.Contains(a.Next())
}

// Pool chooses the first prefix of length bits within from that overlaps none
// of taken. The error wraps [ErrExhausted].
func Pool(from netip.Prefix, bits int, taken []netip.Prefix) (netip.Prefix, error) {
	if bits < from.Bits() || bits > from.Addr().BitLen() {
		return netip.Prefix{}, fmt.Errorf("choose prefix of %s: length /%d is outside of it", from, bits)
	}
	used := newIntervals(taken)
	whole := cluster.Pool{Prefix: from.Masked(), HostPrefix: bits}
	count := uint64(1) << min(bits-from.Bits(), 63)
	for n := range min(count, maxProbes) {
		if p := nthSubnet(whole, n); !used.overlaps(p) {
			return p, nil
		}
	}
	return netip.Prefix{}, fmt.Errorf("choose prefix of %s: %w of length /%d", from, ErrExhausted, bits)
}

// VNI chooses the first identifier from start upwards that is not taken, going
// round after [cluster.MaxVNI]. The error wraps [ErrExhausted].
func VNI(start cluster.VNI, taken func(cluster.VNI) bool) (cluster.VNI, error) {
	v := start
	for range uint32(cluster.MaxVNI) {
		if !v.Valid() {
			v = cluster.MinVNI
		}
		if !taken(v) {
			return v, nil
		}
		v++
	}
	return 0, fmt.Errorf("choose VNI: %w", ErrExhausted)
}

// add returns a + n<<shift.
func add(a netip.Addr, n uint64, shift int) netip.Addr {
	if a.Is4() {
		b := a.As4()
		v := binary.BigEndian.Uint32(b[:]) + uint32(n<<shift)
		binary.BigEndian.PutUint32(b[:], v)
		return netip.AddrFrom4(b)
	}
	b := a.As16()
	v := new(big.Int).SetBytes(b[:])
	v.Add(v, new(big.Int).Lsh(new(big.Int).SetUint64(n), uint(shift)))
	v.FillBytes(b[:])
	return netip.AddrFrom16(b)
}

func hash64(parts ...string) uint64 {
	h := sha256.New()
	for _, p := range parts {
		h.Write([]byte(p))
		h.Write([]byte{0})
	}
	return binary.BigEndian.Uint64(h.Sum(nil))
}

// intervals is a sorted list of prefixes in which an overlap is found by binary
// search, so that choosing among thousands of taken subnets is not quadratic.
type intervals struct {
	starts []netip.Addr
	ends   []netip.Addr // greatest end of this and all earlier intervals
}

func newIntervals(ps []netip.Prefix) intervals {
	ps = slices.Clone(ps)
	slices.SortFunc(ps, cluster.ComparePrefix)
	var iv intervals
	for _, p := range ps {
		end := lastAddr(p)
		if n := len(iv.ends); n > 0 && iv.ends[n-1].Compare(end) > 0 {
			end = iv.ends[n-1]
		}
		iv.starts = append(iv.starts, p.Masked().Addr())
		iv.ends = append(iv.ends, end)
	}
	return iv
}

func (iv intervals) overlaps(p netip.Prefix) bool {
	end := lastAddr(p)
	// The last interval that starts at or before the end of p.
	i, found := slices.BinarySearchFunc(iv.starts, end, netip.Addr.Compare)
	for found && i+1 < len(iv.starts) && iv.starts[i+1] == end {
		i++
	}
	if !found {
		i--
	}
	return i >= 0 && iv.ends[i].Compare(p.Masked().Addr()) >= 0
}

func lastAddr(p netip.Prefix) netip.Addr {
	b := p.Masked().Addr().AsSlice()
	for bit := p.Bits(); bit < len(b)*8; bit++ {
		b[bit/8] |= 1 << (7 - bit%8)
	}
	a, _ := netip.AddrFromSlice(b)
	return a
}
