package main

import (
	"net/netip"
	"strings"

	"github.com/ovlnet/ovl/internal/cluster"
	"github.com/ovlnet/ovl/internal/sandbox"
	ovlv1 "github.com/ovlnet/ovl/proto/ovl/v1"
)

// addInterfaces reads --network and what goes with it.
func (f *runFlags) addInterfaces(r *runSpec) error {
	if len(f.networks) == 0 {
		return usagef("--network is missing; see ovlctl network ls")
	}
	for _, n := range f.networks {
		if mode, is, err := parseMode(n); err != nil {
			return err
		} else if is {
			r.mode = mode
			return f.alone(n)
		}
		i, err := parseNetwork(n)
		if err != nil {
			return err
		}
		r.interfaces = append(r.interfaces, i)
	}
	for _, i := range r.interfaces {
		if err := addAliases(i, f.aliases); err != nil {
			return err
		}
	}
	first := r.interfaces[0]
	for _, a := range f.ips {
		if err := addIP(first, "--ip", a); err != nil {
			return err
		}
	}
	if f.mac != "" {
		return setMAC(first, f.mac)
	}
	return nil
}

// parseMode reads a --network that names no network.
func parseMode(s string) (mode sandbox.Mode, is bool, err error) {
	switch other, shared := strings.CutPrefix(s, "container:"); {
	case shared:
		if err := cluster.CheckName(other); err != nil {
			return "", true, usagef("--network container: %w", err)
		}
		return sandbox.ContainerMode(other), true, nil
	case s == "host":
		return sandbox.HostMode, true, nil
	}
	return "", s == "none", nil
}

// alone refuses what a sandbox without interfaces of its own cannot have.
func (f *runFlags) alone(mode string) error {
	switch {
	case len(f.networks) > 1:
		return usagef("--network %s: it does not go with other networks", mode)
	case len(f.ips) > 0 || f.mac != "" || len(f.aliases) > 0:
		return usagef("--network %s: there is no interface for --ip, --mac or --alias", mode)
	}
	return nil
}

// parseNetwork reads NETWORK[,ip=A][,mac=M][,alias=N][,interface=I]: what is wanted on that
// network alone.
func parseNetwork(s string) (*ovlv1.InterfaceRequest, error) {
	name, rest, more := strings.Cut(s, ",")
	if err := cluster.CheckName(name); err != nil {
		return nil, usagef("--network: %w", err)
	}
	i := &ovlv1.InterfaceRequest{Network: name}
	for more {
		var word string
		word, rest, more = strings.Cut(rest, ",")
		key, value, _ := strings.Cut(word, "=")
		var err error
		switch key {
		case "ip":
			err = addIP(i, "--network "+name+",ip", value)
		case "mac":
			err = setMAC(i, value)
		case "alias":
			err = addAliases(i, []string{value})
		case "interface":
			i.Name = value // the agent says what a name must be
		default:
			err = usagef("--network %q: want NETWORK[,ip=A][,mac=M][,alias=N][,interface=I]", s)
		}
		if err != nil {
			return nil, err
		}
	}
	return i, nil
}

func addIP(i *ovlv1.InterfaceRequest, flag, s string) error {
	ip, err := netip.ParseAddr(s)
	if err != nil || ip.Zone() != "" {
		return usagef("%s %q: want an address such as 10.64.3.2", flag, s)
	}
	i.Addresses = append(i.Addresses, ip.Unmap().String())
	return nil
}

func setMAC(i *ovlv1.InterfaceRequest, s string) error {
	m, err := cluster.ParseMAC(strings.ToLower(s))
	if err != nil || m.IsZero() || m[0]&1 != 0 {
		return usagef("--mac %q: want a unicast address such as 02:4a:00:00:00:01", s)
	}
	i.Mac = m.String()
	return nil
}

func addAliases(i *ovlv1.InterfaceRequest, aliases []string) error {
	for _, a := range aliases {
		if err := cluster.CheckName(a); err != nil {
			return usagef("--alias: %w", err)
		}
		i.Aliases = append(i.Aliases, a)
	}
	return nil
}

// maxOption bounds an option of the resolver; the longest has 24 bytes
// (resolv.conf(5): no-check-names, trust-ad, timeout:n …).
const maxOption = 64

// isResolvOption wants a word with perhaps a number, which also keeps line feeds
// out of the file.
func isResolvOption(s string) bool {
	return s != "" && len(s) <= maxOption && strings.Trim(s, "abcdefghijklmnopqrstuvwxyz0123456789-:") == ""
}
