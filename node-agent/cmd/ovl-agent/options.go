package main

import (
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/ovlnet/ovl/internal/cluster"
	"github.com/ovlnet/ovl/internal/settings"
	"github.com/ovlnet/ovl/internal/telemetry"
	"github.com/ovlnet/ovl/node-agent/agent"
	"github.com/ovlnet/ovl/node-agent/attach"
	"github.com/ovlnet/ovl/node-agent/conflist"
	"github.com/ovlnet/ovl/node-agent/dockerdriver"
	"github.com/ovlnet/ovl/node-agent/dockerdriver/engine"
)

// options are what the operator says.
type options struct {
	etcd         []string
	controllers  []string
	etcdCA       string
	etcdCert     string
	etcdKey      string
	plaintext    bool
	name         string
	link, addr   string
	stateDir     string
	socket       string
	pidFile      string
	cniDir       string
	cniNetwork   string
	dockerPlugin string
	dockerSocket string
	dockerEngine string
	dockerDNS    string
	sysctlDir    string
	vxlanPort    uint16
	sessionTTL   time.Duration
	ownershipTTL time.Duration
	relook       time.Duration
	dryRun       bool
	telemetry    telemetry.Options
}

func (o *options) bind(root *cobra.Command) {
	p := root.PersistentFlags()
	p.StringVar(&o.stateDir, "state-dir", "/var/lib/ovl", "directory of the host's identity, leases and attachments")
	p.StringVar(&o.socket, "socket", attach.Socket, "unix socket on which ovlctl and the plugins ask the agent")
	p.StringVar(&o.cniDir, "cni-conf-dir", "", "directory where container runtimes look, such as /etc/cni/net.d: the agent writes "+conflist.Name+" there once it is ready; empty: it does not")
	p.StringVar(&o.sysctlDir, "sysctl-dir", "/proc/sys", "where the kernel's parameters are: another mount of it where /proc/sys is for reading alone, as in a container")
	o.bindRun(root.Flags())
}

// bindRun adds what an agent needs that runs.
func (o *options) bindRun(f *pflag.FlagSet) {
	f.StringSliceVar(&o.etcd, "etcd", nil, "URLs of etcd (default: those that the controller named when this host joined)")
	f.StringSliceVar(&o.controllers, "controller", nil, "addresses of controllers, HOST:PORT (default: that at which this host joined)")
	f.StringVar(&o.etcdCA, "etcd-ca", "", "CA of an etcd that is not the controller's, in PEM (default: the cluster's own)")
	f.StringVar(&o.etcdCert, "etcd-cert", "", "certificate to show to that etcd, in PEM (default: this host's own)")
	f.StringVar(&o.etcdKey, "etcd-key", "", "key of that certificate (default: in the same file)")
	f.BoolVar(&o.plaintext, "insecure-plaintext", false, "speak plain text with an etcd on loopback, and be no member; with --etcd only")
	f.StringVar(&o.name, "name", "", "name of this host in the cluster (default: that under which it joined, or the hostname's first label)")
	f.StringVar(&o.link, "underlay-interface", "", "interface that carries the tunnel (default: that of the default route)")
	f.StringVar(&o.addr, "underlay-address", "", "address at which other hosts reach this one (default: the interface's first)")
	f.StringVar(&o.dockerPlugin, "docker-plugin", dockerAuto, "be Docker's driver ovl of networks and addresses: on, off, or auto (where Docker is)")
	f.StringVar(&o.dockerSocket, "docker-plugin-socket", dockerdriver.Socket, "unix socket on which Docker asks for it")
	f.StringVar(&o.dockerEngine, "docker-socket", engine.Socket, "unix socket of Docker's own API, where its networks and containers are asked about")
	f.StringVar(&o.dockerDNS, "docker-dns", "169.254.53.53", "address on this host at which Docker's containers ask for names: see docs/guide/docker.md; empty: none")
	f.Uint16Var(&o.vxlanPort, "vxlan-port", 4789, "UDP port of the tunnel; the same on all hosts")
	f.StringVar(&o.pidFile, "pid-file", "/run/ovl/agent.pid", "where the agent writes its process ID; empty: nowhere")
	f.StringVar(&o.cniNetwork, "cni-network", "", "network of the containers that --cni-conf-dir configures; this host is on it from the start, and reaches them wherever they are")
	f.DurationVar(&o.sessionTTL, "session-ttl", 15*time.Second, "how soon a host that fell silent counts as down")
	f.DurationVar(&o.ownershipTTL, "ownership-ttl", 24*time.Hour, "how long a host that fell silent keeps its subnets")
	f.DurationVar(&o.relook, "relook", 30*time.Second, "how often the whole kernel state is read again though nothing happened")
	f.BoolVar(&o.dryRun, "dry-run", false, "read and plan, but change nothing in the kernel: ovlctl agent diff tells what would be done")
	o.telemetry.Bind(f)
}

// host returns this host's name, checked.
func (o *options) host() (string, error) {
	name := o.name
	if name == "" {
		full, err := os.Hostname()
		if err != nil {
			return "", fmt.Errorf("read hostname: %w: give a name with --name", err)
		}
		name, _, _ = strings.Cut(strings.ToLower(full), ".")
	}
	if err := cluster.CheckName(name); err != nil {
		return "", settings.Usage(fmt.Errorf("--name: %w", err))
	}
	return name, nil
}

func (o *options) check() error {
	if _, err := o.host(); err != nil {
		return err
	}
	if err := o.checkEtcd(); err != nil {
		return settings.Usage(err)
	}
	if err := checkDocker(o.dockerPlugin); err != nil {
		return err
	}
	if _, err := o.nameAddr(); err != nil {
		return err
	}
	if o.vxlanPort == 0 {
		return settings.Usage(fmt.Errorf("--vxlan-port: want 1 to 65535"))
	}
	if (o.cniDir == "") != (o.cniNetwork == "") {
		return settings.Usage(errors.New("--cni-conf-dir and --cni-network: want both, as in --cni-conf-dir /etc/cni/net.d --cni-network blue, or none"))
	}
	if o.cniNetwork != "" {
		if err := cluster.CheckName(o.cniNetwork); err != nil {
			return settings.Usage(fmt.Errorf("--cni-network: %w", err))
		}
	}
	if o.sessionTTL < 2*time.Second || o.ownershipTTL < o.sessionTTL {
		return settings.Usage(fmt.Errorf("--session-ttl %v, --ownership-ttl %v: want at least 2s, and ownership no shorter than the session", o.sessionTTL, o.ownershipTTL))
	}
	return nil
}

func (o *options) checkEtcd() error {
	if o.plaintext && len(o.etcd) == 0 {
		return fmt.Errorf("--insecure-plaintext: name the etcd with --etcd http://127.0.0.1:6779")
	}
	for _, s := range o.etcd {
		u, err := url.Parse(s)
		switch {
		case err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "":
			return fmt.Errorf("--etcd %q: want a URL such as https://10.0.0.1:6779", s)
		case !o.plaintext && u.Scheme == "http":
			return fmt.Errorf("--etcd %s: want https: plain text needs --insecure-plaintext, and loopback", s)
		case o.plaintext && !loopback(u.Hostname()):
			return fmt.Errorf("--etcd %s: --insecure-plaintext is for loopback addresses only", s)
		}
	}
	return nil
}

func loopback(host string) bool {
	a, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && a.IsLoopback()
}

func (o *options) underlay() (agent.UnderlayChoice, error) {
	c := agent.UnderlayChoice{Link: o.link}
	if o.addr == "" {
		return c, nil
	}
	a, err := netip.ParseAddr(o.addr)
	if err != nil || a.Zone() != "" || a.IsLoopback() || a.IsUnspecified() || a.IsMulticast() || a.IsLinkLocalUnicast() {
		return c, settings.Usage(fmt.Errorf("--underlay-address %q: want a unicast address of this host, such as 192.0.2.7", o.addr))
	}
	c.Addr = a.Unmap()
	return c, nil
}
