package admit_test

import (
	"testing"

	"github.com/ovlnet/ovl/controller/admit"
	"github.com/ovlnet/ovl/internal/cluster"
	ovlv1 "github.com/ovlnet/ovl/proto/ovl/v1"
)

func TestUpdate(t *testing.T) {
	four := cluster.Network{Name: "blue", Masquerade: true, MTU: 1400, DNSDomain: "old", Pools: []cluster.Pool{pool("10.64.0.0/16", 24)}, Labels: map[string]string{"a": "b"}}
	six := cluster.Network{Name: "blue", Pools: []cluster.Pool{pool("fd64::/48", 64)}}
	for _, c := range []struct {
		name  string
		n     cluster.Network
		req   *ovlv1.UpdateNetworkRequest
		field string
	}{
		{"revision", four, &ovlv1.UpdateNetworkRequest{Revision: -1}, "revision"},
		{"MTU", four, &ovlv1.UpdateNetworkRequest{Mtu: new(uint32(1))}, "mtu"},
		{"IPv6 MTU", six, &ovlv1.UpdateNetworkRequest{Mtu: new(uint32(1000))}, "mtu"},
		{"NAT66 of IPv4", four, &ovlv1.UpdateNetworkRequest{Nat66: new(true)}, "nat66"},
		{"NAT66 and internal", six, &ovlv1.UpdateNetworkRequest{Nat66: new(true), Internal: new(true)}, "nat66"},
		{"domain", four, &ovlv1.UpdateNetworkRequest{DnsDomain: new("-")}, "dns_domain"},
		{"labels unset", four, &ovlv1.UpdateNetworkRequest{Labels: map[string]string{"a": "b"}}, "labels"},
		{"labels", four, &ovlv1.UpdateNetworkRequest{SetLabels: true, Labels: map[string]string{"": "b"}}, "labels"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, vs := admit.Update(c.n, c.req)
			expect(t, vs, c.field)
		})
	}
	got, vs := admit.Update(four, &ovlv1.UpdateNetworkRequest{
		Internal: new(true), Masquerade: new(false), Mtu: new(uint32(0)), DnsDomain: new(""), SetLabels: true,
	})
	if len(vs) > 0 || !got.Internal || got.Masquerade || got.MTU != 0 || got.DNSDomain != "" || len(got.Labels) != 0 {
		t.Errorf("updated to %+v, %v", got, vs)
	}
	translated, vs := admit.Update(six, &ovlv1.UpdateNetworkRequest{Nat66: new(true)})
	if len(vs) > 0 || !translated.NAT66 {
		t.Errorf("updated to %+v, %v", translated, vs)
	}
	_, vs = admit.Update(translated, &ovlv1.UpdateNetworkRequest{Internal: new(true)})
	expect(t, vs, "nat66", "no way out")
	served, vs := admit.Update(four, &ovlv1.UpdateNetworkRequest{Services: new(true)})
	if len(vs) > 0 || !served.Services {
		t.Errorf("updated to %+v, %v", served, vs)
	}
	_, vs = admit.Update(served, &ovlv1.UpdateNetworkRequest{Internal: new(true)})
	expect(t, vs, "services", "no way in")
	if kept, vs := admit.Update(four, &ovlv1.UpdateNetworkRequest{}); len(vs) > 0 || kept.MTU != 1400 || kept.Labels["a"] != "b" {
		t.Errorf("an empty update made it %+v, %v", kept, vs)
	}
}
