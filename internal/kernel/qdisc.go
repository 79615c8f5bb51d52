package kernel

import (
	"errors"
	"fmt"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/ovlnet/ovl/internal/dataplane"
)

// tbfSize is the size of struct tc_tbf_qopt (include/uapi/linux/pkt_sched.h):
// two struct tc_ratespec of 12 bytes, the limit, the buffer and the peak's.
const tbfSize = 2*12 + 3*4

// linkLayerEthernet is TC_LINKLAYER_ETHERNET: the kernel computes what a frame
// costs, where it would otherwise look for a table that tc(8) has computed.
const linkLayerEthernet = 1

// atRoot is TC_H_ROOT of include/uapi/linux/pkt_sched.h.
const atRoot = 0xffffffff

// readQdiscs reads the token buckets of ours: those at the root of a link of
// ours that have our handle. What else is there, the kernel's own or somebody's, is
// no row.
func (o *observation) readQdiscs() error {
	return o.space.conn.do(dump(unix.RTM_GETQDISC, &nl.TcMsg{Family: unix.AF_UNSPEC}), func(body []byte) {
		if len(body) < nl.SizeofTcMsg {
			return
		}
		m := nl.DeserializeTcMsg(body)
		l, ours := o.ours(m.Ifindex)
		if !ours || m.Parent != atRoot || m.Handle != dataplane.QdiscHandle {
			return
		}
		parms := nested(body[nl.SizeofTcMsg:], nl.TCA_OPTIONS, nl.TCA_TBF_PARMS)
		row := dataplane.Qdisc{QdiscKey: dataplane.QdiscKey{NS: o.space.ns, Link: l.name}}
		if len(parms) >= tbfSize { // else it is another kind: a row of nothing, which is not wanted
			row.Rate, row.Limit, row.Buffer = u32(parms[8:]), u32(parms[24:]), u32(parms[28:])
		}
		o.state.Add(row)
	})
}

// qdiscLink returns the index of the link that a struct tcmsg is about.
func qdiscLink(body []byte) int32 {
	if len(body) < nl.SizeofTcMsg {
		return 0
	}
	return nl.DeserializeTcMsg(body).Ifindex
}

func (s *space) applyQdisc(verb dataplane.Verb, r dataplane.Qdisc) error {
	err := s.onLink(r.Link, func(index int32) error {
		to := nl.TcMsg{Family: unix.AF_UNSPEC, Ifindex: index, Handle: dataplane.QdiscHandle, Parent: atRoot}
		if verb == dataplane.Delete {
			return s.conn.do(change(unix.RTM_DELQDISC, 0, &to), nil)
		}
		// Without NLM_F_REPLACE: it is made, or changed if it has our handle, and
		// never put in the place of somebody else's (tc_modify_qdisc in
		// net/sched/sch_api.c).
		err := s.conn.do(tbf(to, r), nil)
		if errors.Is(err, unix.EINVAL) { // our handle, and another kind
			if err = s.conn.do(change(unix.RTM_DELQDISC, 0, &to), nil); err == nil {
				err = s.conn.do(tbf(to, r), nil)
			}
		}
		switch {
		case errors.Is(err, unix.EEXIST):
			return refusal(fmt.Sprintf("something else shapes %s: see `tc qdisc show`", r.Link))
		case errors.Is(err, unix.ENOENT):
			return refusal("this kernel cannot shape: it lacks tbf (CONFIG_NET_SCH_TBF)")
		}
		return err
	})
	if verb == dataplane.Delete && (errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENODEV)) {
		return nil // somebody else's is there, or nothing
	}
	return err
}

func tbf(to nl.TcMsg, r dataplane.Qdisc) *nl.NetlinkRequest {
	parms := make([]byte, tbfSize)
	parms[1] = linkLayerEthernet
	native.PutUint32(parms[8:], r.Rate)
	native.PutUint32(parms[24:], r.Limit)
	native.PutUint32(parms[28:], r.Buffer)
	m := change(unix.RTM_NEWQDISC, unix.NLM_F_CREATE, &to)
	add(m, nl.TCA_KIND, nl.ZeroTerminated("tbf"))
	options := nl.NewRtAttr(nl.TCA_OPTIONS, nil)
	options.AddRtAttr(nl.TCA_TBF_PARMS, parms)
	m.AddData(options)
	return m
}
