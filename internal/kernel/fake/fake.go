// Package fake is a kernel in memory: rows go in and come out as they would
// with Linux, with Linux's refusals (a route to nowhere, a port of no bridge, a
// link that is somebody else's) and its side effects (deleting a link takes all
// along that hung on it).
//
// It must never be kinder than Linux: both pass the suite of kerneltest. Its
// invariant is that a row can only be there together with what Linux wants it
// to hang on.
package fake

import (
	"context"
	"errors"
	"net/netip"
	"strings"
	"sync"
	"syscall"

	"github.com/ovlnet/ovl/internal/cluster"
	"github.com/ovlnet/ovl/internal/dataplane"
	"github.com/ovlnet/ovl/internal/reconcile"
)

// Kernel is the kernel of one host: its namespace and those of its containers.
// Its methods may be called from several goroutines.
type Kernel struct {
	// Before, if set, is asked ahead of each operation; an error of it is the
	// operation's, and nothing changes. Set it before the first call.
	Before func(dataplane.Op) error
	// NoVLAN is a kernel without 802.1q. Set it before the first call.
	NoVLAN bool
	// NoGuard is what the kernel tells that it lacks; see [dataplane.HostFacts].
	NoGuard [2]bool

	mu     sync.Mutex
	spaces map[dataplane.NS]*space
	walls  map[wallKey]wall
	nft    [2]nfTable // by dataplane.NFTable
	uplink string
	flows  map[dataplane.FlowKey]dataplane.Flow // that go where no rule leads them
}

// space is a network namespace.
type space struct {
	name    dataplane.NS
	links   map[string]*link
	routes  map[netip.Prefix]route
	sysctls map[string]string
}

// link is a device with all that hangs on it.
type link struct {
	dataplane.Link        // Peer is kept in pair instead
	pair           *link  // the other end of a veth
	in             *space // where it is
	qdisc          *qdisc
	addrs          map[netip.Prefix]struct{}
	neighs         map[netip.Addr]cluster.MAC
	fdb            map[cluster.MAC]netip.Addr
}

// qdisc is what is at the root of a link, if that is not what Linux puts there.
type qdisc struct {
	dataplane.Qdisc
	foreign bool
}

type route struct {
	dataplane.Route
	foreign bool
}

// New returns a kernel with a loopback and the given links, none of which is
// ours. The first one carries the default route, to the first address of its
// first prefix.
func New(links ...dataplane.HostLink) *Kernel {
	k := &Kernel{spaces: map[dataplane.NS]*space{}, walls: map[wallKey]wall{}}
	host := k.addSpace(dataplane.Host)
	for _, name := range dataplane.HostSysctls {
		host.sysctls[name] = "0"
	}
	for i, l := range links {
		k.addHostLink(host, l)
		if i == 0 {
			k.uplink = l.Name
		}
	}
	return k
}

func (k *Kernel) addHostLink(host *space, l dataplane.HostLink) {
	n := host.add(dataplane.Link{LinkKey: dataplane.LinkKey{Name: l.Name}, MTU: l.MTU, Up: l.Up})
	for _, p := range l.Addrs {
		n.addrs[p] = struct{}{}
		if l.Up && !p.IsSingleIP() {
			key := dataplane.RouteKey{Dst: p.Masked()}
			host.routes[key.Dst] = route{dataplane.Route{RouteKey: key, Link: l.Name}, true}
		}
	}
}

func (k *Kernel) addSpace(ns dataplane.NS) *space {
	s := &space{name: ns, links: map[string]*link{}, routes: map[netip.Prefix]route{}, sysctls: map[string]string{}}
	k.spaces[ns] = s
	return s
}

func (s *space) add(row dataplane.Link) *link {
	row.NS = s.name
	l := &link{
		Link: row, in: s,
		addrs: map[netip.Prefix]struct{}{}, neighs: map[netip.Addr]cluster.MAC{}, fdb: map[cluster.MAC]netip.Addr{},
	}
	s.links[row.Name] = l
	return l
}

// ours reports whether the link carries our mark.
func (l *link) ours() bool { return dataplane.OwnsLink(l.NS, l.Name, l.Alias) }

// row returns the link as it is observed.
func (l *link) row() dataplane.Link {
	r := l.Link
	if (r.NS != dataplane.Host || strings.HasPrefix(r.Name, dataplane.OfferPrefix)) && l.pair != nil && l.pair.NS == dataplane.Host {
		r.Peer = l.pair.Name
	}
	return r
}

// Apply implements [reconcile.Kernel].
func (k *Kernel) Apply(ctx context.Context, op dataplane.Op) error {
	if err := ctx.Err(); err != nil {
		return &reconcile.Error{Class: reconcile.Again, Op: op, Err: err}
	}
	if k.Before != nil {
		if err := k.Before(op); err != nil {
			return err
		}
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if err := k.apply(op); err != nil {
		return &reconcile.Error{Class: class(err), Op: op, Err: err}
	}
	return nil
}

// Sweep implements [reconcile.Sweeper].
func (k *Kernel) Sweep(ctx context.Context, links []dataplane.Link) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, l := range links {
		if ctx.Err() == nil {
			_ = k.apply(dataplane.Op{Verb: dataplane.Delete, Row: l}) // its own operation tells why not
		}
	}
}

func (k *Kernel) apply(op dataplane.Op) error {
	switch r := op.Row.(type) {
	case dataplane.Set:
		return k.applySet(op.Verb, r)
	case dataplane.Element:
		return k.applyElement(op.Verb, r)
	case dataplane.Guard:
		return k.applyGuard(op.Verb, r)
	case dataplane.Flow:
		return k.applyFlow(op.Verb, r)
	case dataplane.Chain:
		return k.applyChain(op.Verb, r)
	case dataplane.Jump:
		return k.applyJump(op.Verb, r)
	}
	s, ok := k.spaces[op.Row.Key().Namespace()]
	switch {
	case !ok && op.Verb == dataplane.Delete:
		return nil
	case !ok:
		return syscall.ENOENT
	}
	switch r := op.Row.(type) {
	case dataplane.Link:
		return k.applyLink(s, op.Verb, r)
	case dataplane.Qdisc:
		return s.applyQdisc(op.Verb, r)
	case dataplane.Addr:
		return s.applyAddr(op.Verb, r)
	case dataplane.Sysctl:
		return s.applySysctl(op.Verb, r)
	case dataplane.Neigh:
		return s.applyNeigh(op.Verb, r)
	case dataplane.FDB:
		return s.applyFDB(op.Verb, r)
	case dataplane.Route:
		return s.applyRoute(op.Verb, r)
	}
	return syscall.EOPNOTSUPP
}

// errForeign is the refusal to touch what is not ours.
var errForeign = errors.New("something of that name exists and is not ours")

// class is the class of a failure, by errno as in package kernel.
func class(err error) reconcile.Class {
	errno, ok := errors.AsType[syscall.Errno](err)
	switch {
	case !ok:
		return reconcile.Refused
	case errno == syscall.ENOENT, errno == syscall.ENODEV, errno == syscall.ESRCH,
		errno == syscall.ENETDOWN, errno == syscall.ENETUNREACH:
		return reconcile.Gone
	case errno == syscall.EBUSY, errno == syscall.EINTR, errno == syscall.ENOBUFS:
		return reconcile.Again
	}
	return reconcile.Refused
}
