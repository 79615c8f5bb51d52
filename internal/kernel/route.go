package kernel

import (
	"errors"
	"net/netip"

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
	family, bits := body[0], int(body[1])
	r.table, r.protocol, r.kind = uint32(body[4]), body[5], body[7]
	r.onlink = u32(body[8:])&unix.RTNH_F_ONLINK != 0
	dst := netip.IPv4Unspecified()
	switch family {
	case unix.AF_INET:
	case unix.AF_INET6:
		dst = netip.IPv6Unspecified()
	default:
		return r, false // multicast routing and MPLS answer too
	}
	eachAttr(body[unix.SizeofRtMsg:], func(typ uint16, v []byte) {
		switch typ {
		case unix.RTA_DST: // not there for a default route
			dst = addr(v)
		case unix.RTA_GATEWAY:
			r.via = addr(v)
		case unix.RTA_VIA, rtaNHID:
			r.multi = true
		case unix.RTA_MULTIPATH:
			r.multi = true
			if len(v) >= unix.SizeofRtNexthop {
				r.link = int32(u32(v[4:]))
			}
		case unix.RTA_OIF:
			r.link = int32(u32(v))
		case unix.RTA_PREFSRC:
			r.src = addr(v)
		case unix.RTA_PRIORITY:
			r.metric = u32(v)
		case unix.RTA_TABLE:
			r.table = u32(v)
		}
	})
	r.dst = netip.PrefixFrom(dst, bits)
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

// simple reports whether a row has room for all that r says.
func (r routeInfo) simple() bool {
	return !r.multi && r.kind == unix.RTN_UNICAST && r.metric == defaultMetric(r.dst)
}

// readRoutes reads the routes of the main table, of both families at once.
func (o *observation) readRoutes(facts *factsMaker) error {
	if o.tables.Has(dataplane.TableRoute) {
		o.space.odd = map[dataplane.RouteKey]bool{}
	}
	m := request(0, 0).put(make([]byte, unix.SizeofRtMsg)...)
	return o.space.conn.dump(unix.RTM_GETROUTE, m, func(body []byte) {
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
	row := dataplane.Route{RouteKey: dataplane.RouteKey{NS: o.space.ns, Dst: r.dst}, Via: r.via, OnLink: r.onlink, Src: r.src}
	_, double := o.state.Routes[row.RouteKey]
	if l, ok := o.links[r.link]; ok && !double && r.simple() {
		row.Link = l.name
	} else {
		o.space.odd[row.RouteKey] = true
	}
	o.state.Add(row)
}

func (s *space) applyRoute(verb dataplane.Verb, r dataplane.Route) error {
	if verb == dataplane.Delete {
		return s.deleteRoutes(r.Dst)
	}
	add := func(mode int) error {
		return s.onLink(r.Link, func(index int32) error { return s.conn.do(routeMessage(mode, r, index), nil) })
	}
	if verb == dataplane.Create {
		if err := add(unix.NLM_F_CREATE | unix.NLM_F_EXCL); !errors.Is(err, unix.EEXIST) {
			return err
		}
	}
	if s.replaceable(r) {
		if err := add(unix.NLM_F_REPLACE); err == nil {
			return nil
		}
	}
	// A deletion by our protocol number meets nobody else's.
	if err := s.deleteRoutes(r.Dst); err != nil {
		return err
	}
	err := add(unix.NLM_F_CREATE | unix.NLM_F_EXCL)
	if errors.Is(err, unix.EEXIST) {
		return refusal("a route of someone else to " + r.Dst.String() + " exists")
	}
	return err
}

// replaceable reports whether the route to r's destination can be replaced in
// place, so that no packet goes astray meanwhile: the one there is ours and
// simple, and no other is beside it. IPv6 replaces a route with a gateway only by one with a gateway, and
// without by one without; else it puts the new one beside the old
// (fib6_add_rt2node in net/ipv6/ip6_fib.c).
func (s *space) replaceable(r dataplane.Route) bool {
	if s.odd[r.RouteKey] {
		return false
	}
	find := s.containerRoute
	if s.ns == dataplane.Host {
		find = s.hostRoute
	}
	have, ok := find(r.Dst)
	return ok && have.dst == r.Dst && have.protocol == dataplane.RouteProtocol && have.table == unix.RT_TABLE_MAIN &&
		have.simple() && (r.Dst.Addr().Is4() || have.via.IsValid() == r.Via.IsValid())
}

// hostRoute returns the route that the kernel finds for dst, without reading
// the thousands that a host may have. Another one beside it, if any, was there
// when the table was last read.
func (s *space) hostRoute(dst netip.Prefix) (have routeInfo, ok bool) {
	a := dst.Addr()
	m := request(unix.RTM_GETROUTE, 0).put(familyOf(a), byte(a.BitLen()), 0, 0, 0, 0, 0, 0).put32(unix.RTM_F_FIB_MATCH)
	m.attr(unix.RTA_DST, a.AsSlice())
	err := s.conn.do(m, func(body []byte) { have, ok = decodeRoute(body) })
	return have, ok && err == nil
}

// containerRoute returns the only route to dst of the metric that ours have. It
// reads them all: a container has few, and the kernel cannot be asked for the
// one of a default route, as it takes 0.0.0.0 for this host
// (ip_route_output_key_hash_rcu in net/ipv4/route.c).
func (s *space) containerRoute(dst netip.Prefix) (have routeInfo, ok bool) {
	n := 0
	m := request(0, 0).put(familyOf(dst.Addr())).put(make([]byte, unix.SizeofRtMsg-1)...)
	err := s.conn.dump(unix.RTM_GETROUTE, m, func(body []byte) {
		r, valid := decodeRoute(body)
		if valid && r.dst == dst && r.table == unix.RT_TABLE_MAIN && r.metric == defaultMetric(dst) {
			have = r
			n++
		}
	})
	return have, err == nil && n == 1
}

// deleteRoutes deletes all routes of ours to dst: one, unless a hand added more.
func (s *space) deleteRoutes(dst netip.Prefix) error {
	for {
		m := routeHeader(request(unix.RTM_DELROUTE, 0), dst, unix.RT_SCOPE_NOWHERE, 0)
		if err := s.conn.do(m, nil); errors.Is(err, unix.ESRCH) {
			return nil
		} else if err != nil {
			return err
		}
	}
}

// routeHeader is a struct rtmsg of our protocol in the main table, with the
// destination.
func routeHeader(m *message, dst netip.Prefix, scope byte, flags uint32) *message {
	kind := byte(unix.RTN_UNICAST)
	if scope == unix.RT_SCOPE_NOWHERE {
		kind = unix.RTN_UNSPEC // a deletion of any kind
	}
	m.put(familyOf(dst.Addr()), byte(dst.Bits()), 0, 0, unix.RT_TABLE_MAIN, dataplane.RouteProtocol, scope, kind).put32(flags)
	if dst.Bits() > 0 {
		m.attr(unix.RTA_DST, dst.Addr().AsSlice())
	}
	return m
}

func routeMessage(mode int, r dataplane.Route, index int32) *message {
	scope, flags := byte(unix.RT_SCOPE_UNIVERSE), uint32(0)
	if !r.Via.IsValid() && r.Dst.Addr().Is4() {
		scope = unix.RT_SCOPE_LINK // IPv6 knows no scope of a route
	}
	if r.OnLink {
		flags = unix.RTNH_F_ONLINK
	}
	m := routeHeader(request(unix.RTM_NEWROUTE, mode), r.Dst, scope, flags)
	m.attr32(unix.RTA_OIF, uint32(index))
	if r.Via.IsValid() {
		m.attr(unix.RTA_GATEWAY, r.Via.AsSlice())
	}
	if r.Src.IsValid() {
		m.attr(unix.RTA_PREFSRC, r.Src.AsSlice())
	}
	return m
}
