package mirror

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/ovlnet/ovl/internal/cluster"
	"github.com/ovlnet/ovl/node-agent/attach"
	"github.com/ovlnet/ovl/node-agent/dockerdriver/engine"
)

// Engine is what is asked of the container engine: [engine.Client].
type Engine interface {
	Hello(ctx context.Context) error
	OnlyIPv6() bool
	Events(ctx context.Context) (*engine.Stream, error)
	Networks(ctx context.Context) ([]engine.Network, error)
	CreateNetwork(ctx context.Context, n engine.Network) (id string, err error)
	RemoveNetwork(ctx context.Context, id string) error
	Containers(ctx context.Context) ([]string, error)
	Container(ctx context.Context, id string) (engine.Container, error)
}

// Cluster is where networks are made and deleted.
type Cluster interface {
	CreateNetwork(ctx context.Context, name string, subnets []string, internal bool) error
	// DeleteNetwork deletes a network that an engine brought in. Others are refused.
	DeleteNetwork(ctx context.Context, name string) error
}

// Book says which of the engine's networks is which of the cluster's, where they are
// not marked.
type Book interface {
	Bound() map[string]string // the caller's own
	Bind(id, network string) error
	// Forget takes out what is not among the engine's networks, as of a time.
	Forget(known map[string]bool, since time.Time) error
}

// Config is what a Mirror is made of.
type Config struct {
	Engine  Engine
	Cluster Cluster
	Book    Book
	// Networks returns the cluster's networks; false as long as they were not seen
	// whole, and then nothing is taken from the engine.
	Networks func() ([]cluster.Network, bool)
	// Refresh asks the store for the newest.
	Refresh func(ctx context.Context) error
	// Has reports whether an endpoint of that ID is attached here for the engine.
	Has func(endpoint string) bool
	// Runs says which process the container of an endpoint runs as; 0: it has ended.
	Runs func(endpoint string, pid int)
	// Describe says how the container of an endpoint is called.
	Describe func(ctx context.Context, endpoint string, is attach.Description) error
	// Reclaim ends the endpoints that the engine forgot: all but those known, that
	// were made before since.
	Reclaim func(ctx context.Context, known map[string]bool, since time.Time) error
	// Bridges is told the links of the engine's own bridge networks after each look, also
	// if they are called as before: one that was made anew is another link.
	Bridges func(links []string)
	// Changed is told that [Mirror.Problems] have changed.
	Changed func()
	Log     *slog.Logger
}

const (
	// firstWait and longWait bound the waits for an engine that is not there: nothing
	// tells when somebody begins to listen at a unix socket.
	firstWait, longWait = 100 * time.Millisecond, 2 * time.Second
	// relook is how often all is looked at again though nothing happened.
	relook = 30 * time.Second
	// asking is how many containers are asked about at a time: the engine answers
	// about one that it is just starting when it is done with it.
	asking = 8
	// gather is how long events are gathered before they are dealt with.
	gather = 2 * time.Millisecond
)

// Mirror is the mirror of one engine. New makes one, Run lets it work.
type Mirror struct {
	cfg  Config
	wake chan struct{} // networks; holds at most one token

	mu       sync.Mutex
	problems map[string][]cluster.Problem // by who has them
	removed  map[string]bool              // networks that we are removing, by the engine's ID
	last     Have                         // as of the last pass
	dirty    map[string]bool              // containers to be asked about
	asked    chan struct{}                // there are such; holds at most one token
}

// New returns a mirror that does nothing yet.
func New(cfg Config) *Mirror {
	return &Mirror{
		cfg: cfg, wake: make(chan struct{}, 1), asked: make(chan struct{}, 1),
		problems: map[string][]cluster.Problem{}, removed: map[string]bool{}, dirty: map[string]bool{},
	}
}

// Wake tells that the cluster's networks, or the book, may have changed.
func (m *Mirror) Wake() { token(m.wake) }

func token(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// Problems returns what is wrong, for people.
func (m *Mirror) Problems() []cluster.Problem {
	m.mu.Lock()
	defer m.mu.Unlock()
	var out []cluster.Problem
	for _, who := range []string{ofEngine, ofNetworks, ofEvents, ofNames} {
		out = append(out, m.problems[who]...)
	}
	return out
}

// Who has problems.
const (
	ofEngine   = "engine"
	ofNetworks = "networks"
	ofEvents   = "events"
	ofNames    = "names"
)

func (m *Mirror) report(who string, problems ...cluster.Problem) {
	m.mu.Lock()
	changed := !slices.Equal(m.problems[who], problems)
	m.problems[who] = problems
	m.mu.Unlock()
	if changed {
		m.cfg.Changed()
	}
}

// Run mirrors until ctx is done. An engine that is not there is waited for: a host
// need not have one.
func (m *Mirror) Run(ctx context.Context) error {
	for wait := firstWait; ; wait = min(2*wait, longWait) {
		met := false
		err := m.follow(ctx, func() { met = true })
		if met {
			m.cfg.Log.Info("the container engine is away", "err", err)
			wait = firstWait
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(wait):
		}
	}
}

// follow mirrors an engine for as long as it is there.
func (m *Mirror) follow(ctx context.Context, here func()) error {
	if err := m.cfg.Engine.Hello(ctx); err != nil {
		if errors.Is(err, engine.ErrTooOld) {
			m.report(ofEngine, cluster.Problem{Severity: cluster.SeverityError, Subject: "container engine", What: err.Error(), Hint: "upgrade it"})
		}
		return err
	}
	m.report(ofEngine)
	g, ctx := errgroup.WithContext(ctx)
	events, err := m.cfg.Engine.Events(ctx) // before anything is listed: nothing is missed
	if err != nil {
		return err
	}
	defer events.Close()
	here()
	m.cfg.Log.Info("the container engine is here")
	m.touchAll()
	m.Wake()
	g.Go(func() error { return m.listen(ctx, events) })
	g.Go(func() error { return m.keepNetworks(ctx) })
	g.Go(func() error { return m.keepNames(ctx) })
	return g.Wait()
}

// listen hears what happens, until the engine goes.
func (m *Mirror) listen(ctx context.Context, events *engine.Stream) error {
	for {
		e, err := events.Next()
		if err != nil {
			return err
		}
		switch e.Type {
		case engine.EventContainer:
			m.touch(e.ID)
		case engine.EventNetwork:
			m.network(ctx, e)
		}
	}
}

// network hears what happened to a network.
func (m *Mirror) network(ctx context.Context, e engine.Event) {
	switch e.Action {
	case engine.ActionConnect:
		m.touch(e.Container)
	case engine.ActionDisconnect:
		m.touch(e.Container)
		m.Wake() // it may have been the last one on a network that is to go
	case engine.ActionDestroy:
		m.destroyed(ctx, e)
		m.Wake()
	default:
		m.Wake()
	}
}

// keepNetworks makes passes over the networks: when woken, and now and then.
func (m *Mirror) keepNetworks(ctx context.Context) error {
	tick := time.NewTicker(relook)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-m.wake:
		case <-tick.C:
		}
		if err := m.pass(ctx); err != nil && ctx.Err() == nil {
			m.cfg.Log.Warn("the container engine's networks could not be looked at", "err", err)
		}
	}
}

// pass makes the engine's networks what the cluster's are.
func (m *Mirror) pass(ctx context.Context) error {
	have := Have{Bound: m.cfg.Book.Bound(), OnlyIPv6: m.cfg.Engine.OnlyIPv6()}
	since := time.Now().Add(-relook) // an engine lists a network a moment after it has told of it
	var err error
	if have.Networks, err = m.cfg.Engine.Networks(ctx); err != nil {
		return err
	}
	known := map[string]bool{}
	for _, n := range have.Networks {
		known[n.ID] = true
	}
	if err := m.cfg.Book.Forget(known, since); err != nil {
		return err
	}
	m.tellBridges(have.Networks)
	m.mu.Lock()
	m.last = have
	m.mu.Unlock()
	want, whole := m.cfg.Networks()
	if !whole {
		return nil
	}
	ops, problems := Diff(want, have)
	for _, op := range ops {
		if err := m.do(ctx, op); err != nil {
			m.cfg.Log.Warn("a network of the container engine could not be brought in line", "operation", op.String(), "err", err)
			problems = append(problems, problemOf(op, err))
		}
	}
	m.report(ofNetworks, problems...)
	return nil
}

// tellBridges tells of the links of the engine's own bridges.
func (m *Mirror) tellBridges(networks []engine.Network) {
	if m.cfg.Bridges == nil {
		return
	}
	var links []string
	for _, n := range networks {
		if link, ok := n.Bridge(); ok {
			links = append(links, link)
		}
	}
	slices.Sort(links)
	m.cfg.Bridges(links)
}
