package plan_test

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/ovlnet/ovl/internal/cluster"
	"github.com/ovlnet/ovl/internal/plan"
)

// BenchmarkPlanPorts5000 is a host whose containers publish 5,000 ports.
func BenchmarkPlanPorts5000(b *testing.B) {
	s, l := large(1)
	for i := range 5 {
		addr := l.Held[0].Prefix.Addr()
		for range i + 2 {
			addr = addr.Next()
		}
		att := cluster.Attachment{ID: fmt.Sprint(i), Name: fmt.Sprint(i), NetNS: fmt.Sprintf("/run/netns/%d", i), Interfaces: []cluster.Interface{{
			Network: "blue", Name: "eth0", Addrs: []netip.Prefix{netip.PrefixFrom(addr, 24)}, MAC: cluster.EndpointMAC(1, addr),
		}}}
		for j := range uint16(1000) {
			att.Ports = append(att.Ports, cluster.Port{Proto: cluster.TCP, HostPort: 10000 + uint16(i)*1000 + j, ContainerPort: 1 + j})
		}
		l.Attachments = append(l.Attachments, att)
	}
	for b.Loop() {
		plan.Plan(s, l)
	}
}
