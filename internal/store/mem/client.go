package mem

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/ovlnet/ovl/internal/store"
)

// Client is one client of a store. It can be cut off alone.
type Client struct {
	store *Store
	gate  gate
}

var _ store.KV = (*Client)(nil)

// NewClient returns another client of the store.
func (s *Store) NewClient() *Client { return &Client{store: s, gate: newGate()} }

// SetConnected says whether this client reaches the store; compare
// [Store.SetAvailable].
func (c *Client) SetConnected(connected bool) { c.gate.set(connected) }

// reach returns why the store cannot be reached, or nil.
func (c *Client) reach(ctx context.Context, doing string) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("%s: %w", doing, err)
	}
	if _, open := c.gate.state(); !open {
		return fmt.Errorf("%s: %w", doing, store.ErrUnavailable)
	}
	if _, open := c.store.gate.state(); !open {
		return fmt.Errorf("%s: %w", doing, store.ErrUnavailable)
	}
	return nil
}

// Range implements [store.KV].
func (c *Client) Range(ctx context.Context, prefixes ...string) (store.Page, error) {
	if err := c.reach(ctx, "read records"); err != nil {
		return store.Page{}, err
	}
	return c.store.read(prefixes), nil
}

// Txn implements [store.KV].
func (c *Client) Txn(ctx context.Context, conds []store.Cond, writes []store.Write) (int64, error) {
	if err := c.reach(ctx, "write records"); err != nil {
		return 0, err
	}
	rev, err := c.store.txn(conds, writes)
	if err != nil {
		return 0, fmt.Errorf("write records: %w", err)
	}
	return rev, nil
}

// Grant implements [store.KV].
func (c *Client) Grant(ctx context.Context, ttl time.Duration) (store.LeaseID, error) {
	if err := c.reach(ctx, "grant lease"); err != nil {
		return 0, err
	}
	return c.store.grant(ttl), nil
}

// KeepAlive implements [store.KV].
func (c *Client) KeepAlive(ctx context.Context, id store.LeaseID) (time.Duration, error) {
	if err := c.reach(ctx, "renew lease"); err != nil {
		return 0, err
	}
	ttl, err := c.store.renew(id)
	if err != nil {
		return 0, fmt.Errorf("renew lease: %w", err)
	}
	return ttl, nil
}

// Revoke implements [store.KV].
func (c *Client) Revoke(ctx context.Context, id store.LeaseID) error {
	if err := c.reach(ctx, "revoke lease"); err != nil {
		return err
	}
	c.store.end(id)
	return nil
}

// Close implements [store.KV]. The store lives on for its other clients.
func (c *Client) Close() error { return nil }

// Close stops the clocks of the store's leases, which then never end.
func (s *Store) Close() error {
	s.stopLeases()
	return nil
}

// gate is a door that can be waited for.
type gate struct {
	mu      sync.Mutex
	open    bool
	changed chan struct{} // closed and replaced when open changes
}

func newGate() gate { return gate{open: true, changed: make(chan struct{})} }

func (g *gate) set(open bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.open != open {
		g.open = open
		close(g.changed)
		g.changed = make(chan struct{})
	}
}

func (g *gate) state() (changed <-chan struct{}, open bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.changed, g.open
}

// wait blocks until the gate is open; it reports false when ctx is done.
func (g *gate) wait(ctx context.Context) bool {
	for {
		changed, open := g.state()
		if open {
			return ctx.Err() == nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return false
		}
	}
}
