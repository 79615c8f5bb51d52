package main

import (
	"net/netip"
	"testing"

	"github.com/ovlnet/ovl/internal/sandbox"
	ovlv1 "github.com/ovlnet/ovl/proto/ovl/v1"
)

func TestResolvOfARun(t *testing.T) {
	host := sandbox.Resolv{Servers: []netip.Addr{netip.MustParseAddr("192.0.2.53")}, Search: []string{"corp.example"}, Options: []string{"ndots:2"}}
	blue := &ovlv1.Interface{Network: "blue", Domain: "blue.ovl.internal", Gateways: []string{"10.64.1.1", "fd64:1::1"}}
	red := &ovlv1.Interface{Network: "red", Domain: "red.lab.example", Gateways: []string{"10.65.1.1", "fd65:1::1"}}
	lan := &ovlv1.Interface{Network: "lan", Gateways: []string{"192.0.2.1"}} // nobody there answers for us
	own := runSpec{servers: []netip.Addr{netip.MustParseAddr("192.0.2.99")}}
	for name, c := range map[string]struct {
		spec       runSpec
		r          sandbox.Resolv
		interfaces []*ovlv1.Interface
		want       string
	}{
		"one network":    {runSpec{}, host, []*ovlv1.Interface{blue}, "nameserver 10.64.1.1\nnameserver fd64:1::1\nsearch blue.ovl.internal corp.example\noptions ndots:2\n"},
		"two networks":   {runSpec{}, host, []*ovlv1.Interface{blue, red}, "nameserver 10.64.1.1\nnameserver fd64:1::1\nnameserver 10.65.1.1\nsearch blue.ovl.internal red.lab.example corp.example\noptions ndots:2\n"},
		"none":           {runSpec{}, host, nil, "nameserver 192.0.2.53\nsearch corp.example\noptions ndots:2\n"},
		"without names":  {runSpec{}, host, []*ovlv1.Interface{lan}, "nameserver 192.0.2.53\nsearch corp.example\noptions ndots:2\n"},
		"with --dns":     {own, sandbox.Resolv{Servers: own.servers}, []*ovlv1.Interface{blue}, "nameserver 192.0.2.99\n"},
		"its own search": {runSpec{search: []string{"x.example"}}, sandbox.Resolv{Search: []string{"x.example"}}, []*ovlv1.Interface{blue}, "nameserver 10.64.1.1\nnameserver fd64:1::1\nsearch x.example\n"},
	} {
		got, err := c.spec.resolv(c.r, c.interfaces)
		if err != nil || got.String() != c.want {
			t.Errorf("%s: %q, %v, want %q", name, got, err, c.want)
		}
	}
	if _, err := (runSpec{}).resolv(host, []*ovlv1.Interface{{Domain: "x", Gateways: []string{"nowhere"}}}); err == nil {
		t.Error("a gateway that is no address is taken")
	}
}
