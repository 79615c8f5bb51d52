package kernel

import (
	"cmp"
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/ovlnet/ovl/internal/dataplane"
)

// factsMaker gathers what is on the host that is not ours, while the tables
// are read.
type factsMaker struct {
	links    map[int32]bool // with an address or a route
	addrs    map[int32][]netip.Prefix
	onLink   map[int32][]netip.Prefix
	routes   []netip.Prefix
	defaults []routeInfo
}

func (f *factsMaker) addr(index int32, p netip.Prefix) {
	a := p.Addr()
	if a.IsLinkLocalUnicast() || a.IsLoopback() {
		return
	}
	if f.addrs == nil {
		f.addrs = map[int32][]netip.Prefix{}
	}
	f.addrs[index], f.links[index] = append(f.addrs[index], p), true
}

func (f *factsMaker) route(r routeInfo) {
	a := r.dst.Addr()
	switch {
	case r.kind != unix.RTN_UNICAST || a.IsMulticast() || a.IsLinkLocalUnicast() || a.IsLoopback():
	case r.dst.Bits() == 0:
		f.defaults, f.links[r.link] = append(f.defaults, r), true
	default:
		f.routes, f.links[r.link] = append(f.routes, r.dst), true
		if !r.via.IsValid() && !r.multi {
			if f.onLink == nil {
				f.onLink = map[int32][]netip.Prefix{}
			}
			f.onLink[r.link] = append(f.onLink[r.link], r.dst)
		}
	}
}

// facts puts together what was gathered.
func (f *factsMaker) facts(links map[int32]*linkInfo, dockerUser [2]bool) *dataplane.HostFacts {
	h := &dataplane.HostFacts{DockerUser: dockerUser, Routes: f.routes}
	own := map[netip.Addr]bool{}
	for _, prefixes := range f.addrs {
		slices.SortFunc(prefixes, comparePrefix)
		for _, p := range prefixes {
			own[p.Addr()] = true
		}
	}
	for index, l := range links {
		if !l.ours {
			onLink := f.onLink[index]
			slices.SortFunc(onLink, comparePrefix)
			h.Links = append(h.Links, dataplane.HostLink{
				Name: l.name, MTU: l.mtu, Up: l.flags&unix.IFF_UP != 0, Kind: l.kind, Addrs: f.addrs[index], OnLink: slices.Compact(onLink),
			})
		}
	}
	slices.SortFunc(h.Links, func(a, b dataplane.HostLink) int { return cmp.Compare(a.Name, b.Name) })
	h.Routes = slices.DeleteFunc(h.Routes, func(p netip.Prefix) bool { return p.IsSingleIP() && own[p.Addr()] })
	slices.SortFunc(h.Routes, comparePrefix)
	h.Routes = slices.Compact(h.Routes)
	slices.SortStableFunc(f.defaults, func(a, b routeInfo) int {
		return cmp.Or(cmp.Compare(a.dst.Addr().BitLen(), b.dst.Addr().BitLen()), cmp.Compare(a.metric, b.metric))
	})
	if len(f.defaults) > 0 {
		if l, ok := links[f.defaults[0].link]; ok {
			h.DefaultLink = l.name
		}
	}
	return h
}

func comparePrefix(a, b netip.Prefix) int {
	return cmp.Or(a.Addr().Compare(b.Addr()), cmp.Compare(a.Bits(), b.Bits()))
}
