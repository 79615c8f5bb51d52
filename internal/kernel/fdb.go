package kernel

import (
	"errors"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/ovlnet/ovl/internal/dataplane"
)

// readFDB reads the permanent entries of VXLAN devices of ours, and the static ones
// of bridges that lead to ports of ours: those that somebody else added among them, for
// they have to go.
func (o *observation) readFDB() error {
	return o.space.conn.do(dump(unix.RTM_GETNEIGH, &netlink.Ndmsg{Family: unix.AF_BRIDGE}), func(body []byte) {
		n, ok := decodeNeigh(body)
		if !ok {
			return
		}
		l, ours := o.ours(n.index)
		switch {
		case !ours:
		case l.kind == string(dataplane.VXLAN):
			o.addVTEP(l, n)
		case l.kind == string(dataplane.Veth) && n.static():
			o.state.Add(dataplane.FDB{FDBKey: dataplane.FDBKey{NS: o.space.ns, Link: l.name, MAC: n.mac}})
		}
	})
}

// addVTEP adds an entry of a VXLAN device. The all-zero MAC (where to flood) is an
// entry like any other: we have none.
//
// A destination may have a port, an identifier or a link of its own, and the
// entry of the all-zero MAC several destinations, which come as one message
// each. A row has no room for these: such an entry is reported without a
// destination, so that it differs from whatever is wanted.
func (o *observation) addVTEP(l *linkInfo, n neighInfo) {
	if n.flags&unix.NTF_SELF == 0 || n.state&unix.NUD_PERMANENT == 0 || !n.dst.IsValid() {
		return
	}
	r := dataplane.FDB{FDBKey: dataplane.FDBKey{NS: o.space.ns, Link: l.name, MAC: n.mac}, Dst: n.dst}
	if _, double := o.state.FDB[r.FDBKey]; double || n.odd {
		r.Dst = netip.Addr{}
	}
	o.state.Add(r)
}

// static reports whether an entry is one of a bridge that somebody wrote, not one that
// it has learnt, which ages, nor one of its own MACs, which is permanent (fdb_to_nud in
// net/bridge/br_fdb.c).
func (n neighInfo) static() bool { return n.flags&unix.NTF_SELF == 0 && n.state&unix.NUD_NOARP != 0 }

// applyFDB writes an entry of a VXLAN device itself (NTF_SELF), or of the bridge whose
// port the link is (NTF_MASTER). The first, of a unicast MAC, has one destination only,
// so that replacing it leaves no other (vxlan_fdb_update in
// drivers/net/vxlan/vxlan_core.c); a deletion that names none means all. The second
// is found by its MAC, wherever it led before (fdb_add_entry in net/bridge/br_fdb.c).
func (s *space) applyFDB(verb dataplane.Verb, r dataplane.FDB) error {
	err := s.onLink(r.Link, func(index int32) error {
		to := netlink.Ndmsg{Family: unix.AF_BRIDGE, Index: uint32(index), State: unix.NUD_PERMANENT, Flags: unix.NTF_SELF}
		if !r.Dst.IsValid() {
			to.State, to.Flags = unix.NUD_NOARP, unix.NTF_MASTER
		}
		if verb == dataplane.Delete {
			m := change(unix.RTM_DELNEIGH, 0, &to)
			add(m, unix.NDA_LLADDR, r.MAC[:])
			return s.conn.do(m, nil)
		}
		m := change(unix.RTM_NEWNEIGH, unix.NLM_F_CREATE|unix.NLM_F_REPLACE, &to)
		add(m, unix.NDA_LLADDR, r.MAC[:])
		if r.Dst.IsValid() {
			add(m, unix.NDA_DST, r.Dst.AsSlice())
		}
		return s.conn.do(m, nil)
	})
	if verb == dataplane.Delete && !r.Dst.IsValid() && errors.Is(err, unix.EOPNOTSUPP) {
		return nil // it is no port any more
	}
	return unlessGone(verb, err)
}
