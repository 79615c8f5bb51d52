package main

import (
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/spf13/pflag"

	"github.com/ovlnet/ovl/controller/admit"
	"github.com/ovlnet/ovl/controller/embedstore"
	"github.com/ovlnet/ovl/internal/cluster"
	"github.com/ovlnet/ovl/internal/telemetry"
)

const defaultListen = ":6790"

// options are the flags.
type options struct {
	listen     string
	etcd       []string
	etcdListen string
	dataDir    string
	pool       string
	length     int
	firstVNI   uint32
	hosts      bool // may bring networks in
	identity   identityOptions
	audit      auditOptions
	telemetry  telemetry.Options

	defaults admit.Defaults // parsed from those above
}

func (o *options) bind(flags *pflag.FlagSet) {
	flags.StringVar(&o.listen, "listen", defaultListen, "address of the gRPC API, which asks for a certificate of the cluster")
	flags.StringSliceVar(&o.etcd, "etcd", nil, "URLs of an etcd cluster to use, such as https://10.0.0.1:2379 (none: run an etcd within)")
	flags.StringVar(&o.etcdListen, "etcd-listen", embedstore.DefaultClientAddr, "address of the etcd within, for the agents, which asks for a certificate of the cluster")
	flags.StringVar(&o.dataDir, "data-dir", "/var/lib/ovl-controller", "directory of the etcd within and of this controller's keys; made if it is missing")
	flags.StringVar(&o.pool, "default-pool", "10.64.0.0/10", "range from which networks without a subnet get one")
	flags.IntVar(&o.length, "default-pool-length", 16, "prefix length of each of these subnets")
	flags.Uint32Var(&o.firstVNI, "first-vni", 100, "VNIs are given out from this one upwards")
	flags.BoolVar(&o.hosts, "host-networks", true, "`docker network create -d ovl` on a host makes a network of the cluster")
	o.identity.bind(flags)
	o.audit.bind(flags)
	o.telemetry.Bind(flags)
}

// check returns everything wrong with the flags, and parses the pool.
func (o *options) check(changed func(flag string) bool) error {
	var errs []error
	if len(o.etcd) > 0 && changed("etcd-listen") {
		errs = append(errs, errors.New("--etcd-listen belongs to the etcd within, and --etcd uses another one: give only one of them"))
	}
	errs = append(errs, checkAddr("--listen", o.listen), checkAddr("--etcd-listen", o.etcdListen))
	errs = append(errs, o.identity.check(o, changed), o.audit.check(changed))
	pool, err := netip.ParsePrefix(o.pool)
	if err != nil {
		errs = append(errs, fmt.Errorf("--default-pool %q: want a range such as 10.64.0.0/10", o.pool))
		return oneLine(errs)
	}
	o.defaults = admit.Defaults{FirstVNI: cluster.VNI(o.firstVNI), Pool: pool, Length: o.length}
	for _, v := range o.defaults.Check() {
		errs = append(errs, fmt.Errorf("--%s: %s", v.Field, v.Description))
	}
	return oneLine(errs)
}

func checkAddr(flag, addr string) error {
	if _, port, err := net.SplitHostPort(addr); err != nil || port == "" {
		return fmt.Errorf("%s %q: want host:port or :port", flag, addr)
	}
	return nil
}

// oneLine joins as errors.Join does, but on one line.
func oneLine(errs []error) error {
	var all error
	for _, err := range errs {
		switch {
		case err == nil:
		case all == nil:
			all = err
		default:
			all = fmt.Errorf("%w; %w", all, err)
		}
	}
	return all
}
