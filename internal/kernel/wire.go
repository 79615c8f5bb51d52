package kernel

import (
	"encoding/binary"
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
