package lab

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"time"
)

// What a keeper can be asked to do with a host.
const (
	verbStart = "start"
	verbStop  = "stop"
	verbKill  = "kill"
	verbCut   = "cut"
	verbMend  = "mend"
	verbList  = "list"
)

// What runs on a host.
const (
	// Agent is the ovl-agent of a member.
	Agent = "agent"
	// Controller is the ovl-controller of [Control].
	Controller = "controller"
	// Etcd is the etcd of the lab. It is embedded in the controller, so the
	// two start and stop together.
	Etcd = "etcd"
)

// request is one line of JSON on the keeper's socket.
type request struct {
	Verb     string `json:"verb"`
	Host     string `json:"host,omitempty"`
	What     string `json:"what,omitempty"`
	FromEtcd bool   `json:"fromEtcd,omitempty"`
}

// response is the line that answers it.
type response struct {
	Error  string       `json:"error,omitempty"`
	Status []HostStatus `json:"status,omitempty"`
}

// HostStatus is a host and what goes on there.
type HostStatus struct {
	Host
	Runs []string `json:"runs,omitempty"` // agent or controller, while it runs
	Cut  string   `json:"cut,omitempty"`  // "underlay", "etcd" or nothing
}

// Start starts what runs on a host and returns when it is ready. Empty what
// means what that host is for. Starting what runs already succeeds.
func (l *Lab) Start(ctx context.Context, host, what string) error {
	return l.act(ctx, request{Verb: verbStart, Host: host, What: what})
}

// Stop ends it gracefully and returns when it has ended.
func (l *Lab) Stop(ctx context.Context, host, what string) error {
	return l.act(ctx, request{Verb: verbStop, Host: host, What: what})
}

// Kill ends it with SIGKILL and returns when it has ended.
func (l *Lab) Kill(ctx context.Context, host, what string) error {
	return l.act(ctx, request{Verb: verbKill, Host: host, What: what})
}

// Cut unplugs a host from the underlay, or from etcd alone.
func (l *Lab) Cut(ctx context.Context, host string, fromEtcd bool) error {
	return l.act(ctx, request{Verb: verbCut, Host: host, FromEtcd: fromEtcd})
}

// Mend undoes [Lab.Cut], or only the half of it that concerns etcd.
func (l *Lab) Mend(ctx context.Context, host string, fromEtcd bool) error {
	return l.act(ctx, request{Verb: verbMend, Host: host, FromEtcd: fromEtcd})
}

// Status returns what each host does.
func (l *Lab) Status(ctx context.Context) ([]HostStatus, error) {
	r, err := l.ask(ctx, request{Verb: verbList})
	if err != nil {
		return nil, fmt.Errorf("ask lab %s: %w", l.Name(), err)
	}
	return r.Status, nil
}

func (l *Lab) act(ctx context.Context, q request) error {
	if _, err := l.Host(q.Host); err != nil {
		return err
	}
	if _, err := l.ask(ctx, q); err != nil {
		return fmt.Errorf("%s %s in lab %s: %w", q.Verb, q.Host, l.Name(), err)
	}
	return nil
}

func (l *Lab) ask(ctx context.Context, q request) (response, error) {
	var r response
	if !l.Alive() {
		return r, fmt.Errorf("it has crashed; remove it with `ovlctl lab down --name %s`", l.Name())
	}
	conn, err := new(net.Dialer).DialContext(ctx, "unix", filepath.Join(l.record.Config.dir(), socketFile))
	if err != nil {
		return r, fmt.Errorf("reach its keeper: %w", err)
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	if err := json.NewEncoder(conn).Encode(q); err != nil {
		return r, fmt.Errorf("ask its keeper: %w", errors.Join(ctx.Err(), err))
	}
	if err := json.NewDecoder(conn).Decode(&r); err != nil {
		return r, fmt.Errorf("read answer of its keeper: %w", errors.Join(ctx.Err(), err))
	}
	if r.Error != "" {
		return r, errors.New(r.Error)
	}
	return r, nil
}
