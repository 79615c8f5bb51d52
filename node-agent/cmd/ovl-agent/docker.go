package main

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/ovlnet/ovl/internal/cluster"
	"github.com/ovlnet/ovl/internal/settings"
	"github.com/ovlnet/ovl/internal/store"
	"github.com/ovlnet/ovl/node-agent/attach"
	"github.com/ovlnet/ovl/node-agent/dockerdriver"
	"github.com/ovlnet/ovl/node-agent/dockerdriver/engine"
	"github.com/ovlnet/ovl/node-agent/dockerdriver/mirror"
)

// The values of --docker-plugin.
const (
	dockerAuto = "auto"
	dockerOn   = "on"
	dockerOff  = "off"
)

func checkDocker(mode string) error {
	switch mode {
	case dockerAuto, dockerOn, dockerOff:
		return nil
	}
	return settings.Usage(fmt.Errorf("--docker-plugin %q: want on, off, or auto: on where Docker is", mode))
}

// dockerSocket is where engines find the agent.
type dockerSocket struct {
	net.Listener
	server *dockerdriver.Server
}

// listenForDocker listens for engines, before anything else is ready: an engine that starts
// at the same time asks at once, and would tell its containers no. It returns nil where that
// is not wanted, or nobody is there to ask.
func (o *options) listenForDocker(log *slog.Logger) (*dockerSocket, error) {
	if o.dockerPlugin == dockerOff || o.dockerPlugin == dockerAuto && !hasDocker() {
		return nil, nil //nolint:nilnil // no socket is no error
	}
	l, err := attach.ListenAlone(o.dockerSocket)
	switch {
	case err == nil:
	case o.dockerPlugin == dockerAuto:
		log.Warn("Docker cannot use the networks: its plugin's socket cannot be had", "err", err)
		return nil, nil //nolint:nilnil // the rest of the agent works
	default:
		return nil, err
	}
	return &dockerSocket{l, dockerdriver.NewServer(log)}, nil
}

// hasDocker reports whether an engine is installed here, running or not.
func hasDocker() bool {
	if _, err := exec.LookPath("dockerd"); err == nil {
		return true
	}
	_, err := os.Stat("/run/docker.sock")
	return err == nil
}

// nameAddr returns the address at which Docker's containers ask for names; the zero Addr:
// there is none.
func (o *options) nameAddr() (netip.Addr, error) {
	if o.dockerDNS == "" {
		return netip.Addr{}, nil
	}
	a, err := netip.ParseAddr(o.dockerDNS)
	if err != nil || !a.Is4() || a.IsLoopback() || a.IsUnspecified() || a.IsMulticast() {
		return a, settings.Usage(fmt.Errorf("--docker-dns %q: want an IPv4 address that nobody else has, such as 169.254.53.53", o.dockerDNS))
	}
	return a, nil
}

// docker is what stands between this host's container engine and the agent.
type docker struct {
	driver   *dockerdriver.Driver
	book     *dockerdriver.Book
	mirror   *mirror.Mirror
	nameAddr netip.Addr

	mu       sync.Mutex
	met      bool     // the engine has been here
	bridges  []string // links of the engine's own networks
	networks []cluster.Network
}

// docker makes what answers the engine and asks it.
func (d *program) dockerRooms(r *running) (*docker, error) {
	addr, err := d.o.nameAddr()
	if err != nil {
		return nil, err
	}
	book, err := dockerdriver.OpenBook(d.db)
	if err != nil {
		return nil, err
	}
	k := &docker{book: book, nameAddr: addr}
	k.driver = dockerdriver.New(dockerdriver.Config{
		Attachments: r.Attachments, Cluster: r.loop, Book: book, NameAddr: addr, Log: d.log,
		Answered: func(call string, failed bool) {
			result := "done"
			if failed {
				result = "failed"
			}
			r.metrics.DockerCalls.WithLabelValues(call, result).Inc()
		},
	})
	k.mirror = mirror.New(mirror.Config{
		Engine: engine.New(strings.TrimPrefix(d.o.dockerEngine, "unix://")), Cluster: d.in, Book: bound{book, d.log}, Log: d.log,
		Networks: func() ([]cluster.Network, bool) { return mirrored(r.mirror) }, Refresh: r.mirror.Refresh,
		Has: k.driver.Has, Runs: k.driver.Runs, Describe: k.driver.Describe,
		Reclaim: func(ctx context.Context, known map[string]bool, since time.Time) error {
			_, err := k.driver.Reclaim(ctx, known, since)
			return err
		},
		Changed: func() { r.loop.Wake(nil) },
		Bridges: func(links []string) {
			if k.meet(links) {
				r.loop.Wake(nil)
			}
			r.rename() // which costs little where all links are the same ones
		},
	})
	return k, nil
}

// mirrored returns the networks of the cluster that an engine is to have, and whether they
// are all: a segment's are Docker's own business, which has a driver for that.
func mirrored(m *store.Mirror) ([]cluster.Network, bool) {
	s, _ := m.Snapshot()
	return slices.DeleteFunc(slices.Clone(s.Networks), func(n cluster.Network) bool { return n.Driver == cluster.DriverMacvlan }), m.Status().Live
}

// meet takes note that the engine is here, and of its bridges. It reports whether it was
// not known to be.
func (k *docker) meet(bridges []string) (first bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	first, k.met, k.bridges = !k.met, true, bridges
	return first
}

// names returns where the engine's containers ask for names: nowhere where none has been.
func (k *docker) names() (netip.Addr, []string) {
	if k == nil {
		return netip.Addr{}, nil
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if !k.met && len(k.book.List()) == 0 {
		return netip.Addr{}, nil
	}
	return k.nameAddr, k.bridges
}

// changed tells the mirror of the cluster's networks if they have changed: most of what
// changes is hosts and subnets.
func (k *docker) changed(s *cluster.Snapshot) {
	if k == nil {
		return
	}
	same := func(a, b cluster.Network) bool { return a.Name == b.Name && a.Revision == b.Revision }
	k.mu.Lock()
	defer k.mu.Unlock()
	if !slices.EqualFunc(s.Networks, k.networks, same) {
		k.networks = s.Networks
		k.mirror.Wake()
	}
}

func (k *docker) problems() []cluster.Problem {
	if k == nil {
		return nil
	}
	return k.mirror.Problems()
}

// bound is the book as the mirror sees it.
type bound struct {
	*dockerdriver.Book
	log *slog.Logger
}

// Bound implements [mirror.Book].
func (b bound) Bound() map[string]string {
	out := map[string]string{}
	for _, p := range b.List() {
		if p.Network != "" && !p.Marked {
			out[p.ID] = p.Network
		}
	}
	return out
}

// Forget implements [mirror.Book].
func (b bound) Forget(known map[string]bool, since time.Time) error {
	gone, err := b.Book.Forget(known, since)
	for _, p := range gone {
		b.log.Info("a network that was removed from the container engine unheard is forgotten", "docker_network", p.ID, "network", p.Network)
	}
	return err
}

// Bind implements [mirror.Book].
func (b bound) Bind(id, network string) error {
	_, err := b.Name(id, network)
	return err
}
