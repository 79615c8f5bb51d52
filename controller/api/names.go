package api

import "github.com/ovlnet/ovl/internal/cluster"

// names are the hosts and networks that subnets and endpoints are joined with.
type names struct {
	hosts   map[cluster.HostID]cluster.Host
	vnis    map[string]cluster.VNI
	tunnels map[string]bool // which networks have VTEPs
}

func newNames(f facts) *names {
	k := &names{hosts: map[cluster.HostID]cluster.Host{}, vnis: map[string]cluster.VNI{}, tunnels: map[string]bool{}}
	for _, h := range f.hosts {
		k.hosts[h.ID] = h
	}
	for _, n := range f.networks {
		k.vnis[n.Name] = n.VNI
		k.tunnels[n.Name] = n.Driver == cluster.DriverOverlay
	}
	return k
}
