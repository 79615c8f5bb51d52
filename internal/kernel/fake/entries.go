package fake

import (
	"net/netip"
	"syscall"

	"github.com/ovlnet/ovl/internal/dataplane"
)

func (s *space) applyAddr(verb dataplane.Verb, r dataplane.Addr) error {
	l, ok := s.links[r.Link]
	switch {
	case verb == dataplane.Delete && ok:
		s.removeAddr(l, r.Prefix)
		return nil
	case verb == dataplane.Delete:
		return nil
	case !ok:
		return syscall.ENODEV
	case !l.ours():
		return errForeign
	}
	l.addrs[r.Prefix] = struct{}{}
	return nil
}

func (s *space) applyQdisc(verb dataplane.Verb, r dataplane.Qdisc) error {
	l, ok := s.links[r.Link]
	switch {
	case verb == dataplane.Delete:
		if ok && l.qdisc != nil && !l.qdisc.foreign {
			l.qdisc = nil
		}
		return nil
	case !ok:
		return syscall.ENODEV
	case !l.ours():
		return errForeign
	case l.qdisc != nil && l.qdisc.foreign:
		return syscall.EEXIST
	case r.Buffer == 0:
		return syscall.EINVAL // no frame would fit
	}
	l.qdisc = &qdisc{r, false}
	return nil
}

func (s *space) applySysctl(verb dataplane.Verb, r dataplane.Sysctl) error {
	if verb == dataplane.Delete {
		return nil // never owned, so never reverted
	}
	if k, ok := r.Link(); ok {
		if _, exists := s.links[k.Name]; !exists {
			return syscall.ENOENT
		}
	}
	s.sysctls[r.Name] = r.Value
	return nil
}

func (s *space) applyNeigh(verb dataplane.Verb, r dataplane.Neigh) error {
	l, ok := s.links[r.Link]
	switch {
	case verb == dataplane.Delete && ok:
		delete(l.neighs, r.IP)
		return nil
	case verb == dataplane.Delete:
		return nil
	case !ok:
		return syscall.ENODEV
	case !l.ours():
		return errForeign
	}
	l.neighs[r.IP] = r.MAC
	return nil
}

func (s *space) applyFDB(verb dataplane.Verb, r dataplane.FDB) error {
	l, ok := s.links[r.Link]
	switch {
	case verb == dataplane.Delete && ok:
		delete(l.fdb, r.MAC)
		return nil
	case verb == dataplane.Delete:
		return nil
	case !ok:
		return syscall.ENODEV
	case !l.ours():
		return errForeign
	case !r.Dst.IsValid():
		if l.Master == "" {
			return syscall.EOPNOTSUPP
		}
	case l.Kind != dataplane.VXLAN:
		return syscall.EOPNOTSUPP
	case l.VXLAN.Local.Is4() != r.Dst.Is4():
		return syscall.EAFNOSUPPORT
	}
	if !r.Dst.IsValid() { // a bridge has one entry of a MAC
		for _, other := range s.links {
			if other.Master == l.Master {
				delete(other.fdb, r.MAC)
			}
		}
	}
	l.fdb[r.MAC] = r.Dst
	return nil
}

func (s *space) applyRoute(verb dataplane.Verb, r dataplane.Route) error {
	have, exists := s.routes[r.Dst]
	if verb == dataplane.Delete {
		if exists && !have.foreign {
			delete(s.routes, r.Dst)
		}
		return nil
	}
	if exists && have.foreign {
		return errForeign
	}
	return s.setRoute(route{r, false})
}

// setRoute adds or replaces a route if Linux would.
func (s *space) setRoute(r route) error {
	if r.Unreachable {
		s.routes[r.Dst] = r
		return nil
	}
	l, ok := s.links[r.Link]
	switch {
	case !ok:
		return syscall.ENODEV
	case !l.Up:
		return syscall.ENETDOWN
	case r.Via.IsValid() && !r.OnLink && !s.reaches(r.Link, r.Via):
		return syscall.ENETUNREACH
	case r.Src.IsValid() && !s.hasAddr(r.Src):
		return syscall.EINVAL
	}
	s.routes[r.Dst] = r
	return nil
}

// reaches reports whether a route leads straight from link to via.
func (s *space) reaches(link string, via netip.Addr) bool {
	for dst, r := range s.routes {
		if r.Link == link && !r.Via.IsValid() && dst.Contains(via) {
			return true
		}
	}
	return false
}
