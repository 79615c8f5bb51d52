package main

import (
	"fmt"
	"net/netip"

	"github.com/ovlnet/ovl/internal/sandbox"
	ovlv1 "github.com/ovlnet/ovl/proto/ovl/v1"
)

// resolv returns who answers the sandbox's questions about names once it is on
// its networks: their gateways, which know the other containers and ask the
// host's resolvers about all else. r is what it would have without networks.
//
// With --dns the sandbox asks the named resolvers instead, and those know no
// containers. Any one of its gateways knows all of its networks, so it does not
// matter which are left out where there are more than the C library asks.
func (s runSpec) resolv(r sandbox.Resolv, interfaces []*ovlv1.Interface) (sandbox.Resolv, error) {
	if len(s.servers) > 0 {
		return r, nil
	}
	var servers []netip.Addr
	var domains []string
	for _, i := range interfaces {
		if i.GetDomain() == "" {
			continue
		}
		domains = append(domains, i.GetDomain())
		for _, g := range i.GetGateways() {
			a, err := netip.ParseAddr(g)
			if err != nil {
				return r, fmt.Errorf("read the agent's answer: gateway %q: %w", g, err)
			}
			servers = append(servers, a)
		}
	}
	if len(servers) == 0 {
		return r, nil
	}
	r.Servers = servers[:min(len(servers), sandbox.MaxServers)]
	if len(s.search) == 0 {
		r.Search = append(domains, r.Search...)
	}
	return r, nil
}
