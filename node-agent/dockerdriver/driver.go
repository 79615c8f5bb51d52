package dockerdriver

import (
	"context"
	"log/slog"
	"net/netip"
	"sync"
	"time"

	"github.com/ovlnet/ovl/internal/cluster"
	"github.com/ovlnet/ovl/node-agent/attach"
)

// Attachments is what the driver needs of the attach room.
type Attachments interface {
	// Reserve chooses an address of a network's pool, or confirms a wanted one, and
	// keeps it from others for a while.
	Reserve(ctx context.Context, network string, pool netip.Prefix, want netip.Addr) (netip.Prefix, error)
	// Unreserve gives a reserved address back. What an attachment has stays its own.
	Unreserve(network string, a netip.Addr)
	// Gateway returns this host's own gateway in a network's pool, if it has a subnet.
	Gateway(network string, pool netip.Prefix) (netip.Addr, bool)
	Offer(ctx context.Context, r attach.Request) (cluster.Attachment, error)
	HandOver(ctx context.Context, id, sandbox string, onward bool) (cluster.Attachment, error)
	TakeBack(ctx context.Context, id string) error
	Publish(ctx context.Context, id string, ports []attach.PortWant) (cluster.Attachment, error)
	Describe(ctx context.Context, id string, d attach.Description) error
	// Dismiss ends an attachment, of which the rows go after it returns.
	Dismiss(ctx context.Context, id string) error
	Get(id string) (cluster.Attachment, bool)
	List() []cluster.Attachment
}

// Cluster is where the driver learns which networks there are.
type Cluster interface {
	Snapshot() *cluster.Snapshot
	Refresh(ctx context.Context) error
}

// Config is what a Driver is made of.
type Config struct {
	Attachments Attachments
	Cluster     Cluster
	Book        *Book
	// Answered, if set, is told of each call that was answered, and whether by an error.
	Answered func(call string, failed bool)
	// NameAddr is where containers ask for names: see [plan.Local.NameAddr].
	NameAddr netip.Addr
	Log      *slog.Logger
}

// Driver answers the calls of an engine. It is safe for concurrent use.
type Driver struct {
	cfg Config

	mu sync.Mutex
	// granted are pools that were given out a moment ago, and until when they are kept
	// from others: CreateNetwork follows, and writes them into the book.
	granted   map[netip.Prefix]time.Time
	processes map[string]int // of endpoints' containers, by ID: see Runs
}

// New returns a driver.
func New(cfg Config) *Driver {
	if cfg.Answered == nil {
		cfg.Answered = func(string, bool) {}
	}
	return &Driver{cfg: cfg, granted: map[netip.Prefix]time.Time{}, processes: map[string]int{}}
}

// Endpoint is one of the engine's endpoints that is attached here.
type Endpoint struct {
	ID      string // the engine's
	Network string // the cluster's name of the network
	Name    string // as last described; before that one made of the ID
	Created time.Time
}

// ofEngine reports whether an attachment is one of the engine's endpoints.
func ofEngine(a cluster.Attachment) bool { return a.Stage != cluster.Placed && len(a.Interfaces) == 1 }

// Has reports whether the engine's endpoint of that ID is attached here.
func (d *Driver) Has(id string) bool {
	a, ok := d.cfg.Attachments.Get(id)
	return ok && ofEngine(a)
}

// Endpoints returns the engine's endpoints, sorted by ID.
func (d *Driver) Endpoints() []Endpoint {
	var out []Endpoint
	for _, a := range d.cfg.Attachments.List() {
		if ofEngine(a) {
			out = append(out, Endpoint{ID: a.ID, Network: a.Interfaces[0].Network, Name: a.Name, Created: a.Created})
		}
	}
	return out
}

// Describe tells how the container of an endpoint is called, as the engine's events say:
// no call of the engine names it. An endpoint that is not there is an error of the code
// NOT_FOUND.
func (d *Driver) Describe(ctx context.Context, endpointID string, is attach.Description) error {
	return d.cfg.Attachments.Describe(ctx, endpointID, is)
}

// Reclaim detaches the endpoints of which the engine no longer knows, given all of which
// it does know, as it was asked after the time since: those that it has made later are
// none of them.
func (d *Driver) Reclaim(ctx context.Context, known map[string]bool, since time.Time) (gone []string, err error) {
	for _, e := range d.Endpoints() {
		if known[e.ID] || !e.Created.Before(since) {
			continue
		}
		if err := d.detach(ctx, e.ID); err != nil {
			return gone, err
		}
		d.cfg.Log.Info("an endpoint that the container engine forgot is reclaimed", "endpoint", short(e.ID), "network", e.Network)
		gone = append(gone, e.ID)
	}
	return gone, nil
}

// calls returns who answers which call.
func (d *Driver) calls() map[string]call {
	calls := map[string]call{
		"NetworkDriver.CreateNetwork":               on(d.createNetwork),
		"NetworkDriver.DeleteNetwork":               on(d.deleteNetwork),
		"NetworkDriver.CreateEndpoint":              on(d.createEndpoint),
		"NetworkDriver.EndpointOperInfo":            on(d.endpointInfo),
		"NetworkDriver.DeleteEndpoint":              on(d.deleteEndpoint),
		"NetworkDriver.Join":                        on(d.join),
		"NetworkDriver.Leave":                       on(d.leave),
		"NetworkDriver.ProgramExternalConnectivity": on(d.program),
		"NetworkDriver.RevokeExternalConnectivity":  on(d.revoke),
		"NetworkDriver.DiscoverNew":                 on(nothing),
		"NetworkDriver.DiscoverDelete":              on(nothing),
		"IpamDriver.RequestPool":                    on(d.requestPool),
		"IpamDriver.ReleasePool":                    on(d.releasePool),
		"IpamDriver.RequestAddress":                 on(d.requestAddress),
		"IpamDriver.ReleaseAddress":                 on(d.releaseAddress),
	}
	for name, answer := range calls {
		calls[name] = func(ctx context.Context, body []byte) (any, error) {
			out, err := answer(ctx, body)
			d.cfg.Answered(name, err != nil)
			return out, err
		}
	}
	return calls
}

// nothing answers what is of no concern: the members of a swarm.
func nothing(context.Context, struct{}) (any, error) { return nil, nil }
