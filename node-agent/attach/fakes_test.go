package attach

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"go.etcd.io/bbolt"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/ovlnet/ovl/internal/cluster"
	"github.com/ovlnet/ovl/internal/dataplane"
	"github.com/ovlnet/ovl/internal/ipam"
	"github.com/ovlnet/ovl/internal/plan"
	"github.com/ovlnet/ovl/internal/reconcile"
	"github.com/ovlnet/ovl/node-agent/lease"
)

const (
	self = cluster.HostID("11111111111111111111111111111111")
	peer = cluster.HostID("22222222222222222222222222222222")
)

func pfx(s string) netip.Prefix { return netip.MustParsePrefix(s) }
func adr(s string) netip.Addr   { return netip.MustParseAddr(s) }

// network returns an overlay network with the given pools, each cut into
// subnets of hostBits more.
func network(name string, vni cluster.VNI, hostBits int, pools ...string) cluster.Network {
	n := cluster.Network{Name: name, VNI: vni, Driver: cluster.DriverOverlay, Masquerade: true, CreateRevision: int64(vni)}
	for _, p := range pools {
		n.Pools = append(n.Pools, cluster.Pool{Prefix: pfx(p), HostPrefix: pfx(p).Bits() + hostBits})
	}
	return n
}

// fakeLoop plans for real and applies to nothing.
type fakeLoop struct {
	journal *Journal
	subnets *fakeSubnets

	mu        sync.Mutex
	networks  []cluster.Network
	hosts     []cluster.Host
	leases    []cluster.Lease
	unseen    []cluster.Network // known after a Refresh
	refreshes int
	refresh   error
	passes    uint64
	result    plan.Result
	deaf      bool                      // Settle waits for its context
	gate      chan struct{}             // if set, Settle waits until it is closed
	failing   func(dataplane.Row) error // of a row that is wanted
	blind     error                     // the pass cannot observe
	leftover  *reconcile.Outcome        // of a row that is not wanted
	status    Status
}

func (l *fakeLoop) Snapshot() *cluster.Snapshot {
	l.mu.Lock()
	defer l.mu.Unlock()
	return cluster.NewSnapshot(1, slices.Clone(l.networks), slices.Clone(l.hosts), slices.Clone(l.leases))
}

func (l *fakeLoop) Refresh(context.Context) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.refreshes++
	if l.refresh == nil {
		l.networks, l.unseen = append(l.networks, l.unseen...), nil
	}
	return l.refresh
}

func (l *fakeLoop) Plan() plan.Result {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.result
}

func (l *fakeLoop) Status() Status {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.status
}

func (l *fakeLoop) Diff(context.Context) ([]dataplane.Op, []cluster.Problem, error) {
	if l.blind != nil {
		return nil, nil, l.blind
	}
	p := l.Plan()
	return dataplane.Diff(p.State, dataplane.State{}), p.Problems, nil
}

func (l *fakeLoop) Settle(ctx context.Context, _ dataplane.Scope) (reconcile.Report, error) {
	l.mu.Lock()
	deaf, gate := l.deaf, l.gate
	l.mu.Unlock()
	if gate != nil {
		<-gate
	}
	if deaf {
		<-ctx.Done()
		return reconcile.Report{}, context.Cause(ctx)
	}
	if err := ctx.Err(); err != nil {
		return reconcile.Report{}, err
	}
	snapshot := l.Snapshot()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.passes++
	if l.blind != nil {
		return reconcile.Report{Err: l.blind}, nil
	}
	local := plan.Local{
		ID: self, Underlay: plan.Underlay{Link: "eth0", MTU: 1500, Addrs: []netip.Addr{adr("192.0.2.1")}}, Port: 4789, Attachments: l.journal.List(),
	}
	for _, h := range l.subnets.Held() {
		if h.State != lease.Lost {
			local.Held = append(local.Held, h.Lease)
		}
	}
	l.result = plan.Plan(snapshot, local)
	rep := reconcile.Report{Wanted: l.result.State.Len()}
	for _, row := range l.result.State.Rows() {
		if l.failing == nil {
			break
		}
		if err := l.failing(row); err != nil {
			rep.Outcomes = append(rep.Outcomes, reconcile.Outcome{Row: row, Condition: reconcile.Failed, Err: err})
		}
	}
	if l.leftover != nil {
		rep.Outcomes = append(rep.Outcomes, *l.leftover)
	}
	return rep, nil
}

// leftover is a row that a pass could not take away.
func leftover(row dataplane.Row, err error) *reconcile.Outcome {
	return &reconcile.Outcome{Row: row, Condition: reconcile.Failed, Err: err}
}

// fakeSubnets takes subnets as the lease room would, from itself.
type fakeSubnets struct {
	mu        sync.Mutex
	held      []lease.Held
	takes     int
	takeErr   error
	may       error
	away      bool // the store
	published []cluster.Endpoint
	released  []cluster.Lease
	taking    func()              // called within Take
	releasing func(cluster.Lease) // called within Release
}

func (s *fakeSubnets) Held() []lease.Held {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.held)
}

func (s *fakeSubnets) Take(_ context.Context, n cluster.Network, pool cluster.Pool) (cluster.Lease, error) {
	if s.taking != nil {
		s.taking()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.takeErr != nil {
		return cluster.Lease{}, s.takeErr
	}
	var taken []netip.Prefix
	for _, h := range s.held {
		taken = append(taken, h.Prefix)
	}
	p, err := ipam.Subnet(pool, self, taken, n.StaticRange(pool))
	if err != nil {
		return cluster.Lease{}, err
	}
	s.takes++
	l := cluster.Lease{Network: n.Name, Prefix: p, Host: self}
	s.held = append(s.held, lease.Held{Lease: l, State: lease.StateHeld})
	s.sort()
	return l, nil
}

// sort puts what is held in the order in which the lease room has it.
func (s *fakeSubnets) sort() {
	slices.SortFunc(s.held, func(a, b lease.Held) int {
		return cmp.Or(cmp.Compare(a.Network, b.Network), cluster.ComparePrefix(a.Prefix, b.Prefix))
	})
}

func (s *fakeSubnets) TakeThis(_ context.Context, n cluster.Network, p netip.Prefix) (cluster.Lease, error) {
	if s.taking != nil {
		s.taking()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.takeErr != nil {
		return cluster.Lease{}, s.takeErr
	}
	for _, h := range s.held {
		if h.Prefix == p && h.State == lease.Lost {
			return cluster.Lease{}, fmt.Errorf("take: %w", &lease.HeldError{Prefix: p, Host: peer, Name: "h2", Up: true})
		}
	}
	s.takes++
	l := cluster.Lease{Network: n.Name, Prefix: p, Host: self}
	s.held = append(s.held, lease.Held{Lease: l, State: lease.StateHeld})
	s.sort()
	return l, nil
}

func (s *fakeSubnets) Release(_ context.Context, l cluster.Lease) error {
	if s.releasing != nil {
		s.releasing(l)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.released = append(s.released, l)
	s.held = slices.DeleteFunc(s.held, func(h lease.Held) bool { return h.Prefix == l.Prefix })
	return nil
}

func (s *fakeSubnets) MayAttach() error { return s.may }

func (s *fakeSubnets) SetEndpoints(es []cluster.Endpoint) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.published = es
}

func (s *fakeSubnets) Status() lease.Status {
	s.mu.Lock()
	defer s.mu.Unlock()
	return lease.Status{Connected: !s.away}
}

func (s *fakeSubnets) hold(network, prefix string, state lease.State) {
	s.held = append(s.held, lease.Held{Lease: cluster.Lease{Network: network, Prefix: pfx(prefix), Host: self}, State: state})
}

// rig is a room with fakes around it.
type rig struct {
	*Attachments
	loop    *fakeLoop
	subnets *fakeSubnets
	journal *Journal
	db      *bbolt.DB
	missing map[string]bool   // namespaces that do not exist
	pins    map[string]string // of what is at a path
}

func newRig(t *testing.T, networks ...cluster.Network) *rig {
	t.Helper()
	db, err := bbolt.Open(filepath.Join(t.TempDir(), "journal.db"), 0o600, &bbolt.Options{NoSync: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	s := &fakeSubnets{}
	return startRig(t, db, &fakeLoop{networks: networks, subnets: s}, s)
}

// startRig opens the journal in db and starts over it: what a restart does.
func startRig(t *testing.T, db *bbolt.DB, l *fakeLoop, s *fakeSubnets) *rig {
	t.Helper()
	j, err := OpenJournal(db)
	if err != nil {
		t.Fatal(err)
	}
	l.journal = j
	r := &rig{loop: l, subnets: s, journal: j, db: db, missing: map[string]bool{}, pins: map[string]string{}}
	r.Attachments = New(Config{
		Self: self, Journal: j, Loop: l, Subnets: s, Log: slog.New(slog.DiscardHandler), Limit: time.Minute,
		NetNS: func(path string) (string, error) {
			if r.missing[path] {
				return "", errNoNamespace
			}
			return r.pins[path], nil
		},
	})
	return r
}

// ask returns a request for a container on networks.
func ask(name string, networks ...string) Request {
	r := Request{ID: name, Name: name, Hostname: name, NetNS: "/run/netns/" + name}
	for _, n := range networks {
		r.Interfaces = append(r.Interfaces, Want{Network: n})
	}
	nameInterfaces(r.Interfaces)
	return r
}

func (r *rig) mustAttach(t *testing.T, req Request) cluster.Attachment {
	t.Helper()
	att, err := r.Attach(t.Context(), req)
	if err != nil {
		t.Fatalf("attach %s: %v", req.Name, err)
	}
	return att
}

// wantEmpty checks that nothing remains of any attachment.
func (r *rig) wantEmpty(t *testing.T) {
	t.Helper()
	if list := r.List(); len(list) != 0 {
		t.Errorf("journal holds %v, want nothing", list)
	}
	if x := r.index; len(x.claims)+len(x.addrs)+len(x.macs)+len(x.links) != 0 {
		t.Errorf("still claimed: %v %v %v %v", x.claims, x.addrs, x.macs, x.links)
	}
	if len(r.subnets.published) != 0 {
		t.Errorf("published %v, want nothing", r.subnets.published)
	}
}

func wantCode(t *testing.T, err error, want codes.Code) {
	t.Helper()
	if got := status.Code(err); got != want {
		t.Errorf("error %v: code %v, want %v", err, got, want)
	}
}

var errDown = errors.New("store is away")
