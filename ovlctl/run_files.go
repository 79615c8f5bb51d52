package main

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/ovlnet/ovl/internal/sandbox"
	ovlv1 "github.com/ovlnet/ovl/proto/ovl/v1"
)

// ownLoopback is where a sandbox without an address finds itself under its own
// name, as Debian does it (Debian Reference 5.1.1).
var ownLoopback = netip.AddrFrom4([4]byte{127, 0, 1, 1})

// wish is what the flags say of the files.
func (s runSpec) wish() sandbox.Wish {
	return sandbox.Wish{Hostname: s.hostname, Hosts: s.hosts, Servers: s.servers, Search: s.search, Options: s.options}
}

// filesOf returns the files of a sandbox whose network namespace has the
// interfaces: at its start, and again whenever they change.
func filesOf(name string, mode sandbox.Mode, w sandbox.Wish, interfaces []*ovlv1.Interface) (sandbox.Files, error) {
	f := sandbox.Files{Hostname: cmp.Or(w.Hostname, name)}
	hosts, err := hostLines(ownNames(f.Hostname, name), interfaces)
	if err != nil {
		return f, err
	}
	gateways, err := waysToHost(mode, interfaces)
	if err != nil {
		return f, err
	}
	for _, l := range w.Hosts {
		if l.Addr.IsValid() {
			hosts = append(hosts, l)
			continue
		}
		for _, g := range gateways {
			hosts = append(hosts, sandbox.HostLine{Addr: g, Names: l.Names})
		}
	}
	f.Hosts = hosts
	f.Resolv, err = resolvOf(mode, w, interfaces)
	return f, err
}

// ownNames are the sandbox's own, the canonical one first (gethostname(2) users
// such as hostname -f take it).
func ownNames(hostname, name string) []string {
	if hostname == name {
		return []string{name}
	}
	return []string{hostname, name}
}

func hostLines(names []string, interfaces []*ovlv1.Interface) ([]sandbox.HostLine, error) {
	var lines []sandbox.HostLine
	for _, i := range interfaces {
		for _, s := range i.GetAddresses() {
			p, err := netip.ParsePrefix(s)
			if err != nil {
				return nil, fmt.Errorf("read the agent's answer: address %q: %w", s, err)
			}
			lines = append(lines, sandbox.HostLine{Addr: p.Addr(), Names: names})
		}
	}
	if len(lines) == 0 {
		lines = append(lines, sandbox.HostLine{Addr: ownLoopback, Names: names})
	}
	return lines, nil
}

// waysToHost returns the addresses, one of each family at most, at which the
// host can be reached: the gateways on the way out, else those of the first
// network.
func waysToHost(mode sandbox.Mode, interfaces []*ovlv1.Interface) ([]netip.Addr, error) {
	if mode == sandbox.HostMode {
		return []netip.Addr{netip.AddrFrom4([4]byte{127, 0, 0, 1})}, nil
	}
	var ways []netip.Addr
	add := func(s string) error {
		a, err := netip.ParseAddr(s)
		if err != nil {
			return fmt.Errorf("read the agent's answer: gateway %q: %w", s, err)
		}
		if !slices.ContainsFunc(ways, func(w netip.Addr) bool { return w.Is4() == a.Is4() }) {
			ways = append(ways, a)
		}
		return nil
	}
	// On a segment the way out is another machine; the gateways are the host's
	// own addresses everywhere.
	for _, onTheWayOut := range []bool{true, false} {
		for _, i := range interfaces {
			for _, g := range i.GetGateways() {
				if onTheWayOut && !leadsOut(i, g) {
					continue
				}
				if err := add(g); err != nil {
					return nil, err
				}
			}
		}
	}
	return ways, nil
}

// leadsOut reports whether an interface has the default route of the gateway's
// family.
func leadsOut(i *ovlv1.Interface, gateway string) bool {
	def := "0.0.0.0/0"
	if strings.Contains(gateway, ":") {
		def = "::/0"
	}
	return slices.ContainsFunc(i.GetRoutes(), func(r *ovlv1.Route) bool { return r.GetDestination() == def })
}

func resolvOf(mode sandbox.Mode, w sandbox.Wish, interfaces []*ovlv1.Interface) (sandbox.Resolv, error) {
	read := sandbox.HostResolv
	if mode == sandbox.HostMode {
		read = sandbox.FullHostResolv
	}
	r, err := read()
	if err != nil {
		return r, err
	}
	if len(w.Servers) > 0 {
		r.Servers = w.Servers
	}
	if len(w.Search) > 0 {
		r.Search = w.Search
	}
	if len(w.Options) > 0 {
		r.Options = w.Options
	}
	return runSpec{servers: w.Servers, search: w.Search}.resolv(r, interfaces)
}
