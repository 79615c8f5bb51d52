package kernel

import (
	"errors"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/ovlnet/ovl/internal/dataplane"
)

// makeLink makes a link that is not there. Its MAC is in the call that makes
// it: udev gives a link whose MAC was left to chance one made from the machine's
// ID and the link's name, which cloned machines share.
func (l *Linux) makeLink(s *space, r dataplane.Link) error {
	switch {
	case r.Kind == dataplane.Bridge:
		return s.makeBridge(r)
	case r.Kind == dataplane.VXLAN:
		return s.makeVXLAN(r)
	case r.Kind == dataplane.Veth && r.Peer != "":
		return l.makeVeth(s, r)
	case r.Kind == dataplane.Veth:
		return unix.ENODEV // the container's end makes the pair
	case r.Kind == dataplane.Macvlan:
		return l.makeMacvlan(s, r)
	case r.Kind == dataplane.VLAN && s == l.host:
		return l.makeVLAN(r)
	}
	return refusal("a link of kind " + string(r.Kind) + " is none that we make")
}

func creation(r dataplane.Link) *nl.NetlinkRequest {
	m := change(unix.RTM_NEWLINK, unix.NLM_F_CREATE|unix.NLM_F_EXCL, ifinfo(0))
	add(m, unix.IFLA_IFNAME, nl.ZeroTerminated(r.Name))
	add(m, unix.IFLA_ADDRESS, r.MAC[:])
	return m
}

// makeBridge leaves the MTU to setLink: only a change of it makes the kernel
// forget to follow the ports, and fall back to 1500 when the last one leaves
// (br_mtu_auto_adjust in net/bridge/br_if.c).
func (s *space) makeBridge(r dataplane.Link) error {
	m := creation(r)
	data := addInfo(m, dataplane.Bridge)
	data.AddRtAttr(unix.IFLA_BR_STP_STATE, nl.Uint32Attr(0))
	data.AddRtAttr(unix.IFLA_BR_MCAST_SNOOPING, nl.Uint8Attr(0))
	return s.conn.do(m, nil)
}

// makeVXLAN makes a device that floods nowhere and learns nothing. The MTU is
// explicit: without a parent it would be 1500, whatever carries the tunnel.
func (s *space) makeVXLAN(r dataplane.Link) error {
	if !r.VXLAN.Local.IsValid() || !r.VXLAN.VNI.Valid() {
		return refusal("a VXLAN device needs an identifier and a local address")
	}
	m := creation(r)
	add(m, unix.IFLA_MTU, nl.Uint32Attr(uint32(r.MTU)))
	data := addInfo(m, dataplane.VXLAN)
	data.AddRtAttr(unix.IFLA_VXLAN_ID, nl.Uint32Attr(uint32(r.VXLAN.VNI)))
	data.AddRtAttr(localAttr(r.VXLAN.Local), r.VXLAN.Local.AsSlice())
	data.AddRtAttr(unix.IFLA_VXLAN_PORT, nl.BEUint16Attr(r.VXLAN.Port))
	data.AddRtAttr(unix.IFLA_VXLAN_LEARNING, nl.Uint8Attr(0))
	return s.conn.do(m, nil)
}

// makeVeth makes both ends of a pair at once, the container's right in its
// namespace, so that it is never seen on the host where it does not belong there. A host's end of that name
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
	add(m, unix.IFLA_MTU, nl.Uint32Attr(uint32(r.MTU)))
	peer := addInfo(m, dataplane.Veth).AddRtAttr(nl.VETH_INFO_PEER, nil)
	nl.NewIfInfomsgChild(peer, unix.AF_UNSPEC)
	peer.AddRtAttr(unix.IFLA_IFNAME, nl.ZeroTerminated(r.Name))
	peer.AddRtAttr(unix.IFLA_ADDRESS, r.MAC[:])
	peer.AddRtAttr(unix.IFLA_MTU, nl.Uint32Attr(uint32(r.MTU)))
	peer.AddRtAttr(unix.IFLA_NET_NS_FD, nl.Uint32Attr(uint32(s.file.Fd())))
	return l.host.conn.do(m, nil)
}
