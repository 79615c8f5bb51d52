package cluster

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// HostID identifies a host for its whole life: 32 lower-case hexadecimal
// digits (16 random bytes), made once and kept on the host's disk. It survives
// renaming, renumbering and reboots.
type HostID string

// ParseHostID returns s as a HostID, or an error if it is not 32 lower-case
// hexadecimal digits.
func ParseHostID(s string) (HostID, error) {
	if len(s) != 32 {
		return "", fmt.Errorf("parse host ID %q: want 32 hexadecimal digits, got %d characters", clip(s), len(s))
	}
	for _, c := range []byte(s) {
		if (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return "", fmt.Errorf("parse host ID %q: %q is not a lower-case hexadecimal digit", s, c)
		}
	}
	return HostID(s), nil
}

// VNI is a VXLAN network identifier (RFC 7348 section 5): 24 bits.
type VNI uint32

// The bounds of a usable VNI. Zero is legal on the wire but means "none" to
// the Linux VXLAN driver's users, so it is not given out.
const (
	MinVNI VNI = 1
	MaxVNI VNI = 1<<24 - 1
)

// Valid reports whether v lies between [MinVNI] and [MaxVNI].
func (v VNI) Valid() bool { return v >= MinVNI && v <= MaxVNI }

// MAC is an Ethernet address. It is an array, so that rows which hold one are
// comparable.
type MAC [6]byte

// ParseMAC returns the MAC written as six colon-separated pairs of hexadecimal
// digits, the only spelling that the kernel prints.
func ParseMAC(s string) (MAC, error) {
	var m MAC
	if len(s) != 17 {
		return m, fmt.Errorf("parse MAC %q: want six pairs of hexadecimal digits with colons", clip(s))
	}
	for i := range m {
		if i > 0 && s[3*i-1] != ':' {
			return MAC{}, fmt.Errorf("parse MAC %q: want colons between the pairs", s)
		}
		if _, err := hex.Decode(m[i:i+1], []byte(s[3*i:3*i+2])); err != nil {
			return MAC{}, fmt.Errorf("parse MAC %q: %w", s, err)
		}
	}
	return m, nil
}

// IsZero reports whether m is the all-zero address, which means "not set".
func (m MAC) IsZero() bool { return m == MAC{} }

// String returns m in the kernel's spelling, such as "02:4a:00:00:00:01".
func (m MAC) String() string {
	const digits = "0123456789abcdef"
	b := make([]byte, 0, 17)
	for i, c := range m {
		if i > 0 {
			b = append(b, ':')
		}
		b = append(b, digits[c>>4], digits[c&15])
	}
	return string(b)
}

// MarshalText implements [encoding.TextMarshaler]; the zero MAC is empty text.
func (m MAC) MarshalText() ([]byte, error) {
	if m.IsZero() {
		return nil, nil
	}
	return []byte(m.String()), nil
}

// UnmarshalText implements [encoding.TextUnmarshaler].
func (m *MAC) UnmarshalText(b []byte) error {
	if len(b) == 0 {
		*m = MAC{}
		return nil
	}
	v, err := ParseMAC(string(b))
	if err != nil {
		return err
	}
	*m = v
	return nil
}

// VTEPMAC returns the MAC of the VXLAN device of one host for one VNI. It is a
// hash, never stored: every host computes every other's, so a peer's MAC
// cannot be stale and survives the loss of the device. The address is unicast
// and locally administered (IEEE 802-2014 section 8.4).
func VTEPMAC(id HostID, vni VNI) MAC {
	return hashMAC("vtep", string(id), strconv.FormatUint(uint64(vni), 10))
}

// GatewayMAC returns the MAC of the bridge of a network's segment on one host.
// Like [VTEPMAC] it is derived, so that udev cannot replace it by one made from a
// cloned machine-id (field experience: two VMs with one bridge MAC).
func GatewayMAC(id HostID, vni VNI, segment int) MAC {
	v := strconv.FormatUint(uint64(vni), 10)
	if segment == 0 {
		return hashMAC("gateway", string(id), v)
	}
	return hashMAC("gateway", string(id), v, strconv.Itoa(segment))
}

// SegmentMAC returns the MAC of a VLAN that is made for a network, on one host.
func SegmentMAC(id HostID, vni VNI) MAC {
	return hashMAC("segment", string(id), strconv.FormatUint(uint64(vni), 10))
}

// EndpointMAC returns the MAC of a container's interface: derived from the
// network and the address, so that a container which comes back with its
// address comes back with its MAC, and neighbours' caches stay right.
func EndpointMAC(vni VNI, addr netip.Addr) MAC {
	return hashMAC("endpoint", strconv.FormatUint(uint64(vni), 10), addr.String())
}

func hashMAC(parts ...string) MAC {
	var buf [128]byte // on the stack: thousands of peers are hashed on each plan
	text := buf[:0]
	for _, p := range parts {
		text = append(append(text, p...), 0)
	}
	sum := sha256.Sum256(text)
	var m MAC
	copy(m[:], sum[:])
	m[0] = m[0]&^1 | 2 // unicast, locally administered
	return m
}

// MaxNameLen is the longest name of a network, host or endpoint: a DNS label
// (RFC 1035 section 2.3.4).
const MaxNameLen = 63

// ErrName is the cause of every refusal of a name.
var ErrName = errors.New("want 1 to 63 of a-z, 0-9 and '-', beginning and ending with a letter or digit")

// ErrEndpointName is the cause of every refusal of a name of a container.
var ErrEndpointName = errors.New("want 1 to 63 of a-z, 0-9, '-' and '_', beginning and ending with no '-'")

// CheckName reports whether s is a DNS label (RFC 1123 section 2.1) in lower
// case. The error wraps [ErrName].
func CheckName(s string) error {
	if len(s) < 1 || len(s) > MaxNameLen || s[0] == '-' || s[len(s)-1] == '-' {
		return fmt.Errorf("name %q: %w", clip(s), ErrName)
	}
	for _, c := range []byte(s) {
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' {
			return fmt.Errorf("name %q: %w", clip(s), ErrName)
		}
	}
	return nil
}

// CheckEndpointName reports whether s can be the name of a container, or an alias: as
// [CheckName] has it, but with underscores. Those are in no host's name (RFC 1123), and
// in many of those that container engines make; resolvers ask for them all the same.
func CheckEndpointName(s string) error {
	if err := CheckName(strings.ReplaceAll(s, "_", "0")); err != nil {
		return fmt.Errorf("name %q: %w", clip(s), ErrEndpointName)
	}
	return nil
}

// clip keeps hostile text out of error lines.
func clip(s string) string {
	if len(s) > 80 {
		return s[:80] + "…"
	}
	return s
}
