package fake

import (
	"net/netip"
	"syscall"

	"github.com/ovlnet/ovl/internal/dataplane"
)

func (k *Kernel) applyLink(s *space, verb dataplane.Verb, r dataplane.Link) error {
	have, exists := s.links[r.Name]
	if verb == dataplane.Delete {
		if !exists {
			return nil
		}
		if !have.ours() && !have.halfMade(r) {
			return errForeign
		}
		k.removeLink(have)
		return nil
	}
	if exists && !have.ours() && !have.halfMade(r) {
		return errForeign
	}
	if r.Master != "" {
		if _, ok := s.links[r.Master]; !ok {
			return syscall.ENODEV
		}
	}
	if exists && !have.fits(r) {
		k.removeLink(have)
		exists = false
	}
	if !exists {
		var err error
		if have, err = k.makeLink(s, r); err != nil {
			return err
		}
	}
	return k.change(have, r)
}

// change gives l the attributes of r, and what follows from them to its children:
// none can carry more than its parent.
func (k *Kernel) change(l *link, r dataplane.Link) error {
	if parent, ok := k.spaces[dataplane.Host].links[l.Parent]; ok && r.MTU > parent.MTU {
		return syscall.EINVAL
	}
	l.set(r)
	for _, child := range k.children(l) {
		child.MTU = min(child.MTU, l.MTU)
	}
	return nil
}

// halfMade reports whether l was left behind by an agent that died between
// making r and giving it its alias.
func (l *link) halfMade(r dataplane.Link) bool {
	switch {
	case l.Alias != "" || l.Kind != r.Kind:
		return false
	case r.Peer != "":
		return l.pair != nil && l.pair.NS == dataplane.Host && l.pair.Name == r.Peer
	case r.Kind == dataplane.Macvlan && r.NS != dataplane.Host:
		return l.Parent == r.Parent && l.MAC == r.MAC
	}
	return l.NS == dataplane.Host && dataplane.OwnsName(l.Name)
}

// fits reports whether l can be turned into r while it lives.
func (l *link) fits(r dataplane.Link) bool {
	return l.Kind == r.Kind && l.VXLAN == r.VXLAN && l.row().Peer == r.Peer && l.Parent == r.Parent && l.VLANID == r.VLANID
}

func (k *Kernel) makeLink(s *space, r dataplane.Link) (*link, error) {
	host := k.spaces[dataplane.Host]
	switch {
	case r.Kind == dataplane.Veth && r.Peer == "":
		return nil, syscall.ENODEV // only the other end makes a pair
	case r.Kind == dataplane.Veth:
		if p, ok := host.links[r.Peer]; ok {
			if !p.ours() && (p.Alias != "" || !dataplane.OwnsName(p.Name)) {
				return nil, errForeign
			}
			k.removeLink(p)
		}
	case r.Kind == dataplane.VXLAN:
		for _, l := range s.links {
			if l.Kind == dataplane.VXLAN && l.VXLAN.VNI == r.VXLAN.VNI && l.VXLAN.Port == r.VXLAN.Port && l.VXLAN.Local.Is4() == r.VXLAN.Local.Is4() {
				return nil, syscall.EEXIST
			}
		}
	}
	if err := k.mayBeOn(s, r); err != nil {
		return nil, err
	}
	l := s.add(dataplane.Link{LinkKey: r.LinkKey, Kind: r.Kind, VXLAN: r.VXLAN, MAC: r.MAC, MTU: r.MTU, Parent: r.Parent, VLANID: r.VLANID})
	if r.Peer != "" {
		l.pair = host.add(dataplane.Link{LinkKey: dataplane.LinkKey{Name: r.Peer}, Kind: dataplane.Veth, MTU: r.MTU})
		l.pair.pair = l
	}
	return l, nil
}

// set gives l the attributes of r that can change, with what Linux does
// besides: a changed MAC flushes neighbours; going down flushes neighbours and
// routes, and IPv6 addresses; another bridge has no entry that leads here.
func (l *link) set(r dataplane.Link) {
	if l.MAC != r.MAC {
		clear(l.neighs)
	}
	if l.Up && !r.Up {
		clear(l.neighs)
		l.in.dropRoutes(func(r dataplane.Route) bool { return r.Link == l.Name })
		for p := range l.addrs {
			if !p.Addr().Is4() {
				l.in.removeAddr(l, p)
			}
		}
	}
	if l.Master != r.Master {
		clear(l.fdb) // of the bridge's entries, those that lead here
	}
	l.MAC, l.MTU, l.Up, l.Alias, l.Master = r.MAC, r.MTU, r.Up, r.Alias, r.Master
	l.Hairpin = r.Hairpin && r.Master != ""
}

// removeLink deletes l, its pair, what has it as its parent, and all that hung on
// them.
func (k *Kernel) removeLink(l *link) {
	delete(l.in.links, l.Name)
	for _, child := range k.children(l) {
		k.removeLink(child)
	}
	delete(l.in.sysctls, dataplane.RouteLocalnet(l.Name).Name)
	l.in.dropRoutes(func(r dataplane.Route) bool { return r.Link == l.Name })
	for p := range l.addrs {
		l.in.removeAddr(l, p)
	}
	for _, port := range l.in.links {
		if port.Master == l.Name {
			port.Master, port.Hairpin = "", false
			clear(port.fdb)
		}
	}
	if p := l.pair; p != nil {
		l.pair, p.pair = nil, nil
		k.removeLink(p)
	}
}

func (s *space) dropRoutes(match func(dataplane.Route) bool) {
	for dst, r := range s.routes {
		if match(r.Route) {
			delete(s.routes, dst)
		}
	}
}

// removeAddr takes an address away. Linux takes the IPv4 routes along that
// prefer it as their source, and takes the preference out of IPv6 ones.
func (s *space) removeAddr(l *link, p netip.Prefix) {
	delete(l.addrs, p)
	if s.hasAddr(p.Addr()) {
		return
	}
	for dst, r := range s.routes {
		switch {
		case r.Src != p.Addr():
		case r.Src.Is4():
			delete(s.routes, dst)
		default:
			r.Src = netip.Addr{}
			s.routes[dst] = r
		}
	}
}

func (s *space) hasAddr(a netip.Addr) bool {
	for _, l := range s.links {
		for p := range l.addrs {
			if p.Addr() == a {
				return true
			}
		}
	}
	return false
}
