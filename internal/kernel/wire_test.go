package kernel

import (
	"net/netip"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/ovlnet/ovl/internal/dataplane"
)

// FuzzDecode: no message, however broken, breaks a decoder of ours, and what is
// decoded lies within bounds. Links are decoded by the library, from the kernel's
// own messages alone.
func FuzzDecode(f *testing.F) {
	for _, m := range []interface{ Serialize() []byte }{
		newRoute(0, dataplane.Route{RouteKey: dataplane.RouteKey{Dst: netip.MustParsePrefix("10.64.2.0/24")}, Via: netip.MustParsePrefix("10.64.2.0/24").Addr(), OnLink: true}, 7),
		addrMessage(dataplane.Create, dataplane.Addr{AddrKey: dataplane.AddrKey{Prefix: netip.MustParsePrefix("fd64::1/64")}}, 7),
		change(unix.RTM_NEWNEIGH, 0, &netlink.Ndmsg{Family: unix.AF_INET, Index: 7}),
	} {
		f.Add(m.Serialize()[unix.SizeofNlMsghdr:])
		f.Add(m.Serialize())
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if _, p, ok := decodeAddr(b); ok && !p.IsValid() {
			t.Error("address that is not valid passed")
		}
		if r, ok := decodeRoute(b); ok && !r.dst.IsValid() {
			t.Error("route that is not valid passed")
		}
		decodeNeigh(b)
		nsidIn(b)
		nsidOf(b)
	})
}
