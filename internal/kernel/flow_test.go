package kernel

import (
	"errors"
	"net/netip"
	"testing"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// tuples is an entry of conntrack as the kernel sends it, of UDP.
func tuples(from, to, via netip.AddrPort) []byte {
	var out []byte
	for typ, ends := range map[int][2]netip.AddrPort{ctTupleOrig: {from, to}, ctTupleReply: {via, from}} {
		tuple := nl.NewRtAttr(unix.NLA_F_NESTED|typ, nil)
		ip := tuple.AddRtAttr(unix.NLA_F_NESTED|ctTupleIP, nil)
		src, dst := ctSrc4, ctDst4
		if ends[0].Addr().Is6() {
			src, dst = ctSrc6, ctDst6
		}
		ip.AddRtAttr(src, ends[0].Addr().AsSlice())
		ip.AddRtAttr(dst, ends[1].Addr().AsSlice())
		proto := tuple.AddRtAttr(unix.NLA_F_NESTED|ctTupleProto, nil)
		proto.AddRtAttr(ctProtoNum, nl.Uint8Attr(unix.IPPROTO_UDP))
		proto.AddRtAttr(ctSrcPort, nl.BEUint16Attr(ends[0].Port()))
		proto.AddRtAttr(ctDstPort, nl.BEUint16Attr(ends[1].Port()))
		out = append(out, tuple.Serialize()...)
	}
	return out
}

func TestDecodeFlow(t *testing.T) {
	for _, want := range []flow{
		{netip.MustParseAddrPort("198.51.100.7:4000"), netip.MustParseAddrPort("192.0.2.1:53"), netip.MustParseAddrPort("10.64.1.2:5353")},
		{netip.MustParseAddrPort("[2001:db8::7]:4000"), netip.MustParseAddrPort("[2001:db8::1]:53"), netip.MustParseAddrPort("[fd64::2]:5353")},
	} {
		if got, ok := decodeFlow(tuples(want.from, want.to, want.via)); !ok || got != want {
			t.Errorf("got %v, %t, want %v", got, ok, want)
		}
	}
}

// FuzzFlow: no message, however broken, breaks the decoder, and what passes has
// addresses.
func FuzzFlow(f *testing.F) {
	whole := tuples(netip.MustParseAddrPort("198.51.100.7:4000"), netip.MustParseAddrPort("192.0.2.1:53"), netip.MustParseAddrPort("10.64.1.2:53"))
	f.Add(whole)
	f.Add(whole[:len(whole)/2])
	f.Add(whole[:len(whole)-1])
	f.Fuzz(func(t *testing.T, b []byte) {
		if fl, ok := decodeFlow(b); ok && (!fl.from.IsValid() || !fl.to.IsValid() || !fl.via.IsValid()) {
			t.Errorf("passed: %v", fl)
		}
	})
}

// FuzzTranslations: rules come from iptables-save, so from whoever may write there.
func FuzzTranslations(f *testing.F) {
	f.Add("-d 192.0.2.1/32 -p udp -m udp --dport 53 -j DNAT --to-destination 10.64.1.2:53")
	f.Add("-p udp --dport 1000:2000 -j DNAT --to-destination 10.64.1.2\n-p udp -j DNAT --to-destination")
	f.Add("-p udp -m udp --dport 53 -j DNAT --to-destination [fd64::2]:53")
	f.Fuzz(func(t *testing.T, rules string) {
		for port, list := range translations(rules) {
			for _, to := range list {
				if port == 0 || !to.to.IsValid() {
					t.Errorf("port %d leads to %v", port, to)
				}
			}
		}
		p := newPublished()
		p.learn("OVL-DNAT-1", rules)
		p.learn("OVL-DNAT-1", "")
		p.forget(nil)
		if !p.empty() {
			t.Errorf("left of a chain that is gone: %v", p)
		}
	})
}

// TestGenerations: a change is ours if it is the only one while we wrote.
func TestGenerations(t *testing.T) {
	failed := errors.New("failed")
	for _, c := range []struct {
		name          string
		before, after uint32
		err           error
		own           bool
	}{
		{"ours alone", 7, 8, nil, true},
		{"somebody else wrote too", 7, 9, nil, false},
		{"nothing was written", 7, 7, nil, false},
		{"ours failed, the change is another's", 7, 8, failed, false},
		{"not known before", 0, 1, nil, false},
	} {
		var g generations
		now := c.before
		err := g.during(func() uint32 { return now }, func() error { now = c.after; return c.err })
		if !errors.Is(err, c.err) {
			t.Errorf("%s: error %v", c.name, err)
		}
		if got := g.made(c.after); got != c.own {
			t.Errorf("%s: ours = %t", c.name, got)
		}
		if g.made(0) {
			t.Errorf("%s: an unknown generation is ours", c.name)
		}
	}
	// The latest are remembered, however many there were.
	var g generations
	now := uint32(1)
	for range 200 {
		_ = g.during(func() uint32 { return now }, func() error { now++; return nil })
	}
	if !g.made(now) || !g.made(now-63) || g.made(now-64) {
		t.Error("want the latest 64 remembered and no others")
	}
}
