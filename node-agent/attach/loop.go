package attach

import (
	"context"
	"net/netip"
	"time"

	"github.com/ovlnet/ovl/internal/cluster"
	"github.com/ovlnet/ovl/internal/dataplane"
	"github.com/ovlnet/ovl/internal/plan"
	"github.com/ovlnet/ovl/internal/reconcile"
	"github.com/ovlnet/ovl/node-agent/lease"
)

// Loop is what this room needs of the agent's loop.
type Loop interface {
	// Settle wakes the loop to read scope again and returns the report of a
	// pass that began after the call.
	Settle(ctx context.Context, scope dataplane.Scope) (reconcile.Report, error)
	// Snapshot returns the newest facts of the cluster; never nil.
	Snapshot() *cluster.Snapshot
	// Refresh reads the store now, so that a network created a moment ago is
	// known.
	Refresh(ctx context.Context) error
	// Plan returns what the last pass wanted.
	Plan() plan.Result
	// Diff reads the whole kernel state again and returns what a pass would do
	// now.
	Diff(ctx context.Context) ([]dataplane.Op, []cluster.Problem, error)
	Status() Status
}

// Status is how the loop is.
type Status struct {
	Passes          uint64 // since the start
	LastPass        time.Time
	Wanted          int                 // rows
	Outcomes        []reconcile.Outcome // rows that are not done
	Problems        []cluster.Problem
	Err             error // the last pass could not observe
	ClusterRevision int64 // of the snapshot planned from
	AppliedRevision int64 // of the last snapshot that was applied whole
	UnderlayLink    string
	UnderlayMTU     int // bytes
	StoreConnected  bool
	StoreSince      time.Time // connected or away since
}

// Subnets is what this room needs of the lease room.
type Subnets interface {
	Held() []lease.Held
	// Take takes one more subnet of pool for this host; Held shows it when Take
	// returns.
	Take(ctx context.Context, n cluster.Network, pool cluster.Pool) (cluster.Lease, error)
	// TakeThis takes exactly that prefix: a subnet, or one static address. The
	// error is a [*lease.HeldError] if another host has it.
	TakeThis(ctx context.Context, n cluster.Network, prefix netip.Prefix) (cluster.Lease, error)
	// Release gives back what no attachment needs. Held does not show it from
	// then on, also when the store hears of it only later.
	Release(ctx context.Context, l cluster.Lease) error
	// MayAttach returns why this host must take no new attachments, or nil.
	MayAttach() error
	// SetEndpoints publishes all endpoints of this host.
	SetEndpoints(endpoints []cluster.Endpoint)
	Status() lease.Status
}
