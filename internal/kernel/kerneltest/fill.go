package kerneltest

import (
	"net/netip"
	"testing"

	"github.com/ovlnet/ovl/internal/dataplane"
	"github.com/ovlnet/ovl/internal/reconcile"
)

// testFill: many elements at once, more than one message of Linux takes, some of them
// there already; and none of them where one is wrong.
func testFill(t *testing.T, h Harness) {
	f, ok := h.Kernel().(reconcile.Filler)
	if !ok {
		t.Skip("this kernel makes elements one by one")
	}
	want := world()
	settle(t, h, want)
	var elements []dataplane.Element
	for i := range 2500 {
		at := netip.AddrFrom16([16]byte{0: 0xfd, 1: 0x99, 14: byte(i >> 8), 15: byte(i)})
		elements = append(elements, dataplane.Peer(at, 5, netip.PrefixFrom(at, 128)), dataplane.Source("ove00000000fill", mac(byte(i)), at), dataplane.Owner(at, mac(byte(i))))
	}
	for range 2 {
		if err := f.Fill(t.Context(), elements); err != nil {
			t.Fatalf("fill: %v", err)
		}
	}
	for _, e := range elements {
		want.Add(e)
	}
	equal(t, want, observe(t, h))
	if err := f.Fill(t.Context(), []dataplane.Element{peer("192.0.2.200", "10.64.200.0/24"), {ElementKey: dataplane.ElementKey{Set: peer("192.0.2.200", "10.64.200.0/24").Set, Addr: ip("fd99::1"), From: ip("10.64.200.0")}}}); err == nil {
		t.Error("an element of another family was made")
	}
	equal(t, want, observe(t, h))
}
