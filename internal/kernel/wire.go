package kernel

import (
	"encoding/binary"
	"iter"
	"net/netip"
	"syscall"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// native is the byte order of netlink: the machine's own, but where an
// attribute says otherwise (ports, addresses).
var native = binary.NativeEndian

// add appends an attribute to a request.
func add(r *nl.NetlinkRequest, typ int, v []byte) { r.AddData(nl.NewRtAttr(typ, v)) }

// ifinfo is a struct ifinfomsg.
func ifinfo(index int32) *nl.IfInfomsg {
	m := nl.NewIfInfomsg(unix.AF_UNSPEC)
	m.Index = index
	return m
}

// attrs returns the attributes in b, none if they are broken; what the kernel
// sends never is. The parser runs over the end of a last one that is not padded.
func attrs(b []byte) []syscall.NetlinkRouteAttr {
	if len(b)%unix.NLMSG_ALIGNTO != 0 {
		return nil
	}
	list, err := nl.ParseRouteAttr(b)
	if err != nil {
		return nil
	}
	return list
}

// fields yields what [attrs] returns, type and value, without making a slice of
// it: among thousands of messages that is most of what decoding them costs.
func fields(b []byte) iter.Seq2[uint16, []byte] {
	return func(yield func(uint16, []byte) bool) {
		for rest := b; len(rest) > 0; {
			_, _, after, ok := cutAttr(rest)
			if !ok {
				return
			}
			rest = after
		}
		for len(b) > 0 {
			typ, value, after, _ := cutAttr(b)
			if !yield(typ, value) {
				return
			}
			b = after
		}
	}
}

// cutAttr cuts the first attribute off (struct nlattr in
// include/uapi/linux/netlink.h). The padding of the last one may be missing.
func cutAttr(b []byte) (typ uint16, value, rest []byte, ok bool) {
	if len(b) < unix.SizeofNlAttr {
		return 0, nil, nil, false
	}
	size := int(native.Uint16(b))
	if size < unix.SizeofNlAttr || size > len(b) {
		return 0, nil, nil, false
	}
	padded := (size + unix.NLA_ALIGNTO - 1) &^ (unix.NLA_ALIGNTO - 1)
	return native.Uint16(b[2:]) & nl.NLA_TYPE_MASK, b[unix.SizeofNlAttr:size], b[min(padded, len(b)):], true
}

// nested returns the value of an attribute within attributes; nil if there is
// none.
func nested(b []byte, path ...uint16) []byte {
	for _, want := range path {
		var found []byte
		for typ, value := range fields(b) {
			if typ == want {
				found = value
				break
			}
		}
		b = found
	}
	return b
}

func u16(v []byte) uint16 {
	if len(v) < 2 {
		return 0
	}
	return native.Uint16(v)
}

func u32(v []byte) uint32 {
	if len(v) < 4 {
		return 0
	}
	return native.Uint32(v)
}

func addr(v []byte) netip.Addr {
	a, _ := netip.AddrFromSlice(v) // not valid if of no family's length
	return a
}

// familyOf returns the AF_ number of a's family.
func familyOf(a netip.Addr) uint8 {
	if a.Is4() {
		return unix.AF_INET
	}
	return unix.AF_INET6
}
