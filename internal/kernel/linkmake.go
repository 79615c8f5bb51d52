package kernel

import (
	"errors"

	"golang.org/x/sys/unix"

	"github.com/ovlnet/ovl/internal/dataplane"
)

// vethInfoPeer is VETH_INFO_PEER of include/uapi/linux/veth.h.
const vethInfoPeer = 1

// makeLink makes a link that is not there. Its MAC is in the call that makes
// it: udev gives a link whose MAC was left to chance one made from the machine's
// ID and the link's name, which cloned machines share.
func (l *Linux) makeLink(s *space, r dataplane.Link) error {
	switch {
	case r.Kind == dataplane.Bridge:
		return s.makeBridge(r)
	case r.Kind == dataplane.VXLAN:
		return s.makeVXLAN(r)
	case r.Kind == dataplane.Veth && r.Peer != "" && s != l.host:
		return l.makeVeth(s, r)
	case r.Kind == dataplane.Veth:
		return unix.ENODEV // the container's end makes the pair
	}
	return refusal("a link of kind " + string(r.Kind) + " is none that we make")
}

func creation(r dataplane.Link) *message {
	m := request(unix.RTM_NEWLINK, unix.NLM_F_CREATE|unix.NLM_F_EXCL).ifinfo(0, 0, 0)
	m.attrText(unix.IFLA_IFNAME, r.Name)
	m.attr(unix.IFLA_ADDRESS, r.MAC[:])
	return m
}

// makeBridge leaves the MTU to setLink: only a change of it makes the kernel
// forget to follow the ports, and fall back to 1500 when the last one leaves
// (br_mtu_auto_adjust in net/bridge/br_if.c).
func (s *space) makeBridge(r dataplane.Link) error {
	m := creation(r)
	m.nest(unix.IFLA_LINKINFO, func() {
		m.attrText(unix.IFLA_INFO_KIND, string(dataplane.Bridge))
		m.nest(unix.IFLA_INFO_DATA, func() {
			m.attr32(unix.IFLA_BR_STP_STATE, 0)
			m.attr8(unix.IFLA_BR_MCAST_SNOOPING, 0)
		})
	})
	return s.conn.do(m, nil)
}

// makeVXLAN makes a device that floods nowhere and learns nothing. The MTU is
// explicit: without a parent it would be 1500, whatever carries the tunnel.
func (s *space) makeVXLAN(r dataplane.Link) error {
	if !r.VXLAN.Local.IsValid() || !r.VXLAN.VNI.Valid() {
		return refusal("a VXLAN device needs an identifier and a local address")
	}
	m := creation(r)
	m.attr32(unix.IFLA_MTU, uint32(r.MTU))
	m.nest(unix.IFLA_LINKINFO, func() {
		m.attrText(unix.IFLA_INFO_KIND, string(dataplane.VXLAN))
		m.nest(unix.IFLA_INFO_DATA, func() {
			m.attr32(unix.IFLA_VXLAN_ID, uint32(r.VXLAN.VNI))
			m.attr(localAttr(r.VXLAN.Local), r.VXLAN.Local.AsSlice())
			m.attr(unix.IFLA_VXLAN_PORT, bigEndian16(r.VXLAN.Port))
			m.attr8(unix.IFLA_VXLAN_LEARNING, 0)
		})
	})
	return s.conn.do(m, nil)
}

// makeVeth makes both ends of a pair at once, the container's right in its
// namespace, so that it is never seen on the host. A host's end of that name
// that has another partner is cleared away first.
func (l *Linux) makeVeth(s *space, r dataplane.Link) error {
	old, err := l.host.linkByName(r.Peer)
	switch {
	case err == nil && !dataplane.OwnsLink(dataplane.Host, old.name, old.alias) && (old.alias != "" || !dataplane.OwnsName(old.name)):
		return refusal("a link " + r.Peer + " exists on the host and is not ours: rename or delete it")
	case err == nil:
		if err := l.host.deleteLink(old); err != nil {
			return err
		}
	case !errors.Is(err, unix.ENODEV):
		return err
	}
	host := r
	host.Name = r.Peer
	// The row of the host's end says which MAC it has. Until then any will do
	// that udev leaves alone.
	host.MAC[0] ^= 0x40
	m := creation(host)
	m.attr32(unix.IFLA_MTU, uint32(r.MTU))
	m.nest(unix.IFLA_LINKINFO, func() {
		m.attrText(unix.IFLA_INFO_KIND, string(dataplane.Veth))
		m.nest(unix.IFLA_INFO_DATA, func() {
			m.nest(vethInfoPeer, func() {
				m.ifinfo(0, 0, 0)
				m.attrText(unix.IFLA_IFNAME, r.Name)
				m.attr(unix.IFLA_ADDRESS, r.MAC[:])
				m.attr32(unix.IFLA_MTU, uint32(r.MTU))
				m.attr32(unix.IFLA_NET_NS_FD, uint32(s.file.Fd()))
			})
		})
	})
	return l.host.conn.do(m, nil)
}
