package main

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"
	"golang.org/x/sync/errgroup"

	"github.com/ovlnet/ovl/internal/build"
	"github.com/ovlnet/ovl/internal/cluster"
	"github.com/ovlnet/ovl/internal/dataplane"
	"github.com/ovlnet/ovl/internal/kernel"
	"github.com/ovlnet/ovl/internal/plan"
	"github.com/ovlnet/ovl/internal/reconcile"
	"github.com/ovlnet/ovl/internal/settings"
	"github.com/ovlnet/ovl/internal/store"
	"github.com/ovlnet/ovl/internal/store/etcd"
	"github.com/ovlnet/ovl/internal/telemetry"
	"github.com/ovlnet/ovl/node-agent/agent"
	"github.com/ovlnet/ovl/node-agent/attach"
	"github.com/ovlnet/ovl/node-agent/conflist"
	"github.com/ovlnet/ovl/node-agent/lease"
	"github.com/ovlnet/ovl/node-agent/resolver"
)

// serve runs the agent until ctx is done.
func serve(ctx context.Context, o *options) error {
	if err := o.check(); err != nil {
		return err
	}
	choice, err := o.underlay()
	if err != nil {
		return err
	}
	log, err := o.telemetry.Logger(os.Stderr)
	if err != nil {
		return settings.Usage(err)
	}
	if err := kernel.Probe(ctx); err != nil {
		return err
	}
	db, id, err := openState(o.stateDir)
	if err != nil {
		return err
	}
	defer db.Close()                      // everything that matters is already synced
	docker, err := o.listenForDocker(log) //nolint:contextcheck // it only asks a local socket whether anybody is there
	if err != nil {
		return err
	}
	if docker != nil {
		defer docker.Close() // the server has closed it
	}
	linux, err := kernel.New(kernel.Config{Log: log, Sysctls: o.sysctlDir})
	if err != nil {
		return err
	}
	defer linux.Close() // nothing is buffered
	underlay, err := firstLook(ctx, linux, choice)
	if err != nil {
		return err
	}
	in, err := o.membership(id)
	if err != nil {
		return err
	}
	facts, err := etcd.Dial(etcd.Config{Endpoints: in.etcd, TLS: in.tls, Log: log})
	if err != nil {
		return err
	}
	kv := in.noting(facts)
	defer kv.Close() // nothing is buffered

	d := &program{o: o, in: in, log: log, db: db, linux: linux, kv: kv, choice: choice, underlay: underlay, docker: docker}
	d.self = cluster.Host{ID: id, Name: in.name, Underlay: underlay.Addrs, VXLANPort: o.vxlanPort, Version: build.Version().Version}
	log.Info("starting", "version", build.Version().Version, "host", in.name, "id", id,
		"underlay", underlay.Link, "address", underlay.Addrs[0], "mtu", underlay.MTU, "etcd", strings.Join(in.etcd, ","), "socket", o.socket)
	trimHeap()
	if err := d.run(ctx); err != nil && !errors.Is(err, context.Canceled) {
		return err
	}
	log.Info("stopped; the data path stays in place")
	return nil
}

// trimHeap makes the collector run somewhat more often than it would by itself, unless
// GOGC says otherwise. Thousands of peers are tens of megabytes that live long,
// on a host whose memory is for containers; the agent rests nearly always, so
// the time costs nobody anything.
func trimHeap() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(60)
	}
}

// openState opens what the host keeps on disk: its identity and its database.
func openState(dir string) (*bbolt.DB, cluster.HostID, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, "", fmt.Errorf("open state: %w: run as root, or choose another --state-dir", err)
	}
	id, err := lease.LoadHostID(dir)
	if err != nil {
		return nil, "", err
	}
	path := filepath.Join(dir, "agent.db")
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{Timeout: time.Second})
	switch {
	case errors.Is(err, bolterrors.ErrTimeout):
		return nil, "", fmt.Errorf("open %s: another ovl-agent holds it: stop that one, or choose another --state-dir", path)
	case err != nil:
		return nil, "", fmt.Errorf("open %s: %w", path, err)
	}
	return db, id, nil
}

// firstLook reads the host once, to find the interface that carries the tunnel.
func firstLook(ctx context.Context, k *kernel.Linux, choice agent.UnderlayChoice) (plan.Underlay, error) {
	_, facts, err := k.Observe(ctx, dataplane.Scope{dataplane.Host: dataplane.Of(dataplane.TableLink, dataplane.TableAddr, dataplane.TableRoute)})
	if err != nil {
		return plan.Underlay{}, fmt.Errorf("read the host's network: %w", err)
	}
	return choice.Resolve(*facts.Host)
}

// program is the agent's rooms, wired together.
type program struct {
	o        *options
	in       membership
	log      *slog.Logger
	db       *bbolt.DB
	linux    *kernel.Linux
	kv       store.KV
	self     cluster.Host
	choice   agent.UnderlayChoice
	underlay plan.Underlay
	docker   *dockerSocket // nil where no engine is to be answered
}

// kernel returns the kernel that the loop keeps as the cluster wants it.
func (d *program) kernel() reconcile.Kernel {
	if d.o.dryRun {
		return untouched{d.linux}
	}
	return d.linux
}

// rooms makes the rooms and lets each know of the ones that it needs.
func (d *program) rooms() (*running, error) {
	r := &running{reg: telemetry.NewRegistry(), self: d.self.ID}
	r.metrics = telemetry.NewAgent(r.reg)
	wake := func() { // the loop is made last, and woken by all
		r.loop.Wake(nil)
		r.tellDocker()
	}

	r.renamed = make(chan struct{}, 1)
	r.mirror = store.NewMirror(store.MirrorConfig{KV: d.kv, Log: d.log, Roots: d.in.roots(), Changed: wake, EndpointsChanged: r.rename})
	var err error
	r.keeper, err = lease.Open(lease.Config{
		KV: d.kv, DB: d.db, Self: d.self, BootID: bootID(), Instance: instance(),
		SessionTTL: d.o.sessionTTL, OwnershipTTL: d.o.ownershipTTL, Elapsed: lease.Boottime(), Log: d.log,
		Seal: d.in.seal(), Doubts: r.mirror.Doubts,
		Changed: func() {
			wake()
			r.Reconsider()
		},
	})
	if err != nil {
		return nil, err
	}
	journal, err := attach.OpenJournal(d.db)
	if err != nil {
		return nil, err
	}
	checkNS, err := attach.NetNSCheck(kernel.Pin)
	if err != nil {
		return nil, err
	}
	monitor, err := kernel.NewMonitor(kernel.MonitorConfig{Kernel: d.linux, Log: d.log})
	if err != nil {
		return nil, err
	}
	r.loop = agent.New(agent.Config{
		Self: d.self, Underlay: d.choice, Kernel: metered{d.kernel(), r.metrics}, Monitor: monitor, Cluster: r.mirror,
		Subnets: r.keeper, Attachments: r, Disk: agent.NewDisk(d.db), Relook: d.o.relook, PollFirewall: pollOf(monitor),
		Problems: func() []cluster.Problem {
			return slices.Concat(r.resolver.Problems(), d.in.problems(), r.runtimes.Problems(), r.docker.problems())
		},
		NameAddr: func() netip.Addr {
			addr, _ := r.docker.names()
			return addr
		},
		PassDone: func(took time.Duration) {
			r.metrics.PassSeconds.Observe(took.Seconds())
			r.resolver.Sync() // whoever waits for this pass shall find the names in place
			r.Tidy()
			r.runtimes.Wake()
		},
		Log: d.log,
	}, d.underlay)
	r.Attachments = attach.New(attach.Config{
		Self: d.self.ID, Journal: journal, Loop: r.loop, Subnets: r.keeper, NetNS: checkNS, HostPort: attach.HostPort, TunnelPort: d.o.vxlanPort, Home: d.o.cniNetwork, Log: d.log,
	})
	if r.runtimes, err = d.runtimes(r); err != nil {
		return nil, err
	}
	r.resolver = resolver.New(resolver.Config{
		Facts: r.facts, Log: d.log,
		Answered: func(outcome string) { r.metrics.Questions.WithLabelValues(outcome).Inc() },
	})
	if d.docker != nil {
		if r.docker, err = d.dockerRooms(r); err != nil {
			return nil, err
		}
	}
	return r, nil
}

// runtimes returns what tells container runtimes of the agent, if they are to be
// told.
func (d *program) runtimes(r *running) (*conflist.Writer, error) {
	cfg := conflist.Config{
		Dir: d.o.cniDir, Network: d.o.cniNetwork, Log: d.log, Changed: func() { r.loop.Wake(nil) },
		Ready: func() error {
			if r.loop.Status().Passes == 0 || r.loop.Snapshot().Revision == 0 {
				return errors.New("nothing is known of the cluster yet")
			}
			return r.keeper.MayAttach()
		},
		Exists: func(network string) bool {
			_, ok := r.loop.Snapshot().Network(network)
			return ok
		},
	}
	if d.o.dryRun {
		cfg.Dir = "" // nothing would be attached
	}
	if d.o.socket != attach.Socket {
		cfg.Socket = d.o.socket
	}
	return conflist.New(cfg)
}

// tellDocker tells what stands between the container engine and the agent, if anything
// does, that the cluster has changed.
func (r *running) tellDocker() {
	if r.docker != nil {
		s, _ := r.mirror.Snapshot()
		r.docker.changed(s)
	}
}

// running is the rooms of a running agent. As the loop's Attachments it stands
// for the attach room, which is made after the loop.
type running struct {
	*attach.Attachments
	reg      *prometheus.Registry
	self     cluster.HostID
	metrics  *telemetry.Agent
	mirror   *store.Mirror
	keeper   *lease.Keeper
	loop     *agent.Agent
	resolver *resolver.Resolver
	runtimes *conflist.Writer
	docker   *docker       // nil where no engine is to be answered
	renamed  chan struct{} // names have changed; holds at most one token
}

// rename has names taken up by the resolver alone: nothing is planned from them.
func (r *running) rename() {
	select {
	case r.renamed <- struct{}{}:
	default:
	}
}

// gatherNames is how long names are gathered before they are taken up.
const gatherNames = 2 * time.Millisecond

// followNames keeps the resolver's names current until ctx is done.
func (r *running) followNames(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-r.renamed:
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(gatherNames):
			r.resolver.Sync() //nolint:contextcheck // opening sockets waits for nothing
		}
	}
}

// facts are what names are answered from.
func (r *running) facts() resolver.Facts {
	snapshot, _ := r.mirror.Snapshot()
	addr, bridges := r.docker.names()
	return resolver.Facts{Self: r.self, Snapshot: snapshot, Attachments: r.List(), Wanted: r.loop.Plan().State, NameAddr: addr, Bridges: bridges}
}

func (d *program) run(ctx context.Context) error {
	r, err := d.rooms() //nolint:contextcheck // what it only names for later opens sockets, which waits for nothing
	if err != nil {
		return err
	}
	l, err := attach.Listen(d.o.socket) //nolint:contextcheck // it only asks a local socket whether anybody is there
	if err != nil {
		return err
	}
	defer l.Close() // the server has closed it
	if err := writePID(d.o.pidFile); err != nil {
		return err
	}
	if d.o.pidFile != "" {
		defer os.Remove(d.o.pidFile) // a stale one names no ovl-agent
	}
	version := build.Version()
	about := attach.NewAgentService(r.Attachments, attach.Process{
		Host: r.loop.Self, Version: version.Version, Commit: version.Commit, Started: time.Now(), StoreEndpoints: d.in.etcd,
	})
	g, ctx := errgroup.WithContext(ctx)
	if d.docker != nil {
		d.docker.server.Ready(r.docker.driver)
		g.Go(func() error { return d.docker.server.Serve(ctx, d.docker) })
		g.Go(func() error { return r.docker.mirror.Run(ctx) })
	}
	g.Go(func() error { return d.in.renew(ctx, d.log) })
	g.Go(func() error { return d.in.follow(ctx, d.kv, d.log) })
	g.Go(func() error { return d.in.rekeyed(ctx, r.keeper.Rekeyed) })
	g.Go(func() error { return r.mirror.Run(ctx) })
	g.Go(func() error { return r.keeper.Run(ctx) })
	g.Go(func() error { return r.loop.Run(ctx) })
	g.Go(func() error { return attach.Serve(ctx, l, attach.NewService(r.Attachments), about) })
	g.Go(func() error { return r.GiveBack(ctx) })
	g.Go(func() error { return r.SeeOff(ctx) })
	g.Go(func() error { return r.KeepHome(ctx) })
	g.Go(func() error { return r.resolver.Run(ctx) })
	g.Go(func() error { return r.followNames(ctx) })
	g.Go(func() error { return r.runtimes.Run(ctx) })
	g.Go(func() error { return r.tell(ctx) })
	g.Go(func() error {
		return telemetry.Serve(ctx, telemetry.Config{
			Listen: d.o.telemetry.MetricsListen, Gatherer: r.reg, Log: d.log,
			Live:  map[string]telemetry.Check{"loop": r.loop.Healthy},
			Ready: map[string]telemetry.Check{"loop": r.loop.Healthy, "subnets": func(context.Context) error { return r.keeper.MayAttach() }},
		})
	})
	g.Go(func() error { return d.ready(ctx, r.keeper.Settled()) })
	return g.Wait()
}

// settling is how much longer than a session an agent has at most, after a boot, until
// systemd is told that it is ready: what is left of the session of before, and some time
// for the store to notice.
const settling = 5 * time.Second

// ready tells systemd that the agent is ready, for which Docker waits (deploy/systemd): a
// container that cannot be attached when Docker starts stays down, whatever its restart
// policy. An agent that is in conflict for longer, or without its store, serves what it can.
func (d *program) ready(ctx context.Context, settled <-chan struct{}) error {
	late := time.NewTimer(d.o.sessionTTL + settling)
	defer late.Stop()
	select {
	case <-settled:
	case <-late.C:
		d.log.Warn("ready, though not yet settled: the store is away, or another agent has this host's identity")
	case <-ctx.Done():
		return nil
	}
	if _, err := daemonReady(); err != nil {
		d.log.Warn("systemd was not told that the agent is ready", "err", err)
	}
	return nil
}

// bootID returns the kernel's identity of this boot.
func bootID() string {
	id, err := kernel.BootID()
	if err != nil {
		return "unknown"
	}
	return id
}

// instance returns an identity of this process.
func instance() string {
	var b [8]byte
	_, _ = rand.Read(b[:]) // never fails (crypto/rand)
	return hex.EncodeToString(b[:])
}

// pollOf returns how often the firewall must be read because its changes are
// not announced: iptables-legacy has no notifications.
func pollOf(m *kernel.Monitor) time.Duration {
	if m.Legacy() {
		return 500 * time.Millisecond
	}
	return 0
}
