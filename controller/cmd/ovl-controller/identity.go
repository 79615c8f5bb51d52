package main

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"github.com/ovlnet/ovl/controller/keys"
	"github.com/ovlnet/ovl/internal/identity"
)

// identityOptions are the flags about who may come in.
type identityOptions struct {
	advertise                 []string
	caCert, caKey             string
	life                      time.Duration
	etcdCA, etcdCert, etcdKey string
	plaintext                 bool
}

// The bounds of --cert-lifetime.
const minLife, defaultLife, maxLife = 5 * time.Second, 30 * 24 * time.Hour, 366 * 24 * time.Hour

func (o *identityOptions) bind(flags *pflag.FlagSet) {
	flags.StringSliceVar(&o.advertise, "advertise", nil, "names and addresses at which hosts reach this controller (default: those at which they joined)")
	flags.StringVar(&o.caCert, "ca-cert", "", "certificate of an own CA, in PEM (default: one made in --data-dir)")
	flags.StringVar(&o.caKey, "ca-key", "", "key of that CA, in PEM; readable by its owner alone")
	flags.DurationVar(&o.life, "cert-lifetime", defaultLife, "how long the certificates live that this controller issues; they are renewed at half of it")
	flags.StringVar(&o.etcdCA, "etcd-ca", "", "CA of the etcd of --etcd, in PEM (default: the cluster's own)")
	flags.StringVar(&o.etcdCert, "etcd-cert", "", "certificate to show to that etcd, in PEM (default: this controller's own)")
	flags.StringVar(&o.etcdKey, "etcd-key", "", "key of that certificate (default: in the same file)")
	flags.BoolVar(&o.plaintext, "insecure-plaintext", false, "let everybody in who reaches the ports, unencrypted; on loopback addresses only")
}

func (o *identityOptions) check(all *options, changed func(flag string) bool) error {
	var errs []error
	if (o.caCert == "") != (o.caKey == "") {
		errs = append(errs, errors.New("--ca-cert and --ca-key belong together: give both or none"))
	}
	if o.life < minLife || o.life > maxLife {
		errs = append(errs, fmt.Errorf("--cert-lifetime %v: want %v to %v", o.life, minLife, maxLife))
	}
	for _, a := range o.advertise {
		if a == "" || strings.ContainsAny(a, "/ \t") || strings.Contains(a, ":") && !isAddr(a) {
			errs = append(errs, fmt.Errorf("--advertise %q: want a name or an address, without a port", a))
		}
	}
	errs = append(errs, o.checkEtcd(all.etcd)...)
	if o.plaintext {
		errs = append(errs, checkPlaintext(all, changed)...)
	}
	return oneLine(errs)
}

func (o *identityOptions) checkEtcd(endpoints []string) []error {
	var errs []error
	if len(endpoints) == 0 && (o.etcdCA != "" || o.etcdCert != "" || o.etcdKey != "") {
		errs = append(errs, errors.New("--etcd-ca, --etcd-cert and --etcd-key are for the etcd of --etcd: give that too"))
	}
	for _, e := range endpoints {
		u, err := url.Parse(e)
		switch {
		case err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "":
			errs = append(errs, fmt.Errorf("--etcd %q: want http or https, such as https://10.0.0.1:2379", e))
		case u.Scheme == "http" && !o.plaintext:
			errs = append(errs, fmt.Errorf("--etcd %s: want https: plain text needs --insecure-plaintext, and loopback", e))
		case u.Scheme == "http" && !loopback(u.Hostname()):
			errs = append(errs, fmt.Errorf("--etcd %s: plain text on loopback only: use https", e))
		}
	}
	return errs
}

// checkPlaintext holds plain text to this machine. What nobody chose to listen on
// becomes loopback.
func checkPlaintext(all *options, changed func(string) bool) []error {
	var errs []error
	for flag, addr := range map[string]*string{"listen": &all.listen, "etcd-listen": &all.etcdListen} {
		if !changed(flag) {
			*addr = "127.0.0.1" + *addr
		}
		if host, _, err := net.SplitHostPort(*addr); err == nil && !loopback(host) {
			errs = append(errs, fmt.Errorf("--insecure-plaintext with --%s %s: plain text is for loopback addresses only: leave one of them out", flag, *addr))
		}
	}
	return errs
}

func isAddr(s string) bool { _, err := netip.ParseAddr(s); return err == nil }

func loopback(host string) bool {
	a, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && a.IsLoopback()
}

// keys returns what the keys of this controller are to be.
func (o *identityOptions) keys(all options) keys.Config {
	hostname, _ := os.Hostname() // one without a name is just not named
	short, _, _ := strings.Cut(strings.ToLower(hostname), ".")
	return keys.Config{
		Dir: all.dataDir + "/identity", CACert: o.caCert, CAKey: o.caKey, Hostname: short,
		Names: o.names(hostname, all.listen, all.etcdListen), Controller: o.own(all.listen), Life: o.life,
	}
}

// own is where this machine finds the API.
func (o *identityOptions) own(listen string) string {
	host, port, err := net.SplitHostPort(listen)
	if a, perr := netip.ParseAddr(host); err == nil && (host == "" || perr == nil && a.IsUnspecified()) {
		return net.JoinHostPort("127.0.0.1", port)
	}
	return listen
}

// maxNames bounds the addresses of one kind in a certificate.
const maxNames = 32

// names are those of the server's certificate: given ones, the listeners', the
// machine's and loopback.
func (o *identityOptions) names(hostname string, listens ...string) identity.Names {
	all := append(slices.Clone(o.advertise), "localhost", "127.0.0.1", "::1", hostname)
	for _, l := range listens {
		if host, _, err := net.SplitHostPort(l); err == nil {
			all = append(all, host)
		}
	}
	own, _ := net.InterfaceAddrs() // our own clients do not compare addresses
	for _, a := range own {
		if p, err := netip.ParsePrefix(a.String()); err == nil && p.Addr().IsGlobalUnicast() {
			all = append(all, p.Addr().String())
		}
	}
	var n identity.Names
	for _, s := range all {
		addr, err := netip.ParseAddr(s)
		switch {
		case s == "" || err == nil && addr.IsUnspecified():
		case err != nil && len(n.DNS) < maxNames && !slices.Contains(n.DNS, s):
			n.DNS = append(n.DNS, s)
		case err == nil && len(n.Addrs) < maxNames && !slices.Contains(n.Addrs, addr):
			n.Addrs = append(n.Addrs, addr)
		}
	}
	return n
}

// etcdEndpoints are the URLs at which members find etcd. One without a host is at
// whatever address they reach the controller.
func (o *identityOptions) etcdEndpoints(all options, b *backend) []string {
	if !b.embedded() {
		return all.etcd
	}
	addr := b.within.Addr()
	port := fmt.Sprint(addr.Port())
	if len(o.advertise) == 0 {
		host := addr.Addr().String()
		if addr.Addr().IsUnspecified() {
			host = ""
		}
		return []string{"https://" + net.JoinHostPort(host, port)}
	}
	var urls []string
	for _, a := range o.advertise {
		urls = append(urls, "https://"+net.JoinHostPort(a, port))
	}
	return urls
}
