package kernel

import (
	"encoding/binary"
	"net/netip"

	"golang.org/x/sys/unix"
)

// native is the byte order of netlink: the machine's own, but where an
// attribute says otherwise (ports, addresses).
var native = binary.NativeEndian

// message is a netlink message under construction (netlink(7), nlmsghdr).
type message struct{ b []byte }

// request begins a message of that type. Its fixed part follows; see [message.put].
func request(typ int, flags int) *message {
	m := &message{make([]byte, unix.SizeofNlMsghdr, 256)}
	native.PutUint16(m.b[4:], uint16(typ))
	native.PutUint16(m.b[6:], uint16(flags)|unix.NLM_F_REQUEST)
	return m
}

func (m *message) put(b ...byte) *message {
	m.b = append(m.b, b...)
	return m
}

func (m *message) put32(v uint32) *message {
	m.b = native.AppendUint32(m.b, v)
	return m
}

// attr appends an attribute (struct nlattr), padded to four bytes.
func (m *message) attr(typ int, v []byte) {
	m.b = native.AppendUint16(m.b, uint16(unix.SizeofNlAttr+len(v)))
	m.b = native.AppendUint16(m.b, uint16(typ))
	m.b = append(m.b, v...)
	m.pad()
}

func (m *message) pad() {
	for len(m.b)%unix.NLMSG_ALIGNTO != 0 {
		m.b = append(m.b, 0)
	}
}

func (m *message) attr8(typ int, v uint8) { m.attr(typ, []byte{v}) }
func (m *message) attr32(typ int, v uint32) {
	m.attr(typ, native.AppendUint32(nil, v))
}

// attrText appends a string with the zero byte that the kernel wants behind it.
func (m *message) attrText(typ int, s string) { m.attr(typ, append([]byte(s), 0)) }

// nest appends an attribute that holds what fill appends.
func (m *message) nest(typ int, fill func()) {
	at := len(m.b)
	m.attr(typ|unix.NLA_F_NESTED, nil)
	fill()
	native.PutUint16(m.b[at:], uint16(len(m.b)-at))
}

// ifinfo appends a struct ifinfomsg.
func (m *message) ifinfo(index int32, flags, change uint32) *message {
	return m.put(unix.AF_UNSPEC, 0, 0, 0).put32(uint32(index)).put32(flags).put32(change)
}

// eachAttr calls f with each attribute in b. It stops at the first one that
// does not fit; what the kernel sends always does.
func eachAttr(b []byte, f func(typ uint16, v []byte)) {
	for len(b) >= unix.SizeofNlAttr {
		n := int(native.Uint16(b))
		if n < unix.SizeofNlAttr || n > len(b) {
			return
		}
		f(native.Uint16(b[2:])&^(unix.NLA_F_NESTED|unix.NLA_F_NET_BYTEORDER), b[unix.SizeofNlAttr:n])
		b = b[min(align(n), len(b)):]
	}
}

func align(n int) int { return (n + unix.NLMSG_ALIGNTO - 1) &^ (unix.NLMSG_ALIGNTO - 1) }

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

func be16(v []byte) uint16 {
	if len(v) < 2 {
		return 0
	}
	return binary.BigEndian.Uint16(v)
}

// text is a string attribute, with or without its zero byte.
func text(v []byte) string {
	for i, c := range v {
		if c == 0 {
			return string(v[:i])
		}
	}
	return string(v)
}

func addr(v []byte) netip.Addr {
	a, _ := netip.AddrFromSlice(v) // not valid if of no family's length
	return a
}

// familyOf returns the AF_ number of a's family.
func familyOf(a netip.Addr) byte {
	if a.Is4() {
		return unix.AF_INET
	}
	return unix.AF_INET6
}
