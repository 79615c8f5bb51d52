package kernel

import (
	"errors"
	"net/netip"

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
	eachAttr(body[unix.SizeofNdMsg:], func(typ uint16, v []byte) {
		switch typ {
		case unix.NDA_DST:
			n.dst = addr(v)
		case unix.NDA_LLADDR:
			if len(v) == len(n.mac) {
				copy(n.mac[:], v)
			}
		case unix.NDA_PORT, unix.NDA_VNI, unix.NDA_IFINDEX:
			n.odd = true
		}
	})
	return n, true
}

// ndHeader is a struct ndmsg.
func ndHeader(m *message, family byte, index int32, state uint16, flags byte) *message {
	m.put(family, 0, 0, 0).put32(uint32(index))
	m.b = native.AppendUint16(m.b, state)
	return m.put(flags, 0)
}

// readNeighs reads the permanent neighbours of links of ours, of both families
// at once. One that somebody else made there counts too: it is on a link of
// ours, so that it has to go.
func (o *observation) readNeighs() error {
	return o.space.conn.dump(unix.RTM_GETNEIGH, ndHeader(request(0, 0), unix.AF_UNSPEC, 0, 0, 0), func(body []byte) {
		n, ok := decodeNeigh(body)
		if !ok || n.state&unix.NUD_PERMANENT == 0 || !n.dst.IsValid() || body[0] == unix.AF_BRIDGE {
			return
		}
		if l, ours := o.ours(n.index); ours {
			o.state.Add(dataplane.Neigh{NeighKey: dataplane.NeighKey{NS: o.space.ns, Link: l.name, IP: n.dst}, MAC: n.mac})
		}
	})
}

func (s *space) applyNeigh(verb dataplane.Verb, r dataplane.Neigh) error {
	err := s.onLink(r.Link, func(index int32) error {
		if verb == dataplane.Delete {
			m := ndHeader(request(unix.RTM_DELNEIGH, 0), familyOf(r.IP), index, 0, 0)
			m.attr(unix.NDA_DST, r.IP.AsSlice())
			return s.conn.do(m, nil)
		}
		m := ndHeader(request(unix.RTM_NEWNEIGH, unix.NLM_F_CREATE|unix.NLM_F_REPLACE), familyOf(r.IP), index, unix.NUD_PERMANENT, 0)
		m.attr(unix.NDA_DST, r.IP.AsSlice())
		m.attr(unix.NDA_LLADDR, r.MAC[:])
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
