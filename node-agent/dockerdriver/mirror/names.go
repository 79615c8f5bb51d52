package mirror

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/ovlnet/ovl/internal/cluster"
	"github.com/ovlnet/ovl/node-agent/attach"
	"github.com/ovlnet/ovl/node-agent/dockerdriver/engine"
)

// all stands for every container, among those to be asked about.
const all = ""

func (m *Mirror) touchAll() { m.touch(all) }

// touch notes that a container has to be asked about.
func (m *Mirror) touch(id string) {
	m.mu.Lock()
	m.dirty[id] = true
	m.mu.Unlock()
	token(m.asked)
}

// keepNames asks about the containers to which something happened, and now and then
// about all.
func (m *Mirror) keepNames(ctx context.Context) error {
	tick := time.NewTicker(relook)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-m.asked:
		case <-tick.C:
			m.touchAll()
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(gather):
		}
		if err := m.names(ctx, m.take()); err != nil && ctx.Err() == nil {
			m.cfg.Log.Warn("the container engine's containers could not be asked about", "err", err)
		}
	}
}

func (m *Mirror) take() map[string]bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	dirty := m.dirty
	m.dirty = map[string]bool{}
	return dirty
}

// names learns what those containers are called.
func (m *Mirror) names(ctx context.Context, dirty map[string]bool) error {
	if !dirty[all] {
		problems, _, err := m.ask(ctx, dirty)
		if len(problems) > 0 {
			m.touchAll() // what is wrong is told when all have been looked at
		}
		return err
	}
	// The engine answers about a container that it is starting when it is done; an
	// endpoint that it has made a moment ago may all the same be of one that it has not
	// listed yet.
	since := time.Now().Add(-relook)
	ids, err := m.cfg.Engine.Containers(ctx)
	if err != nil {
		return err
	}
	every := map[string]bool{}
	for _, id := range ids {
		every[id] = true
	}
	problems, known, err := m.ask(ctx, every)
	if err != nil {
		return err
	}
	m.report(ofNames, problems...)
	return m.cfg.Reclaim(ctx, known, since)
}

// ask asks about containers and describes their endpoints. It returns the endpoints
// that they have.
func (m *Mirror) ask(ctx context.Context, ids map[string]bool) (problems []cluster.Problem, known map[string]bool, err error) {
	var mu sync.Mutex
	known = map[string]bool{}
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(asking)
	for id := range ids {
		g.Go(func() error {
			c, err := m.cfg.Engine.Container(ctx, id)
			if errors.Is(err, engine.ErrNotFound) {
				return nil
			}
			if err != nil {
				return err
			}
			bad, err := m.describe(ctx, c)
			mu.Lock()
			defer mu.Unlock()
			problems = append(problems, bad...)
			for _, on := range c.On {
				known[on.EndpointID] = true
			}
			return err
		})
	}
	err = g.Wait()
	slices.SortFunc(problems, func(a, b cluster.Problem) int { return cmp.Compare(a.Subject, b.Subject) })
	return problems, known, err
}

// describe tells how the endpoints of a container are called.
func (m *Mirror) describe(ctx context.Context, c engine.Container) ([]cluster.Problem, error) {
	var problems []cluster.Problem
	for _, on := range c.On {
		if !m.cfg.Has(on.EndpointID) {
			continue
		}
		if c.Pid != 0 || c.Ended {
			m.cfg.Runs(on.EndpointID, c.Pid)
		}
		is, problem := Describe(c, on)
		if problem != nil {
			problems = append(problems, *problem)
		}
		if is.Name == "" {
			continue
		}
		err := m.cfg.Describe(ctx, on.EndpointID, is)
		switch status.Code(err) {
		case codes.OK, codes.NotFound: // gone meanwhile
		case codes.AlreadyExists, codes.InvalidArgument:
			problems = append(problems, cluster.Problem{
				Severity: cluster.SeverityWarning, Subject: "container " + is.Name, What: "it is not known by its name: " + status.Convert(err).Message(), Hint: "rename one of the two: docker rename",
			})
		default:
			return problems, fmt.Errorf("describe container %s: %w", c.Name, err)
		}
	}
	return problems, nil
}

// Describe returns how a container is called on one of its networks, as far as names of
// the cluster can be so: labels of a-z, 0-9, - and _. If its own name is none, the
// first alias stands in; without one the description has no name.
func Describe(c engine.Container, on engine.Plugged) (is attach.Description, problem *cluster.Problem) {
	is.Hostname = c.Hostname
	if cluster.CheckName(strings.ToLower(c.Hostname)) != nil { // a name is enough of it
		is.Hostname = c.ID[:min(len(c.ID), 12)]
	}
	for _, alias := range on.Aliases {
		if cluster.CheckEndpointName(alias) == nil && len(is.Aliases) < cluster.MaxAliases {
			is.Aliases = append(is.Aliases, alias)
		}
	}
	if cluster.CheckEndpointName(c.Name) == nil {
		is.Name = c.Name
		return is, nil
	}
	if len(is.Aliases) > 0 {
		is.Name, is.Aliases = is.Aliases[0], is.Aliases[1:]
	}
	return is, &cluster.Problem{
		Severity: cluster.SeverityWarning, Subject: fmt.Sprintf("container %.80q", c.Name),
		What: "containers on other hosts cannot call it by this name, which is no DNS label", Hint: "rename it, or give it an alias of 1 to 63 of a-z, 0-9, - and _: docker run --network-alias",
	}
}
