package kernel

import (
	"errors"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/ovlnet/ovl/internal/dataplane"
)

// The parts of ctnetlink that we use (include/uapi/linux/netfilter/
// nfnetlink_conntrack.h).
const (
	ctGet, ctDelete = 1, 2 // IPCTNL_MSG_CT_GET, _DELETE

	ctTupleOrig, ctTupleReply        = 1, 2 // CTA_TUPLE_ORIG, _REPLY
	ctTupleIP, ctTupleProto          = 1, 2 // CTA_TUPLE_IP, _PROTO
	ctSrc4, ctDst4, ctSrc6, ctDst6   = 1, 2, 3, 4
	ctProtoNum, ctSrcPort, ctDstPort = 1, 2, 3
)

// flow is a tracked flow of UDP: the way of its first packet, and where that went.
type flow struct{ from, to, via netip.AddrPort }

// udpFlows calls f for each flow of UDP of a family. It does not matter that
// others come and go meanwhile.
func (n *nft) udpFlows(family dataplane.Family, f func(flow)) error {
	m := request(unix.NFNL_SUBSYS_CTNETLINK<<8|ctGet, unix.NLM_F_DUMP, nfgen(afOf(family), 0))
	err := n.conn.do(m, func(body []byte) {
		if len(body) < nl.SizeofNfgenmsg {
			return
		}
		if fl, ok := decodeFlow(body[nl.SizeofNfgenmsg:]); ok {
			f(fl)
		}
	})
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, errInterrupted) {
		return nil // a kernel without it; or some were told twice
	}
	return err
}

func afOf(family dataplane.Family) uint8 {
	if family == dataplane.IPv6 {
		return unix.AF_INET6
	}
	return unix.AF_INET
}

// decodeFlow decodes the attributes of an entry, if it is one of UDP.
func decodeFlow(b []byte) (f flow, ok bool) {
	first, ok := decodeTuple(nested(b, ctTupleOrig))
	if !ok {
		return f, false
	}
	reply, ok := decodeTuple(nested(b, ctTupleReply))
	return flow{first.from, first.to, reply.from}, ok
}

// decodeTuple decodes the addresses and ports of one way of a flow of UDP.
func decodeTuple(b []byte) (f flow, ok bool) {
	var src, dst netip.Addr
	for typ, value := range fields(nested(b, ctTupleIP)) {
		switch typ {
		case ctSrc4, ctSrc6:
			src = addr(value)
		case ctDst4, ctDst6:
			dst = addr(value)
		}
	}
	var proto uint8
	var from, to uint16
	for typ, value := range fields(nested(b, ctTupleProto)) {
		switch {
		case typ == ctProtoNum && len(value) == 1:
			proto = value[0]
		case typ == ctSrcPort && len(value) == 2:
			from = uint16(value[0])<<8 | uint16(value[1])
		case typ == ctDstPort && len(value) == 2:
			to = uint16(value[0])<<8 | uint16(value[1])
		}
	}
	f = flow{from: netip.AddrPortFrom(src, from), to: netip.AddrPortFrom(dst, to)}
	return f, proto == unix.IPPROTO_UDP && src.IsValid() && dst.IsValid()
}

// applyFlow forgets a flow: its next packet is translated by the rules as they
// are. That it is gone already is success.
func (l *Linux) applyFlow(verb dataplane.Verb, r dataplane.Flow) error {
	if verb != dataplane.Delete {
		return refusal("flows are of the kernel's making")
	}
	family := dataplane.FamilyOf(r.To.Addr())
	m := request(unix.NFNL_SUBSYS_CTNETLINK<<8|ctDelete, unix.NLM_F_ACK, nfgen(afOf(family), 0))
	src, dst := ctSrc4, ctDst4
	if family == dataplane.IPv6 {
		src, dst = ctSrc6, ctDst6
	}
	tuple := nl.NewRtAttr(unix.NLA_F_NESTED|ctTupleOrig, nil)
	ip := tuple.AddRtAttr(unix.NLA_F_NESTED|ctTupleIP, nil)
	ip.AddRtAttr(src, r.From.Addr().AsSlice())
	ip.AddRtAttr(dst, r.To.Addr().AsSlice())
	proto := tuple.AddRtAttr(unix.NLA_F_NESTED|ctTupleProto, nil)
	proto.AddRtAttr(ctProtoNum, nl.Uint8Attr(unix.IPPROTO_UDP))
	proto.AddRtAttr(ctSrcPort, nl.BEUint16Attr(r.From.Port()))
	proto.AddRtAttr(ctDstPort, nl.BEUint16Attr(r.To.Port()))
	m.AddData(tuple)
	err := l.nft.conn.do(m, nil)
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	return err
}

// readFlows adds the flows that our rules for published ports do not lead where
// they go: those from before a port was published or moved, and those of ports that
// are not published any more, as far as this process knows of them. What others
// translate is theirs.
func (o *observation) readFlows() error {
	for _, family := range []dataplane.Family{dataplane.IPv4, dataplane.IPv6} {
		p := o.linux.firewall.published[family]
		if p.empty() {
			continue
		}
		local, ours, err := o.linux.host.localAddrs()
		if err != nil {
			return err
		}
		still := map[netip.AddrPort]bool{}
		err = o.linux.nft.udpFlows(family, func(f flow) {
			stale, old := p.stale(f, local, ours)
			if stale {
				o.state.Add(dataplane.Flow{FlowKey: dataplane.FlowKey{From: f.from, To: f.to}, Via: f.via})
			}
			if old {
				still[f.via] = true
			}
		})
		if err != nil {
			return err
		}
		p.forget(still)
	}
	return nil
}

// localAddrs returns the addresses of this host, and the subnets on bridges of
// ours.
func (s *space) localAddrs() (local map[netip.Addr]bool, ours []netip.Prefix, err error) {
	local = map[netip.Addr]bool{}
	bridges := map[int32]bool{}
	for name, index := range s.index {
		bridges[index] = len(name) > len(dataplane.BridgePrefix) && name[:len(dataplane.BridgePrefix)] == dataplane.BridgePrefix
	}
	err = s.conn.do(dump(unix.RTM_GETADDR, nl.NewIfAddrmsg(unix.AF_UNSPEC)), func(body []byte) {
		index, p, ok := decodeAddr(body)
		if !ok {
			return
		}
		local[p.Addr()] = true
		if bridges[index] {
			ours = append(ours, p)
		}
	})
	return local, ours, err
}

func anyContains(prefixes []netip.Prefix, a netip.Addr) bool {
	return slices.ContainsFunc(prefixes, func(p netip.Prefix) bool { return p.Contains(a) })
}
