package agent

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/ovlnet/ovl/internal/dataplane"
	"github.com/ovlnet/ovl/internal/plan"
)

// UnderlayChoice says which interface carries the tunnel. With neither field
// set it is that of the default route.
type UnderlayChoice struct {
	Link string
	Addr netip.Addr
}

// Resolve finds the underlay among the host's links. The first address of the
// result is the tunnel's own: the one asked for, or else the first IPv4 address
// of the link, or else its first IPv6 address.
func (c UnderlayChoice) Resolve(host dataplane.HostFacts) (plan.Underlay, error) {
	name := c.Link
	if name == "" && !c.Addr.IsValid() {
		name = host.DefaultLink
		if name == "" {
			return plan.Underlay{}, fmt.Errorf("choose underlay: this host has no default route: name the interface with --underlay-interface")
		}
	}
	for _, l := range host.Links {
		if name != "" && l.Name != name {
			continue
		}
		if c.Addr.IsValid() && !slices.ContainsFunc(l.Addrs, func(p netip.Prefix) bool { return p.Addr() == c.Addr }) {
			continue
		}
		return underlayOf(l, c.Addr)
	}
	switch {
	case name != "" && c.Addr.IsValid():
		return plan.Underlay{}, fmt.Errorf("choose underlay: interface %s has no address %s", name, c.Addr)
	case name != "":
		return plan.Underlay{}, fmt.Errorf("choose underlay: no interface %s with an address: see `ip address`, or name another with --underlay-interface", name)
	}
	return plan.Underlay{}, fmt.Errorf("choose underlay: no interface has the address %s: see `ip address`", c.Addr)
}

func underlayOf(l dataplane.HostLink, first netip.Addr) (plan.Underlay, error) {
	u := plan.Underlay{Link: l.Name, MTU: l.MTU, OnLink: l.OnLink}
	if !l.Up {
		return u, fmt.Errorf("choose underlay: interface %s is down", l.Name)
	}
	if first.IsValid() {
		u.Addrs = append(u.Addrs, first)
	}
	for _, is4 := range []bool{true, false} {
		for _, p := range l.Addrs {
			a := p.Addr()
			taken := slices.ContainsFunc(u.Addrs, func(b netip.Addr) bool { return b.Is4() == a.Is4() })
			if a.Is4() == is4 && !taken && !a.IsLoopback() && !a.IsLinkLocalUnicast() {
				u.Addrs = append(u.Addrs, a)
			}
		}
	}
	if len(u.Addrs) == 0 {
		return u, fmt.Errorf("choose underlay: interface %s has no usable address", l.Name)
	}
	return u, nil
}
