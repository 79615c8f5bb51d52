package main

import (
	"net/netip"
	"strings"

	"github.com/spf13/cobra"

	"github.com/ovlnet/ovl/internal/cluster"
	"github.com/ovlnet/ovl/internal/sandbox"
	ovlv1 "github.com/ovlnet/ovl/proto/ovl/v1"
)

// runFlags are the flags of run, as typed.
type runFlags struct {
	detach, remove                  bool
	name, hostname, mac             string
	networks, ips, aliases          []string
	dns, search, hosts, ports, tags []string
}

// runSpec is what they mean.
type runSpec struct {
	name, hostname string
	detach, remove bool
	command        []string
	interfaces     []*ovlv1.InterfaceRequest // none: --network none
	labels         map[string]string
	hosts          []sandbox.HostLine
	servers        []netip.Addr
	search         []string
}

func (f *runFlags) register(c *cobra.Command, o *options) {
	fl := c.Flags()
	fl.SetInterspersed(false) // what follows the command is the command's
	fl.BoolVarP(&f.detach, "detach", "d", false, "run in the background, with a log; see ovlctl logs")
	fl.BoolVar(&f.remove, "rm", false, "remove the sandbox when its command has ended")
	fl.StringVar(&f.name, "name", "", "name of the sandbox, by which others reach it")
	fl.StringArrayVar(&f.networks, "network", nil, "network to attach to, or none")
	fl.StringArrayVar(&f.ips, "ip", nil, "address wanted on the first network, one of each family at most")
	fl.StringVar(&f.mac, "mac", "", "MAC wanted on the first network")
	fl.StringVar(&f.hostname, "hostname", "", "hostname inside (the name)")
	fl.StringArrayVar(&f.aliases, "alias", nil, "another name on its networks")
	fl.StringArrayVar(&f.dns, "dns", nil, "address of a resolver (those of the host)")
	fl.StringArrayVar(&f.search, "dns-search", nil, "domain to look names up in")
	fl.StringArrayVar(&f.hosts, "add-host", nil, "line of /etc/hosts, NAME:IP")
	fl.StringArrayVarP(&f.ports, "publish", "p", nil, "port of the host, [HOSTIP:]HOSTPORT:PORT[/tcp|udp]")
	fl.StringArrayVar(&f.tags, "label", nil, "label, KEY=VALUE")
	completeFlag(c, "network", o.live(networkNames))
}

// spec checks the flags, all of them before anything is made.
func (f *runFlags) spec(command []string) (runSpec, error) {
	r := runSpec{name: f.name, hostname: first(f.hostname, f.name), detach: f.detach, remove: f.remove, command: command, search: f.search}
	if f.name == "" {
		return r, usagef("run: --name is missing; see ovlctl run --help")
	}
	if err := cluster.CheckName(f.name); err != nil {
		return r, usagef("--name: %w", err)
	}
	if err := checkHostname(r.hostname); err != nil {
		return r, err
	}
	if f.remove && (f.detach || len(command) == 0) {
		return r, usagef("--rm: it needs a command in the foreground")
	}
	if f.detach && len(command) == 0 {
		r.detach = false // it just stays, in the background or not
	}
	if len(f.ports) > 0 {
		return r, usagef("--publish %s: publishing ports is not available in this version", f.ports[0])
	}
	var err error
	for _, step := range []func(*runSpec) error{f.addInterfaces, f.addHosts, f.addResolvers} {
		if err := step(&r); err != nil {
			return r, err
		}
	}
	r.labels, err = parseLabels(f.tags)
	return r, err
}

func (f *runFlags) addInterfaces(r *runSpec) error {
	if len(f.networks) == 0 {
		return usagef("run: --network is missing; see ovlctl network ls")
	}
	for _, n := range f.networks {
		switch {
		case n == "none" && len(f.networks) == 1:
			if len(f.ips) > 0 || f.mac != "" || len(f.aliases) > 0 {
				return usagef("--network none: there is no interface for --ip, --mac or --alias")
			}
			return nil
		case n == "none":
			return usagef("--network none: it does not go with other networks")
		case n == "host" || strings.HasPrefix(n, "container:"):
			return usagef("--network %s: not available in this version", n)
		}
		if err := cluster.CheckName(n); err != nil {
			return usagef("--network: %w", err)
		}
		r.interfaces = append(r.interfaces, &ovlv1.InterfaceRequest{Network: n, Aliases: f.aliases})
	}
	for _, a := range f.ips {
		ip, err := netip.ParseAddr(a)
		if err != nil || ip.Zone() != "" {
			return usagef("--ip %q: want an address such as 10.64.3.2", a)
		}
		r.interfaces[0].Addresses = append(r.interfaces[0].Addresses, ip.Unmap().String())
	}
	if f.mac != "" {
		m, err := cluster.ParseMAC(strings.ToLower(f.mac))
		if err != nil || m.IsZero() || m[0]&1 != 0 {
			return usagef("--mac %q: want a unicast address such as 02:4a:00:00:00:01", f.mac)
		}
		r.interfaces[0].Mac = m.String()
	}
	for _, a := range f.aliases {
		if err := cluster.CheckName(a); err != nil {
			return usagef("--alias: %w", err)
		}
	}
	return nil
}

func (f *runFlags) addHosts(r *runSpec) error {
	for _, h := range f.hosts {
		name, addr, _ := strings.Cut(h, ":")
		ip, err := netip.ParseAddr(strings.Trim(addr, "[]"))
		if err != nil || checkHostname(name) != nil {
			return usagef("--add-host %q: want NAME:IP", h)
		}
		r.hosts = append(r.hosts, sandbox.HostLine{Addr: ip, Names: []string{name}})
	}
	return nil
}

func (f *runFlags) addResolvers(r *runSpec) error {
	for _, d := range f.dns {
		ip, err := netip.ParseAddr(d)
		if err != nil {
			return usagef("--dns %q: want an address", d)
		}
		r.servers = append(r.servers, ip)
	}
	for _, d := range f.search {
		if checkHostname(d) != nil {
			return usagef("--dns-search %q: want a domain", d)
		}
	}
	return nil
}

// maxHostname is the kernel's __NEW_UTS_LEN (include/uapi/linux/utsname.h).
const maxHostname = 64

// checkHostname wants labels with dots between, which is also what keeps line
// feeds out of the files that the name is written to.
func checkHostname(s string) error {
	if len(s) > maxHostname {
		return usagef("hostname %q: want at most %d characters", oneLine(s), maxHostname)
	}
	for label := range strings.SplitSeq(strings.ToLower(s), ".") {
		if err := cluster.CheckName(label); err != nil {
			return usagef("hostname: %w", err)
		}
	}
	return nil
}
