package kernel

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/ovlnet/ovl/internal/cluster"
	"github.com/ovlnet/ovl/internal/dataplane"
)

// linkInfo is a link as the kernel describes it.
type linkInfo struct {
	index       int32
	name, alias string
	kind        string
	mac         cluster.MAC
	mtu         int
	flags       uint32
	master      int32
	peer        int32 // IFLA_LINK: of a veth, the index of the other end; of a macvlan or VLAN, of its parent
	peerNS      int32 // namespace of the peer, as this one numbers it; -1 = this one
	vlan        uint16
	vxlan       dataplane.VXLANAttrs
	learning    bool
	hairpin     bool // as a port of a bridge
	ours        bool
}

// decodeLink has the library decode a struct ifinfomsg with its attributes.
func decodeLink(body []byte) (linkInfo, bool) {
	if len(body) < unix.SizeofIfInfomsg || body[0] != unix.AF_UNSPEC {
		return linkInfo{}, false
	}
	link, err := netlink.LinkDeserialize(nil, body)
	if err != nil {
		return linkInfo{}, false
	}
	a := link.Attrs()
	l := linkInfo{
		index: int32(a.Index), name: a.Name, alias: a.Alias, kind: link.Type(), mtu: a.MTU, flags: a.RawFlags,
		master: int32(a.MasterIndex), peer: int32(a.ParentIndex), peerNS: int32(a.NetNsID),
	}
	if len(a.HardwareAddr) == len(l.mac) {
		copy(l.mac[:], a.HardwareAddr)
	}
	if v, ok := link.(*netlink.Vxlan); ok {
		l.vxlan = dataplane.VXLANAttrs{VNI: cluster.VNI(v.VxlanId), Port: uint16(v.Port), Local: addr(v.SrcAddr)}
		l.learning = v.Learning
	}
	if v, ok := link.(*netlink.Vlan); ok {
		l.vlan = uint16(v.VlanId)
	}
	if v, ok := link.(*netlink.Macvlan); ok && v.Mode != netlink.MACVLAN_MODE_BRIDGE {
		// No row says the mode, since there is but one. To a row another one is
		// another kind, and so repaired.
		l.kind += fmt.Sprintf(" of mode %d", v.Mode)
	}
	l.hairpin = l.master != 0 && hairpin(body[unix.SizeofIfInfomsg:])
	return l, l.index > 0 && l.name != ""
}

// hairpin reads the one attribute of a bridge's port that is ours, which the
// library leaves out.
func hairpin(attrs []byte) bool {
	mode := nested(attrs, unix.IFLA_LINKINFO, nl.IFLA_INFO_SLAVE_DATA, nl.IFLA_BRPORT_MODE)
	return len(mode) == 1 && mode[0] != 0
}

// linkRow returns the row of a link of ours. all may hold the links of its
// namespace, to name its master.
func (l *Linux) linkRow(s *space, i *linkInfo, all map[int32]*linkInfo) (dataplane.Link, error) {
	r := dataplane.Link{
		LinkKey: dataplane.LinkKey{NS: s.ns, Name: i.name}, Kind: dataplane.LinkKind(i.kind),
		MAC: i.mac, MTU: i.mtu, Up: i.flags&unix.IFF_UP != 0, Alias: i.alias, VXLAN: i.vxlan, VLANID: i.vlan,
	}
	if m, ok := all[i.master]; ok {
		r.Master = m.name
	}
	r.Hairpin = i.hairpin && i.master != 0
	var err error
	switch r.Kind {
	case dataplane.Veth:
		r.Peer, err = l.peerName(s, i, all)
	case dataplane.Macvlan, dataplane.VLAN:
		r.Parent, err = l.parentName(s, i, all)
	case dataplane.Bridge, dataplane.VXLAN:
	}
	return r, err
}

// peerName returns the name of the host's end of a container's veth; empty if
// the other end is elsewhere or gone. On the host only a container's end that waits
// there names its peer.
func (l *Linux) peerName(s *space, i *linkInfo, all map[int32]*linkInfo) (string, error) {
	switch {
	case s != l.host && i.peerNS >= 0:
		return l.onHost(s, i)
	case s != l.host || i.peerNS >= 0 || !strings.HasPrefix(i.name, dataplane.OfferPrefix):
		return "", nil
	}
	if p, ok := all[i.peer]; ok {
		return p.name, nil
	}
	return l.hostName(i.peer)
}

// parentName returns the name of the link that a macvlan or VLAN is on; empty if
// that is not on the host.
func (l *Linux) parentName(s *space, i *linkInfo, all map[int32]*linkInfo) (string, error) {
	switch {
	case (s == l.host) != (i.peerNS < 0):
		return "", nil
	case s != l.host:
		return l.onHost(s, i)
	}
	if p, ok := all[i.peer]; ok {
		return p.name, nil
	}
	return l.hostName(i.peer)
}

// onHost returns the name of the link that i, in a container, names by IFLA_LINK,
// if that is on the host.
func (l *Linux) onHost(s *space, i *linkInfo) (string, error) {
	id, err := s.conn.nsid(l.host.file)
	if err != nil || id != i.peerNS {
		return "", err
	}
	return l.hostName(i.peer)
}

func (l *Linux) hostName(index int32) (string, error) {
	p, err := l.host.linkByIndex(index)
	if errors.Is(err, unix.ENODEV) {
		return "", nil
	}
	return p.name, err
}

// linkByName reads one link; the error is ENODEV if there is none.
func (s *space) linkByName(name string) (linkInfo, error) {
	if name == "" || len(name) >= unix.IFNAMSIZ {
		return linkInfo{}, refusal(fmt.Sprintf("%q is no name of a link: want 1 to 15 bytes", name))
	}
	m := ask(unix.RTM_GETLINK, ifinfo(0))
	add(m, unix.IFLA_IFNAME, nl.ZeroTerminated(name))
	return s.getLink(m)
}

func (s *space) linkByIndex(index int32) (linkInfo, error) {
	return s.getLink(ask(unix.RTM_GETLINK, ifinfo(index)))
}

func (s *space) getLink(m *nl.NetlinkRequest) (l linkInfo, err error) {
	err = s.conn.do(m, func(body []byte) { l, _ = decodeLink(body) })
	return l, err
}

// ownIndex returns the index of a link of ours, from memory if it is there.
func (s *space) ownIndex(name string) (int32, error) {
	if i, ok := s.index[name]; ok {
		return i, nil
	}
	l, err := s.linkByName(name)
	switch {
	case err != nil:
		return 0, fmt.Errorf("link %s: %w", name, err)
	case !dataplane.OwnsLink(s.ns, l.name, l.alias):
		return 0, refusal("link " + name + " is not ours")
	}
	s.index[name] = l.index
	return l.index, nil
}

// onLink calls write with the index of a link of ours. If the kernel does not
// take it, the link may have been made anew under its name since it was seen:
// then write is called once more, with the new index.
func (s *space) onLink(name string, write func(index int32) error) error {
	old, err := s.ownIndex(name)
	if err != nil {
		return err
	}
	err = write(old)
	if err == nil || !errors.Is(err, unix.ENODEV) && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENXIO) {
		return err
	}
	delete(s.index, name)
	if now, lookErr := s.ownIndex(name); lookErr != nil {
		return lookErr
	} else if now != old {
		return write(now)
	}
	return err
}

func (l *Linux) applyLink(s *space, verb dataplane.Verb, r dataplane.Link) error {
	have, err := s.linkByName(r.Name)
	missing := errors.Is(err, unix.ENODEV)
	if err != nil && !missing {
		return err
	}
	if !missing {
		var mine bool
		if mine, err = l.mayTake(s, &have, r); err != nil {
			return err
		}
		if !mine {
			return refusal("a link of that name exists and is not ours: rename or delete it")
		}
	}
	if verb == dataplane.Delete {
		if missing {
			return nil
		}
		return s.deleteLink(have)
	}
	return l.ensureLink(s, have, missing, r)
}

// ensureLink makes r so. A link that cannot become r while it lives is
// replaced.
func (l *Linux) ensureLink(s *space, have linkInfo, missing bool, r dataplane.Link) error {
	if !missing {
		row, err := l.linkRow(s, &have, nil)
		if err != nil {
			return err
		}
		if row.Kind != r.Kind || row.VXLAN != r.VXLAN || row.Peer != r.Peer || row.Parent != r.Parent || row.VLANID != r.VLANID {
			if err := s.deleteLink(have); err != nil {
				return err
			}
			missing = true
		}
	}
	if missing {
		if err := l.makeLink(s, r); err != nil {
			return err
		}
		var err error
		if have, err = s.linkByName(r.Name); err != nil {
			return err
		}
	}
	if err := s.setLink(have, r); err != nil {
		return err
	}
	s.index[r.Name] = have.index
	return nil
}

// mayTake reports whether a link that stands where r should is ours: it has our
// mark, or it is half-made. An agent that died between making a link and
// marking it left one without any alias; a veth of a container is known by its
// other end, whose name is ours, a macvlan by the MAC that it was made with.
func (l *Linux) mayTake(s *space, have *linkInfo, r dataplane.Link) (bool, error) {
	if dataplane.OwnsLink(s.ns, have.name, have.alias) {
		return true, nil
	}
	if have.alias != "" || have.kind != string(r.Kind) {
		return false, nil
	}
	if s == l.host {
		return dataplane.OwnsName(have.name), nil
	}
	if r.Kind == dataplane.Macvlan {
		parent, err := l.parentName(s, have, nil)
		return parent != "" && parent == r.Parent && have.mac == r.MAC, err
	}
	peer, err := l.peerName(s, have, nil)
	return peer != "" && peer == r.Peer && dataplane.OwnsName(peer), err
}

func (s *space) deleteLink(l linkInfo) error {
	delete(s.index, l.name)
	err := s.conn.do(change(unix.RTM_DELLINK, 0, ifinfo(l.index)), nil)
	if errors.Is(err, unix.ENODEV) {
		return nil
	}
	return err
}

// setLink gives a link the attributes of r that can change while it lives, all
// in one message but the one that must come before the link is up.
func (s *space) setLink(have linkInfo, r dataplane.Link) error {
	if s.ns == dataplane.Host && have.alias == "" {
		if err := s.quiet(have.index); err != nil {
			return err
		}
	}
	if (r.Kind == dataplane.Macvlan || r.Kind == dataplane.VLAN) && have.alias == "" {
		if err := s.mind(r.Name); err != nil {
			return err
		}
	}
	h := ifinfo(have.index)
	h.Change = unix.IFF_UP
	if r.Up {
		h.Flags = unix.IFF_UP
	}
	m := change(unix.RTM_NEWLINK, 0, h)
	if have.mac != r.MAC {
		add(m, unix.IFLA_ADDRESS, r.MAC[:])
	}
	if have.mtu != r.MTU {
		add(m, unix.IFLA_MTU, nl.Uint32Attr(uint32(r.MTU)))
	}
	if have.alias != r.Alias {
		add(m, unix.IFLA_IFALIAS, []byte(r.Alias))
	}
	master := int32(0)
	if r.Master != "" {
		l, err := s.linkByName(r.Master)
		if err != nil {
			return fmt.Errorf("bridge %s: %w", r.Master, err)
		}
		master = l.index
	}
	if have.master != master {
		add(m, unix.IFLA_MASTER, nl.Uint32Attr(uint32(master)))
	}
	if len(m.Data) > 1 || have.flags&unix.IFF_UP != h.Flags {
		err := s.conn.do(m, nil)
		if errors.Is(err, unix.EXFULL) { // br_add_if in net/bridge/br_if.c
			return refusal("bridge " + r.Master + " has no port left: take off it what is not ovl's")
		}
		if err != nil {
			return err
		}
	}
	if master != 0 && r.Up && have.flags&unix.IFF_UP == 0 {
		if err := s.carry(have, master); err != nil {
			return err
		}
	}
	if was := have.hairpin && have.master == master; was != r.Hairpin && master != 0 {
		if err := s.setHairpin(have.index, r.Hairpin); err != nil {
			return err
		}
	}
	if have.learning && r.Kind == dataplane.VXLAN {
		return s.stopLearning(have.index)
	}
	return nil
}

// carry makes a port that has just come up carry frames at once, both ways. A bridge
// waits for its port, a veth for its other end, and a bridge that had no port for the
// first one, until linkwatch has seen the carrier: it looks once a second if much
// happens, and until then they drop what they are given. The first packets of a
// container that is told to be attached would be lost. To be asked for a link makes
// the kernel look now (linkwatch_sync_dev in rtnl_getlink, Linux 6.9; an older one is
// only asked).
func (s *space) carry(have linkInfo, master int32) error {
	for _, index := range []int32{have.index, master} {
		if _, err := s.linkByIndex(index); err != nil {
			return err
		}
	}
	if have.kind != string(dataplane.Veth) || have.peerNS < 0 {
		return nil
	}
	m := ask(unix.RTM_GETLINK, ifinfo(have.peer))
	add(m, unix.IFLA_TARGET_NETNSID, nl.Uint32Attr(uint32(have.peerNS)))
	if _, err := s.getLink(m); err != nil && !errors.Is(err, unix.ENODEV) { // it went with its container
		return fmt.Errorf("look at the other end: %w", err)
	}
	return nil
}

// in6AddrGenModeNone is IN6_ADDR_GEN_MODE_NONE of include/uapi/linux/if_link.h.
const in6AddrGenModeNone = 1

// quiet keeps the kernel from giving a link on the host a link-local address of
// its own making, and so from soliciting routers and reporting multicast
// groups on it. A kernel without IPv6 has nothing to be kept from.
func (s *space) quiet(index int32) error {
	m := change(unix.RTM_NEWLINK, 0, ifinfo(index))
	spec := nl.NewRtAttr(unix.IFLA_AF_SPEC, nil)
	spec.AddRtAttr(unix.AF_INET6, nil).AddRtAttr(unix.IFLA_INET6_ADDR_GEN_MODE, nl.Uint8Attr(in6AddrGenModeNone))
	m.AddData(spec)
	err := s.conn.do(m, nil)
	if errors.Is(err, unix.EAFNOSUPPORT) || errors.Is(err, unix.EOPNOTSUPP) {
		return nil
	}
	return err
}

// setHairpin lets a bridge send frames back to the port that they came from, or
// not.
func (s *space) setHairpin(index int32, on bool) error {
	m := change(unix.RTM_NEWLINK, 0, ifinfo(index))
	info := nl.NewRtAttr(unix.IFLA_LINKINFO, nil)
	info.AddRtAttr(nl.IFLA_INFO_SLAVE_KIND, nl.ZeroTerminated(string(dataplane.Bridge)))
	var mode uint8
	if on {
		mode = 1
	}
	info.AddRtAttr(nl.IFLA_INFO_SLAVE_DATA, nil).AddRtAttr(nl.IFLA_BRPORT_MODE, nl.Uint8Attr(mode))
	m.AddData(info)
	return s.conn.do(m, nil)
}

func (s *space) stopLearning(index int32) error {
	m := change(unix.RTM_NEWLINK, 0, ifinfo(index))
	addInfo(m, dataplane.VXLAN).AddRtAttr(unix.IFLA_VXLAN_LEARNING, nl.Uint8Attr(0))
	return s.conn.do(m, nil)
}

// addInfo appends what is particular to a kind of link, and returns the
// attribute that holds it.
func addInfo(m *nl.NetlinkRequest, kind dataplane.LinkKind) *nl.RtAttr {
	info := nl.NewRtAttr(unix.IFLA_LINKINFO, nil)
	info.AddRtAttr(unix.IFLA_INFO_KIND, nl.ZeroTerminated(string(kind)))
	m.AddData(info)
	return info.AddRtAttr(unix.IFLA_INFO_DATA, nil)
}

// localAttr is the attribute of a VXLAN device's source address.
func localAttr(a netip.Addr) int {
	if a.Is4() {
		return unix.IFLA_VXLAN_LOCAL
	}
	return unix.IFLA_VXLAN_LOCAL6
}
