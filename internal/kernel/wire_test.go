package kernel

import (
	"bytes"
	"testing"

	"golang.org/x/sys/unix"
)

func TestAttributesSurvive(t *testing.T) {
	m := request(unix.RTM_NEWLINK, 0)
	at := len(m.b)
	m.attrText(1, "eth0")
	m.nest(2, func() {
		m.attr8(3, 7)
		m.attr32(4, 1<<24)
	})
	var name string
	var inner []uint32
	eachAttr(m.b[at:], func(typ uint16, v []byte) {
		switch typ {
		case 1:
			name = text(v)
		case 2:
			eachAttr(v, func(typ uint16, v []byte) {
				if typ == 3 {
					inner = append(inner, uint32(v[0]))
				} else {
					inner = append(inner, u32(v))
				}
			})
		}
	})
	if name != "eth0" || len(inner) != 2 || inner[0] != 7 || inner[1] != 1<<24 {
		t.Errorf("read %q and %v; want eth0 and [7 16777216]", name, inner)
	}
}

// FuzzDecode: no message, however broken, breaks a decoder, and what is decoded
// lies within bounds.
func FuzzDecode(f *testing.F) {
	m := request(unix.RTM_NEWLINK, 0).ifinfo(7, unix.IFF_UP, 0)
	m.attrText(unix.IFLA_IFNAME, "ovx5")
	m.nest(unix.IFLA_LINKINFO, func() {
		m.attrText(unix.IFLA_INFO_KIND, "vxlan")
		m.nest(unix.IFLA_INFO_DATA, func() { m.attr32(unix.IFLA_VXLAN_ID, 5) })
	})
	f.Add(m.b[unix.SizeofNlMsghdr:])
	f.Add(m.b)
	f.Fuzz(func(t *testing.T, b []byte) {
		if l, ok := decodeLink(b); ok && (l.index <= 0 || l.name == "") {
			t.Errorf("link %+v passed", l)
		}
		if _, p, ok := decodeAddr(b); ok && !p.IsValid() {
			t.Error("address that is not valid passed")
		}
		if r, ok := decodeRoute(b); ok && !r.dst.IsValid() {
			t.Error("route that is not valid passed")
		}
		decodeNeigh(b)
		nsidOf(b)
		eachMessage(b, func(_ uint16, _ uint32, body []byte) {
			if !bytes.Contains(b, body) {
				t.Error("body is not of the message")
			}
		})
		c := &conn{}
		interrupted := false
		_, _ = c.take(b, func([]byte) {}, &interrupted)
	})
}
