package kernel

import (
	"errors"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/ovlnet/ovl/internal/cluster"
	"github.com/ovlnet/ovl/internal/dataplane"
)

// neighInfo is an entry of a neighbour table or of a forwarding database: both
// are a struct ndmsg with attributes.
type neighInfo struct {
	index int32
	state uint16
	flags byte
	dst   netip.Addr
	mac   cluster.MAC
	// odd entries hold something that none of ours has: another port, VNI or
	// outgoing link than the device's.
	odd bool
}

func decodeNeigh(body []byte) (n neighInfo, ok bool) {
	if len(body) < unix.SizeofNdMsg {
		return n, false
	}
	n.index, n.state, n.flags = int32(u32(body[4:])), u16(body[8:]), body[10]
	for typ, value := range fields(body[unix.SizeofNdMsg:]) {
		switch typ {
		case unix.NDA_DST:
			n.dst = addr(value)
		case unix.NDA_LLADDR:
			if len(value) == len(n.mac) {
				copy(n.mac[:], value)
			}
		case unix.NDA_PORT, unix.NDA_VNI, unix.NDA_IFINDEX:
			n.odd = true
		}
	}
	return n, true
}

// readNeighs reads the permanent neighbours of links of ours, of both families
// at once. One that somebody else made there counts too: it is on a link of
// ours, so that it has to go.
func (o *observation) readNeighs() error {
	near := map[nearKey]bool{}
	err := o.space.conn.do(dump(unix.RTM_GETNEIGH, &netlink.Ndmsg{}), func(body []byte) {
		n, ok := decodeNeigh(body)
		if !ok || n.state&unix.NUD_PERMANENT == 0 || !n.dst.IsValid() || body[0] == unix.AF_BRIDGE {
			return
		}
		if l, ours := o.ours(n.index); ours {
			o.state.Add(dataplane.Neigh{NeighKey: dataplane.NeighKey{NS: o.space.ns, Link: l.name, IP: n.dst}, MAC: n.mac})
			if l.kind == string(dataplane.Bridge) {
				near[nearKey{n.index, n.dst}] = true
			}
		}
	})
	if err == nil && o.space.ns == dataplane.Host {
		o.linux.near.Store(&near)
	}
	return err
}

// nearKey is a neighbour on a link of the host.
type nearKey struct {
	index int32
	addr  netip.Addr
}

// lost reports whether an entry that was permanent when last read, on a bridge of ours,
// is told of as something else: one that is deleted is nothing for a moment
// (neigh_delete in net/core/neighbour.c).
func (l *Linux) lost(n neighInfo) bool {
	near := l.near.Load()
	return near != nil && n.state&unix.NUD_PERMANENT == 0 && (*near)[nearKey{n.index, n.dst}]
}

func (s *space) applyNeigh(verb dataplane.Verb, r dataplane.Neigh) error {
	err := s.onLink(r.Link, func(index int32) error {
		to := netlink.Ndmsg{Family: familyOf(r.IP), Index: uint32(index)}
		if verb == dataplane.Delete {
			m := change(unix.RTM_DELNEIGH, 0, &to)
			add(m, unix.NDA_DST, r.IP.AsSlice())
			return s.conn.do(m, nil)
		}
		to.State = unix.NUD_PERMANENT
		m := change(unix.RTM_NEWNEIGH, unix.NLM_F_CREATE|unix.NLM_F_REPLACE, &to)
		add(m, unix.NDA_DST, r.IP.AsSlice())
		add(m, unix.NDA_LLADDR, r.MAC[:])
		return s.conn.do(m, nil)
	})
	return unlessGone(verb, err)
}

// unlessGone makes the deletion of what is gone a success.
func unlessGone(verb dataplane.Verb, err error) error {
	if verb == dataplane.Delete && (errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENODEV) || errors.Is(err, unix.ESRCH)) {
		return nil
	}
	return err
}
