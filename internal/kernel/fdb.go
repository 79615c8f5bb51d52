package kernel

import (
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/ovlnet/ovl/internal/dataplane"
)

// readFDB reads the permanent entries of VXLAN devices of ours, those that
// somebody else added among them, for they have to go. The all-zero MAC (where
// to flood) is an entry like any other: we have none.
//
// A destination may have a port, an identifier or a link of its own, and the
// entry of the all-zero MAC several destinations, which come as one message
// each. A row has no room for these: such an entry is reported without a
// destination, so that it differs from whatever is wanted.
func (o *observation) readFDB() error {
	return o.space.conn.do(dump(unix.RTM_GETNEIGH, &netlink.Ndmsg{Family: unix.AF_BRIDGE}), func(body []byte) {
		n, ok := decodeNeigh(body)
		if !ok || n.flags&unix.NTF_SELF == 0 || n.state&unix.NUD_PERMANENT == 0 || !n.dst.IsValid() {
			return
		}
		l, ours := o.ours(n.index)
		if !ours || l.kind != string(dataplane.VXLAN) {
			return
		}
		r := dataplane.FDB{FDBKey: dataplane.FDBKey{NS: o.space.ns, Link: l.name, MAC: n.mac}, Dst: n.dst}
		if _, double := o.state.FDB[r.FDBKey]; double || n.odd {
			r.Dst = netip.Addr{}
		}
		o.state.Add(r)
	})
}

// applyFDB writes an entry of the device itself (NTF_SELF). That of a unicast
// MAC has one destination only, so that replacing it leaves no other (vxlan_fdb_update
// in drivers/net/vxlan/vxlan_core.c); a deletion that names none means all.
func (s *space) applyFDB(verb dataplane.Verb, r dataplane.FDB) error {
	err := s.onLink(r.Link, func(index int32) error {
		to := netlink.Ndmsg{Family: unix.AF_BRIDGE, Index: uint32(index), Flags: unix.NTF_SELF}
		if verb == dataplane.Delete {
			m := change(unix.RTM_DELNEIGH, 0, &to)
			add(m, unix.NDA_LLADDR, r.MAC[:])
			return s.conn.do(m, nil)
		}
		to.State = unix.NUD_PERMANENT
		m := change(unix.RTM_NEWNEIGH, unix.NLM_F_CREATE|unix.NLM_F_REPLACE, &to)
		add(m, unix.NDA_LLADDR, r.MAC[:])
		add(m, unix.NDA_DST, r.Dst.AsSlice())
		return s.conn.do(m, nil)
	})
	return unlessGone(verb, err)
}
