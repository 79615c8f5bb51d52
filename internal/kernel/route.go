package kernel

import (
	"errors"
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/ovlnet/ovl/internal/dataplane"
)

// routeInfo is a route as the kernel describes it.
type routeInfo struct {
	dst      netip.Prefix
	via, src netip.Addr
	link     int32
	onlink   bool
	metric   uint32
	table    uint32
	protocol byte
	kind     byte // RTN_UNICAST …
	multi    bool // several next hops, or one in a next-hop object
}

// rtaNHID is RTA_NH_ID of include/uapi/linux/rtnetlink.h.
const rtaNHID = 30

func decodeRoute(body []byte) (r routeInfo, ok bool) {
	if len(body) < unix.SizeofRtMsg {
		return r, false
	}
	h := nl.DeserializeRtMsg(body)
	r.table, r.protocol, r.kind = uint32(h.Table), h.Protocol, h.Type
	r.onlink = h.Flags&unix.RTNH_F_ONLINK != 0
	dst := netip.IPv4Unspecified()
	switch h.Family {
	case unix.AF_INET:
	case unix.AF_INET6:
		dst = netip.IPv6Unspecified()
	default:
		return r, false // multicast routing and MPLS answer too
	}
	for typ, value := range fields(body[unix.SizeofRtMsg:]) {
		switch typ {
		case unix.RTA_DST: // not there for a default route
			dst = addr(value)
		case unix.RTA_GATEWAY:
			r.via = addr(value)
		case unix.RTA_VIA, rtaNHID:
			r.multi = true
		case unix.RTA_MULTIPATH:
			r.multi = true
			if len(value) >= unix.SizeofRtNexthop {
				r.link = nl.DeserializeRtNexthop(value).Ifindex
			}
		case unix.RTA_OIF:
			r.link = int32(u32(value))
		case unix.RTA_PREFSRC:
			r.src = addr(value)
		case unix.RTA_PRIORITY:
			r.metric = u32(value)
		case unix.RTA_TABLE:
			r.table = u32(value)
		}
	}
	r.dst = netip.PrefixFrom(dst, int(h.Dst_len))
	return r, r.dst.IsValid()
}

// defaultMetric is the metric of a route that was written with none: IPv6 has
// one (IP6_RT_PRIO_USER), IPv4 does not.
func defaultMetric(dst netip.Prefix) uint32 {
	if dst.Addr().Is4() {
		return 0
	}
	return 1024
}

// metricOf returns the metric with which r is in the kernel.
func metricOf(r dataplane.Route) uint32 {
	if r.Spare {
		return dataplane.SpareMetric
	}
	return defaultMetric(r.Dst)
}

// simple reports whether a row has room for all that r says.
func (r routeInfo) simple() bool {
	return !r.multi && (r.kind == unix.RTN_UNICAST || r.kind == unix.RTN_UNREACHABLE) && (r.metric == defaultMetric(r.dst) || r.metric == dataplane.SpareMetric)
}

// readRoutes reads the routes of the main table, of both families at once.
func (o *observation) readRoutes(facts *factsMaker) error {
	if o.tables.Has(dataplane.TableRoute) {
		o.space.odd = map[dataplane.RouteKey]bool{}
	}
	return o.space.conn.do(dump(unix.RTM_GETROUTE, &nl.RtMsg{}), func(body []byte) {
		r, ok := decodeRoute(body)
		if !ok || r.table != unix.RT_TABLE_MAIN {
			return
		}
		if r.protocol == dataplane.RouteProtocol {
			if o.tables.Has(dataplane.TableRoute) {
				o.addRoute(r)
			}
			return
		}
		if _, ours := o.ours(r.link); facts != nil && !ours {
			facts.route(r)
		}
	})
}

// addRoute adds the row of a route of ours. One that a row cannot tell (several
// next hops, another metric, a second one to the same destination) is reported
// without a link, so that it differs from whatever is wanted.
func (o *observation) addRoute(r routeInfo) {
	row := dataplane.Route{RouteKey: dataplane.RouteKey{NS: o.space.ns, Dst: r.dst}, Via: r.via, OnLink: r.onlink, Src: r.src, Spare: r.metric == dataplane.SpareMetric}
	_, double := o.state.Routes[row.RouteKey]
	l, ok := o.links[r.link]
	switch {
	case double || !r.simple():
		o.space.odd[row.RouteKey] = true
	case r.kind == unix.RTN_UNREACHABLE:
		row.Unreachable = true // in IPv6 it is on lo
	case ok:
		row.Link = l.name
	default:
		o.space.odd[row.RouteKey] = true
	}
	o.state.Add(row)
}

func (s *space) applyRoute(verb dataplane.Verb, r dataplane.Route) error {
	if verb == dataplane.Delete {
		return s.deleteRoutes(r.Dst)
	}
	write := func(mode int) error {
		return s.throughLink(r, func(index int32) error { return s.conn.do(newRoute(mode, r, index), nil) })
	}
	if verb == dataplane.Create {
		if err := write(unix.NLM_F_CREATE | unix.NLM_F_EXCL); !errors.Is(err, unix.EEXIST) {
			return err
		}
	}
	if s.replaceable(r) {
		if err := write(unix.NLM_F_REPLACE); err == nil {
			return nil
		}
	}
	// A deletion by our protocol number meets nobody else's.
	if err := s.deleteRoutes(r.Dst); err != nil {
		return err
	}
	err := write(unix.NLM_F_CREATE | unix.NLM_F_EXCL)
	if errors.Is(err, unix.EEXIST) {
		return refusal("a route of someone else to " + r.Dst.String() + " exists")
	}
	return err
}

// throughLink calls write with the index of the link of a route: one of ours,
// or, on the host, any other. None of ours can bear such a name.
func (s *space) throughLink(r dataplane.Route, write func(index int32) error) error {
	switch {
	case r.Unreachable:
		return write(0)
	case s.ns != dataplane.Host || dataplane.OwnsName(r.Link):
		return s.onLink(r.Link, write)
	}
	l, err := s.linkByName(r.Link)
	if err != nil {
		return fmt.Errorf("link %s: %w", r.Link, err)
	}
	return write(l.index)
}

// replaceable reports whether the route to r's destination can be replaced in
// place, so that no packet goes astray meanwhile: the one there is ours and
// simple, and no other is beside it. IPv6 replaces a route with a gateway only by one with a gateway, and
// without by one without; else it puts the new one beside the old
// (fib6_add_rt2node in net/ipv6/ip6_fib.c).
func (s *space) replaceable(r dataplane.Route) bool {
	if s.odd[r.RouteKey] || r.Unreachable {
		return false
	}
	find := s.containerRoute
	if s.ns == dataplane.Host {
		find = s.hostRoute
	}
	have, ok := find(r)
	return ok && have.metric == metricOf(r) && have.dst == r.Dst && have.protocol == dataplane.RouteProtocol && have.table == unix.RT_TABLE_MAIN &&
		have.simple() && have.kind == unix.RTN_UNICAST && (r.Dst.Addr().Is4() || have.via.IsValid() == r.Via.IsValid())
}

// hostRoute returns the route that the kernel finds for dst, without reading
// the thousands that a host may have. Another one beside it, if any, was there
// when the table was last read.
func (s *space) hostRoute(r dataplane.Route) (have routeInfo, ok bool) {
	a := r.Dst.Addr()
	m := ask(unix.RTM_GETROUTE, &nl.RtMsg{RtMsg: unix.RtMsg{Family: familyOf(a), Dst_len: uint8(a.BitLen()), Flags: unix.RTM_F_FIB_MATCH}})
	add(m, unix.RTA_DST, a.AsSlice())
	err := s.conn.do(m, func(body []byte) { have, ok = decodeRoute(body) })
	return have, ok && err == nil
}

// containerRoute returns the only route to r's destination of the metric that r has. It
// reads them all: a container has few, and the kernel cannot be asked for the
// one of a default route, as it takes 0.0.0.0 for this host
// (ip_route_output_key_hash_rcu in net/ipv4/route.c).
func (s *space) containerRoute(r dataplane.Route) (have routeInfo, ok bool) {
	n := 0
	m := dump(unix.RTM_GETROUTE, &nl.RtMsg{RtMsg: unix.RtMsg{Family: familyOf(r.Dst.Addr())}})
	err := s.conn.do(m, func(body []byte) {
		found, valid := decodeRoute(body)
		if valid && found.dst == r.Dst && found.table == unix.RT_TABLE_MAIN && found.metric == metricOf(r) {
			have = found
			n++
		}
	})
	return have, err == nil && n == 1
}

// deleteRoutes deletes all routes of ours to dst: one, unless a hand added more.
func (s *space) deleteRoutes(dst netip.Prefix) error {
	for {
		m := routeMessage(unix.RTM_DELROUTE, 0, nl.NewRtDelMsg(), dst)
		if err := s.conn.do(m, nil); errors.Is(err, unix.ESRCH) {
			return nil
		} else if err != nil {
			return err
		}
	}
}

// routeMessage is about a route of our protocol to dst in the main table.
func routeMessage(typ, mode int, h *nl.RtMsg, dst netip.Prefix) *nl.NetlinkRequest {
	h.Family, h.Dst_len, h.Protocol = familyOf(dst.Addr()), uint8(dst.Bits()), dataplane.RouteProtocol
	m := change(typ, mode, h)
	if dst.Bits() > 0 {
		add(m, unix.RTA_DST, dst.Addr().AsSlice())
	}
	return m
}

func newRoute(mode int, r dataplane.Route, index int32) *nl.NetlinkRequest {
	h := nl.NewRtMsg()
	if r.Unreachable {
		h.Type = unix.RTN_UNREACHABLE
		return routeMessage(unix.RTM_NEWROUTE, mode, h, r.Dst)
	}
	if !r.Via.IsValid() && r.Dst.Addr().Is4() {
		h.Scope = unix.RT_SCOPE_LINK // IPv6 knows no scope of a route
	}
	if r.OnLink {
		h.Flags = unix.RTNH_F_ONLINK
	}
	m := routeMessage(unix.RTM_NEWROUTE, mode, h, r.Dst)
	add(m, unix.RTA_OIF, nl.Uint32Attr(uint32(index)))
	if r.Spare {
		add(m, unix.RTA_PRIORITY, nl.Uint32Attr(dataplane.SpareMetric))
	}
	if r.Via.IsValid() {
		add(m, unix.RTA_GATEWAY, r.Via.AsSlice())
	}
	if r.Src.IsValid() {
		add(m, unix.RTA_PREFSRC, r.Src.AsSlice())
	}
	return m
}
