package main

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/ovlnet/ovl/internal/cluster"
	"github.com/ovlnet/ovl/internal/wire"
	ovlv1 "github.com/ovlnet/ovl/proto/ovl/v1"
)

const portForm = "want [HOSTIP:]HOSTPORT:PORT[/tcp|udp], such as 8080:80, 127.0.0.1:8080:80, [2001:db8::1]:5353:53/udp or 8000-8009:80-89"

// parsePorts returns the ports in one --publish: several if it has ranges.
func parsePorts(s string) ([]cluster.Port, error) {
	bad := func(format string, args ...any) ([]cluster.Port, error) {
		return nil, usagef("--publish %q: %s", oneLine(s), fmt.Sprintf(format, args...))
	}
	rest, proto, given := strings.Cut(s, "/")
	if !given {
		proto = string(cluster.TCP)
	}
	p := cluster.Port{Proto: cluster.Proto(strings.ToLower(proto))}
	at, inside, ok := cutLast(rest, ":")
	if !ok {
		return bad("%s", portForm)
	}
	ip, host, withIP := cutLast(at, ":")
	if !withIP {
		host = at
	} else {
		a, err := parseHostIP(ip)
		if err != nil {
			return bad("%v", err)
		}
		p.HostIP = a
	}
	h, err := parsePortRange(host)
	if err != nil {
		return bad("%v", err)
	}
	c, err := parsePortRange(inside)
	if err != nil {
		return bad("%v", err)
	}
	if len(h) != len(c) {
		return bad("%d ports of the host for %d of the container: want as many", len(h), len(c))
	}
	ports := make([]cluster.Port, len(h))
	for i := range h {
		ports[i] = p
		ports[i].HostPort, ports[i].ContainerPort = h[i], c[i]
		if err := ports[i].Check(); err != nil {
			return bad("%v", err)
		}
	}
	return ports, nil
}

func cutLast(s, sep string) (before, after string, found bool) {
	if i := strings.LastIndex(s, sep); i >= 0 {
		return s[:i], s[i+len(sep):], true
	}
	return s, "", false
}

// parseHostIP wants IPv6 in brackets, since its colons would make the rest a
// matter of guessing.
func parseHostIP(s string) (netip.Addr, error) {
	inner, bracketed := strings.CutPrefix(s, "[")
	if bracketed {
		inner, bracketed = strings.CutSuffix(inner, "]")
	}
	a, err := netip.ParseAddr(inner)
	if err != nil || a.Is4() == bracketed || a.Zone() != "" {
		return netip.Addr{}, fmt.Errorf("%q is no address of a host: %s", clean(s), portForm)
	}
	return a, nil
}

// parsePortRange returns the ports from N or N-M, at most as many as a container
// may publish.
func parsePortRange(s string) ([]uint16, error) {
	from, to, isRange := strings.Cut(s, "-")
	if !isRange {
		to = from
	}
	a, errA := strconv.ParseUint(from, 10, 16)
	b, errB := strconv.ParseUint(to, 10, 16)
	if errA != nil || errB != nil || a == 0 || b < a || from[0] == '+' || to[0] == '+' {
		return nil, fmt.Errorf("%q is no port or range: want 1 to 65535; %s", clean(s), portForm)
	}
	if b-a >= cluster.MaxPorts {
		return nil, fmt.Errorf("%q are %d ports: want at most %d", s, b-a+1, cluster.MaxPorts)
	}
	ports := make([]uint16, 0, b-a+1)
	for n := a; n <= b; n++ {
		ports = append(ports, uint16(n))
	}
	return ports, nil
}

func (f *runFlags) addPorts(r *runSpec) error {
	if len(f.ports) > 0 && len(r.interfaces) == 0 {
		return usagef("--publish %s: a sandbox without a network of its own has no ports to publish", oneLine(f.ports[0]))
	}
	var err error
	r.ports, err = publish(f.ports)
	return err
}

// publish returns the ports in all of the --publish flags.
func publish(flags []string) ([]*ovlv1.Port, error) {
	var all []cluster.Port
	for _, f := range flags {
		ports, err := parsePorts(f)
		if err != nil {
			return nil, err
		}
		if all = append(all, ports...); len(all) > cluster.MaxPorts {
			return nil, usagef("--publish: more than %d ports", cluster.MaxPorts)
		}
	}
	slices.SortFunc(all, cluster.ComparePort)
	all = slices.Compact(all)
	out := make([]*ovlv1.Port, len(all))
	for i, p := range all {
		out[i] = wire.Port(p)
	}
	return out, nil
}

// portCell writes ports as ps shows them, ranges as ranges:
// "8080->80/tcp,127.0.0.1:8000-8009->80-89/tcp".
func portCell(a *ovlv1.Attachment) string {
	var ports []cluster.Port
	for _, m := range a.GetPorts() {
		if p, err := wire.ParsePort(m); err == nil {
			ports = append(ports, p)
		}
	}
	// Ports of one kind together, so that ranges are found.
	slices.SortStableFunc(ports, func(a, b cluster.Port) int {
		if c := a.HostIP.Compare(b.HostIP); c != 0 {
			return c
		}
		return strings.Compare(string(a.Proto), string(b.Proto))
	})
	var cells []string
	for len(ports) > 0 {
		n := 1
		for n < len(ports) && follows(ports[n-1], ports[n]) {
			n++
		}
		cells = append(cells, portSpan(ports[0], ports[n-1]))
		ports = ports[n:]
	}
	return list(cells)
}

func follows(a, b cluster.Port) bool {
	return a.Proto == b.Proto && a.HostIP == b.HostIP && b.HostPort == a.HostPort+1 && b.ContainerPort == a.ContainerPort+1
}

func portSpan(first, last cluster.Port) string {
	host, inside := number(uint32(first.HostPort)), number(uint32(first.ContainerPort))
	if first != last {
		host, inside = host+"-"+number(uint32(last.HostPort)), inside+"-"+number(uint32(last.ContainerPort))
	}
	at := ""
	switch ip := first.HostIP; {
	case ip.Is4():
		at = ip.String() + ":"
	case ip.Is6():
		at = "[" + ip.String() + "]:"
	}
	return at + host + "->" + inside + "/" + string(first.Proto)
}
