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
	dnsOptions                      []string
}

// runSpec is what they mean.
type runSpec struct {
	name, hostname string
	detach, remove bool
	command        []string
	mode           sandbox.Mode              // whose network namespace it has
	interfaces     []*ovlv1.InterfaceRequest // none: --network none, or another mode
	ports          []*ovlv1.Port
	labels         map[string]string
	hosts          []sandbox.HostLine // without an address: host-gateway
	servers        []netip.Addr
	search         []string
	options        []string
}

func (f *runFlags) register(c *cobra.Command, o *options) {
	fl := c.Flags()
	fl.SetInterspersed(false) // what follows the command is the command's
	fl.BoolVarP(&f.detach, "detach", "d", false, "run in the background, with a log; see ovlctl logs")
	fl.BoolVar(&f.remove, "rm", false, "remove the sandbox when its command has ended")
	fl.StringVar(&f.name, "name", "", "name of the sandbox, by which others reach it")
	fl.StringVar(&f.hostname, "hostname", "", "hostname inside (the name)")
	fl.StringArrayVar(&f.dns, "dns", nil, "address of a resolver (those of the host)")
	fl.StringArrayVar(&f.search, "dns-search", nil, "domain to look names up in")
	fl.StringArrayVar(&f.dnsOptions, "dns-option", nil, "option of the resolver, such as ndots:2")
	fl.StringArrayVar(&f.hosts, "add-host", nil, "line of /etc/hosts, NAME:IP; the IP host-gateway is the way to this host")
	f.registerNetworks(c, o, "network to attach to, or none, host, container:OTHER; "+ofOneNetwork)
}

// ofOneNetwork says what is wanted on one network alone.
const ofOneNetwork = "NETWORK,ip=A,mac=M,alias=N,interface=I for this one alone"

// registerNetworks registers the flags that say what is attached how.
func (f *runFlags) registerNetworks(c *cobra.Command, o *options, network string) {
	fl := c.Flags()
	fl.StringArrayVar(&f.networks, "network", nil, network)
	fl.StringArrayVar(&f.ips, "ip", nil, "address wanted on the first network, one of each family at most: in a subnet that this host holds or can take, or in the static range")
	fl.StringVar(&f.mac, "mac", "", "MAC wanted on the first network")
	fl.StringArrayVar(&f.aliases, "alias", nil, "another name on its networks")
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
	var err error
	for _, step := range []func(*runSpec) error{f.addInterfaces, f.addPorts, f.addHosts, f.addResolvers} {
		if err := step(&r); err != nil {
			return r, err
		}
	}
	r.labels, err = parseLabels(f.tags)
	return r, err
}

func (f *runFlags) addHosts(r *runSpec) error {
	for _, h := range f.hosts {
		name, addr, _ := strings.Cut(h, ":")
		if checkHostname(name) != nil {
			return usagef("--add-host %q: want NAME:IP", h)
		}
		line := sandbox.HostLine{Names: []string{name}}
		if addr == "host-gateway" {
			if r.mode == "" && len(r.interfaces) == 0 {
				return usagef("--add-host %s: with --network none there is no way to the host", h)
			}
		} else if ip, err := netip.ParseAddr(strings.Trim(addr, "[]")); err == nil {
			line.Addr = ip
		} else {
			return usagef("--add-host %q: want NAME:IP", h)
		}
		r.hosts = append(r.hosts, line)
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
	for _, o := range f.dnsOptions {
		if !isResolvOption(o) {
			return usagef("--dns-option %q: want an option of resolv.conf(5), such as ndots:2", o)
		}
		r.options = append(r.options, o)
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
