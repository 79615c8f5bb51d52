package kernel

import (
	"errors"
	"net/netip"
	"path/filepath"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/ovlnet/ovl/internal/dataplane"
)

// readAddrs reads the addresses of all links. Link-local IPv6 addresses, which
// the kernel makes by itself, are no rows but on a bridge: there it is kept from
// that (see quiet), and a network needs one of a known kind.
func (o *observation) readAddrs(facts *factsMaker) error {
	return o.space.conn.do(dump(unix.RTM_GETADDR, nl.NewIfAddrmsg(unix.AF_UNSPEC)), func(body []byte) {
		index, p, ok := decodeAddr(body)
		if !ok {
			return
		}
		l, ours := o.ours(index)
		switch {
		case ours && o.tables.Has(dataplane.TableAddr) && (l.kind == string(dataplane.Bridge) || !p.Addr().IsLinkLocalUnicast()):
			o.state.Add(dataplane.Addr{AddrKey: dataplane.AddrKey{NS: o.space.ns, Link: l.name, Prefix: p}})
		case !ours && facts != nil:
			facts.addr(index, p)
		}
	})
}

// decodeAddr decodes a struct ifaddrmsg with its attributes. IFA_LOCAL is the
// address; IFA_ADDRESS is the other side's on a point-to-point link, and the
// address itself where there is no IFA_LOCAL (IPv6).
func decodeAddr(body []byte) (index int32, p netip.Prefix, ok bool) {
	if len(body) < unix.SizeofIfAddrmsg {
		return 0, p, false
	}
	h := nl.DeserializeIfAddrmsg(body)
	var local, address netip.Addr
	for typ, value := range fields(body[unix.SizeofIfAddrmsg:]) {
		switch typ {
		case unix.IFA_LOCAL:
			local = addr(value)
		case unix.IFA_ADDRESS:
			address = addr(value)
		}
	}
	if !local.IsValid() {
		local = address
	}
	p = netip.PrefixFrom(local, int(h.Prefixlen))
	return int32(h.Index), p, p.IsValid()
}

func (s *space) applyAddr(verb dataplane.Verb, r dataplane.Addr) error {
	write := func() error {
		return s.onLink(r.Link, func(index int32) error { return s.conn.do(addrMessage(verb, r, index), nil) })
	}
	err := write()
	if errors.Is(err, unix.EACCES) && r.Prefix.Addr().Is6() && s.ns != dataplane.Host {
		// Container engines switch IPv6 off in a new namespace and on again for the
		// interfaces that have it, of which this one is made anew (ipv6_add_addr in
		// net/ipv6/addrconf.c).
		if err = s.enableIPv6(r.Link); err == nil {
			err = write()
		}
	}
	if verb == dataplane.Delete && (errors.Is(err, unix.EADDRNOTAVAIL) || errors.Is(err, unix.ENODEV)) {
		return nil
	}
	return err
}

func (s *space) enableIPv6(link string) error {
	return within(s.file, func() error {
		return writeSysctl(filepath.Join(s.sysctls, "net/ipv6/conf", link, "disable_ipv6"), "0")
	})
}

func addrMessage(verb dataplane.Verb, r dataplane.Addr, index int32) *nl.NetlinkRequest {
	typ, mode := unix.RTM_NEWADDR, unix.NLM_F_CREATE|unix.NLM_F_REPLACE
	if verb == dataplane.Delete {
		typ, mode = unix.RTM_DELADDR, 0
	}
	a := r.Prefix.Addr()
	h := nl.NewIfAddrmsg(int(familyOf(a)))
	h.Prefixlen, h.Index = uint8(r.Prefix.Bits()), uint32(index)
	m := change(typ, mode, h)
	add(m, unix.IFA_LOCAL, a.AsSlice())
	add(m, unix.IFA_ADDRESS, a.AsSlice())
	if verb != dataplane.Delete {
		flags := uint32(unix.IFA_F_NOPREFIXROUTE)
		if a.Is6() {
			flags |= unix.IFA_F_NODAD
		}
		add(m, unix.IFA_FLAGS, nl.Uint32Attr(flags))
	}
	return m
}
