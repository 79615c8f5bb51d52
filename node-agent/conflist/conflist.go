// Package conflist tells the container runtimes of this host that their network
// is one of ovl's: it keeps a CNI configuration list in the directory where they look.
//
// It must never write before the agent can attach, since a runtime begins as soon
// as the file is there, nor touch another file than its own. The invariant it keeps:
// who reads the file reads a whole one.
package conflist

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"sync"

	"github.com/ovlnet/ovl/internal/cluster"
	"github.com/ovlnet/ovl/internal/wholefile"
)

// Name is the file's: runtimes that use one configuration take the first by name.
const Name = "10-ovl.conflist"

// Type is what the plugin's binary is called where runtimes look for plugins.
const Type = "ovl"

// Config is what a Writer is made of.
type Config struct {
	Dir     string // where runtimes look, such as /etc/cni/net.d; empty: nobody is told
	Network string // that containers are on
	Socket  string // of the agent; empty: where the plugin looks by itself
	// Ready tells why nothing can be attached yet, or nil.
	Ready func() error
	// Exists reports whether the cluster has a network of that name.
	Exists func(network string) bool
	// Changed is called when what Problems returns has changed.
	Changed func()
	Log     *slog.Logger
}

// Writer keeps the file as it should be. It is safe for concurrent use.
type Writer struct {
	cfg  Config
	want []byte
	wake chan struct{} // holds at most one token

	mu      sync.Mutex
	problem *cluster.Problem
}

// New returns a Writer for cfg.
func New(cfg Config) (*Writer, error) {
	w := &Writer{cfg: cfg, wake: make(chan struct{}, 1)}
	if cfg.Dir == "" {
		return w, nil
	}
	var err error
	w.want, err = Text(cfg.Network, cfg.Socket)
	return w, err
}

// list is a configuration list, as the specification has it.
type list struct {
	// CNIVersion is for runtimes of before 1.1.0, which know no other member;
	// the others choose the newest of CNIVersions that they speak.
	CNIVersion  string   `json:"cniVersion"`
	CNIVersions []string `json:"cniVersions"`
	Name        string   `json:"name"`
	Plugins     []plugin `json:"plugins"`
}

type plugin struct {
	Type         string          `json:"type"`
	Network      string          `json:"network"`
	Socket       string          `json:"socket,omitempty"`
	Capabilities map[string]bool `json:"capabilities"`
}

// Text returns a configuration list for a network.
func Text(network, socket string) ([]byte, error) {
	if err := cluster.CheckName(network); err != nil {
		return nil, fmt.Errorf("network: %w", err)
	}
	raw, err := json.MarshalIndent(list{
		CNIVersion: "1.0.0", CNIVersions: []string{"0.3.1", "0.4.0", "1.0.0", "1.1.0"}, Name: network,
		Plugins: []plugin{{Type: Type, Network: network, Socket: socket, Capabilities: map[string]bool{
			"portMappings": true, "bandwidth": true, "ips": true, "mac": true, "dns": true, "aliases": true,
		}}},
	}, "", "  ")
	return append(raw, '\n'), err
}

// Wake has the file looked at: something may have changed.
func (w *Writer) Wake() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// Run keeps the file until ctx is done. It stays then: containers outlive the
// agent, and a runtime that asks hears from the plugin that nobody answers.
func (w *Writer) Run(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-w.wake:
			w.sync()
		}
	}
}

// Problems returns why the file is not as it should be.
func (w *Writer) Problems() []cluster.Problem {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.problem == nil {
		return nil
	}
	return []cluster.Problem{*w.problem}
}

// sync makes the file as it should be, if it may be there.
func (w *Writer) sync() {
	p := w.look()
	if !w.keep(p) {
		return
	}
	if p != nil {
		w.cfg.Log.Warn("container runtimes are not told", "problem", p.What)
	}
	w.cfg.Changed()
}

// keep keeps what is wrong, and reports whether that is news.
func (w *Writer) keep(p *cluster.Problem) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	old := w.problem
	w.problem = p
	return (p == nil) != (old == nil) || p != nil && *p != *old
}

func (w *Writer) look() *cluster.Problem {
	if w.want == nil || w.cfg.Ready() != nil {
		return nil // why not ready is said elsewhere
	}
	if !w.cfg.Exists(w.cfg.Network) {
		return &cluster.Problem{
			Severity: cluster.SeverityWarning, Subject: "cni", What: "there is no network " + w.cfg.Network + " for the containers of this host's runtimes",
			Hint: "create it: ovlctl network create " + w.cfg.Network,
		}
	}
	path := filepath.Join(w.cfg.Dir, Name)
	if old, err := os.ReadFile(path); err == nil && bytes.Equal(old, w.want) {
		return nil
	}
	if err := write(path, w.want); err != nil {
		return &cluster.Problem{
			Severity: cluster.SeverityError, Subject: "cni", What: err.Error(), Hint: "make the directory writable for the agent, or name another with --cni-conf-dir",
		}
	}
	w.cfg.Log.Info("container runtimes are told", "file", path, "network", w.cfg.Network)
	return nil
}

// write puts text at path, whole or not at all, also when the machine stops.
func write(path string, text []byte) error {
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o755); err != nil { //nolint:gosec // for every runtime to read
		return fmt.Errorf("write %s: %w", path, err)
	}
	if err := wholefile.Write(path, text, 0o644); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}

// Remove takes the file of a host that ovl leaves away.
func Remove(dir string) error {
	if err := os.Remove(filepath.Join(dir, Name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove the configuration of container runtimes: %w", err)
	}
	return nil
}
