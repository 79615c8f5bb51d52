package mirror

import (
	"context"
	"errors"
	"fmt"

	"github.com/ovlnet/ovl/internal/cluster"
	"github.com/ovlnet/ovl/node-agent/dockerdriver/engine"
)

// do does one operation. What another pass will see done is success.
func (m *Mirror) do(ctx context.Context, op Op) error {
	switch op.Verb {
	case Create:
		id, err := m.cfg.Engine.CreateNetwork(ctx, op.Docker)
		if errors.Is(err, engine.ErrExists) { // since it was listed: its event wakes
			return nil
		}
		if err == nil {
			op.Docker.ID = id
			m.note(op)
			m.cfg.Log.Info("network made on the container engine", "network", op.Network, "docker_network", id)
		}
		return err
	case Remove:
		m.expect(op.Docker.ID, true)
		err := m.cfg.Engine.RemoveNetwork(ctx, op.Docker.ID)
		if err != nil {
			m.expect(op.Docker.ID, false)
			return err
		}
		m.cfg.Log.Info("network removed from the container engine", "network", op.Network, "docker_network", op.Docker.ID)
		m.Wake() // one in its place may have to be made
		return nil
	case Bind:
		m.note(op)
		return m.cfg.Book.Bind(op.Docker.ID, op.Network)
	case Adopt:
		return m.adopt(ctx, op)
	}
	return nil
}

// adopt makes a network of the cluster for one that the engine has.
func (m *Mirror) adopt(ctx context.Context, op Op) error {
	if err := m.cfg.Cluster.CreateNetwork(ctx, op.Network, prefixes(op.Docker.Subnets), op.Docker.Internal); err != nil {
		return err
	}
	m.note(op)
	if err := m.cfg.Book.Bind(op.Docker.ID, op.Network); err != nil {
		return err
	}
	m.cfg.Log.Info("network of the container engine made in the cluster", "network", op.Network, "docker_network", op.Docker.ID)
	return m.cfg.Refresh(ctx)
}

// note takes note of which of the cluster's a network of the engine now is: it may be
// removed before another pass has seen that, and the book forgets it with its end.
func (m *Mirror) note(op Op) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if op.Verb == Create {
		m.last.Networks = append(m.last.Networks, op.Docker)
	} else {
		m.last.Bound[op.Docker.ID] = op.Network
	}
}

// expect notes that we are removing a network, so that its event is not taken for a
// person's wish.
func (m *Mirror) expect(id string, removing bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if removing {
		m.removed[id] = true
	} else {
		delete(m.removed, id)
	}
}

// destroyed takes up that somebody removed a network from the engine. If it came into
// the cluster by way of an engine, it is deleted there; others come back.
func (m *Mirror) destroyed(ctx context.Context, e engine.Event) {
	name, ok := m.gone(e.ID)
	if !ok {
		return
	}
	networks, whole := m.cfg.Networks()
	if !whole {
		return
	}
	for _, n := range networks {
		if n.Name != name || n.Labels[cluster.LabelDockerHost] == "" {
			continue
		}
		if err := m.cfg.Cluster.DeleteNetwork(ctx, name); err != nil {
			m.cfg.Log.Warn("a network that was removed from the container engine stays in the cluster, and comes back", "network", name, "err", err)
			m.report(ofEvents, cluster.Problem{
				Severity: cluster.SeverityWarning, Subject: "network " + name,
				What: "it was removed from this host's container engine, and came back: " + err.Error(), Hint: "remove its containers on all hosts first; then `docker network rm` or `ovlctl network rm`",
			})
			return
		}
		m.report(ofEvents)
		m.cfg.Log.Info("network deleted, as it was on the container engine", "network", name)
		if err := m.cfg.Refresh(ctx); err != nil {
			m.cfg.Log.Warn("the store could not be asked for what was deleted", "network", name, "err", err)
		}
	}
}

// gone returns the cluster's name of a network that somebody else removed, if it was
// one of ours.
func (m *Mirror) gone(id string) (name string, ok bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.removed[id] {
		delete(m.removed, id)
		return "", false
	}
	for _, h := range m.last.Networks {
		if h.ID == id && h.Driver == Driver {
			name, ok = networkOf(h, m.last.Bound)
			return name, ok
		}
	}
	return "", false
}

// problemOf says what an operation that failed leaves undone.
func problemOf(op Op, err error) cluster.Problem {
	p := cluster.Problem{Severity: cluster.SeverityError, Subject: "network " + op.Network, What: err.Error()}
	switch {
	case op.Verb == Remove && errors.Is(err, engine.ErrInUse):
		p.Severity, p.What = cluster.SeverityWarning, fmt.Sprintf("it is not in the cluster any more, and docker network %s still has containers on this host: they have no network", op.Docker.Name)
		p.Hint = "remove those containers, or `docker network disconnect -f` them: the network goes by itself then"
	case op.Verb == Adopt:
		p.What = fmt.Sprintf("docker network %s cannot be made in the cluster: %v", op.Docker.Name, err)
		p.Hint = "if that lasts, remove it with `docker network rm " + op.Docker.Name + "`"
	default:
		p.Hint = "it is tried again"
	}
	return p
}
