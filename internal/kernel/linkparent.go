package kernel

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/ovlnet/ovl/internal/dataplane"
)

// makeMacvlan makes a link on a segment that a link of the host is on: right in
// its namespace, so that it is never seen on the host. In the mode bridge the
// macvlans of one parent reach each other without the wire; none of them reaches
// the parent itself (macvlan_queue_xmit in drivers/net/macvlan.c).
func (l *Linux) makeMacvlan(s *space, r dataplane.Link) error {
	m, info, err := l.onParent(r)
	if err != nil {
		return err
	}
	info.AddRtAttr(nl.IFLA_MACVLAN_MODE, nl.Uint32Attr(nl.MACVLAN_MODE_BRIDGE))
	if s != l.host {
		add(m, unix.IFLA_NET_NS_FD, nl.Uint32Attr(uint32(s.file.Fd())))
	}
	err = l.host.conn.do(m, nil)
	switch {
	case errors.Is(err, unix.EOPNOTSUPP):
		return fmt.Errorf("this kernel has no macvlan (module macvlan): load it with `modprobe macvlan`, or install the distribution's extra kernel modules: %w", err)
	case errors.Is(err, unix.EBUSY):
		return fmt.Errorf("interface %s is taken by a bridge, a bond, an ipvlan or the like, and cannot carry macvlans as well: %w", r.Parent, err)
	}
	return err
}

// makeVLAN makes a link that sends and receives the frames of one VLAN of its
// parent's segment.
func (l *Linux) makeVLAN(r dataplane.Link) error {
	m, info, err := l.onParent(r)
	if err != nil {
		return err
	}
	info.AddRtAttr(nl.IFLA_VLAN_ID, nl.Uint16Attr(r.VLANID))
	err = l.host.conn.do(m, nil)
	if errors.Is(err, unix.EOPNOTSUPP) {
		return fmt.Errorf("this kernel has no 802.1q (module 8021q): load it with `modprobe 8021q`, or install the distribution's extra kernel modules: %w", err)
	}
	return err
}

// onParent begins the making of a link that has a parent on the host; info takes
// what is particular to its kind. The MTU is in the call: a kernel that does not
// know of a limit must not give it one.
func (l *Linux) onParent(r dataplane.Link) (m *nl.NetlinkRequest, info *nl.RtAttr, err error) {
	if r.Parent == "" {
		return nil, nil, refusal("a link of kind " + string(r.Kind) + " needs a parent")
	}
	parent, err := l.host.linkByName(r.Parent)
	if err != nil {
		return nil, nil, fmt.Errorf("interface %s: %w", r.Parent, err)
	}
	m = creation(r)
	add(m, unix.IFLA_MTU, nl.Uint32Attr(uint32(r.MTU)))
	add(m, unix.IFLA_LINK, nl.Uint32Attr(uint32(parent.index)))
	return m, addInfo(m, r.Kind), nil
}

// manners are what a link on a segment of others needs before it is up. Whoever
// routes there must not give it addresses and routes (accept_ra): they are rows.
// And a host that has two links there, its own and ours, must answer on ours for
// the address of ours alone, and ask in its name alone (arp_ignore, arp_announce
// of Documentation/networking/ip-sysctl.rst): else the neighbours would take ours
// for the way to all of the host's addresses.
var manners = []struct{ name, value string }{
	{"net/ipv6/conf/%s/accept_ra", "0"},
	{"net/ipv4/conf/%s/arp_ignore", "1"},
	{"net/ipv4/conf/%s/arp_announce", "2"},
}

// mind sets the manners of a new link. A kernel without a family has nothing to
// be told of it.
func (s *space) mind(link string) error {
	set := func() error {
		for _, p := range manners {
			if err := writeSysctl(filepath.Join(s.sysctls, fmt.Sprintf(p.name, link)), p.value); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return fmt.Errorf("set parameters of link %s: %w", link, err)
			}
		}
		return nil
	}
	if s.ns == dataplane.Host {
		return set()
	}
	return within(s.file, set)
}
