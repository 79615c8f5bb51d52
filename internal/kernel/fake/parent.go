package fake

import (
	"fmt"
	"syscall"

	"github.com/ovlnet/ovl/internal/dataplane"
)

// mayBeOn returns why Linux would not make r, a link that may have a parent, or
// nil.
func (k *Kernel) mayBeOn(s *space, r dataplane.Link) error {
	switch r.Kind {
	case dataplane.VLAN:
		if s.name != dataplane.Host || r.VLANID < 1 || r.VLANID > 4094 {
			return syscall.EINVAL
		}
		if k.NoVLAN {
			return fmt.Errorf("this kernel has no 802.1q (module 8021q): %w", syscall.EOPNOTSUPP)
		}
	case dataplane.Macvlan:
	default:
		return nil
	}
	parent, ok := k.spaces[dataplane.Host].links[r.Parent]
	switch {
	case !ok:
		return syscall.ENODEV
	case r.MTU > parent.MTU:
		return syscall.EINVAL
	case parent.Kind == dataplane.Macvlan || parent.Master != "":
		return syscall.EBUSY
	}
	for _, l := range k.children(parent) {
		if r.Kind == dataplane.VLAN && l.Kind == dataplane.VLAN && l.VLANID == r.VLANID {
			return syscall.EEXIST
		}
	}
	return nil
}

// children returns the links, in all namespaces, whose parent is l.
func (k *Kernel) children(l *link) []*link {
	if l.NS != dataplane.Host {
		return nil
	}
	var out []*link
	for _, s := range k.spaces {
		for _, child := range s.links {
			if child.Parent == l.Name {
				out = append(out, child)
			}
		}
	}
	return out
}
