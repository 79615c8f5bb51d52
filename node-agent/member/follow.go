package member

import (
	"context"
	"crypto/tls"
	"log/slog"
	"time"

	"github.com/ovlnet/ovl/internal/identity"
	"github.com/ovlnet/ovl/internal/store"
	ovlv1 "github.com/ovlnet/ovl/proto/ovl/v1"
)

// readAgain is how long after a failed reading the next one follows.
const readAgain = time.Second

// Follow hears from the store which CAs are in force, until ctx is done. It is a
// hint to renew, and nothing else: whom to trust the controllers say, over a
// connection to one that is trusted already.
func (m *Member) Follow(ctx context.Context, kv store.KV, log *slog.Logger) error {
	for ctx.Err() == nil {
		if err := m.hear(ctx, kv); ctx.Err() == nil {
			log.Debug("the CAs in force are read again", "err", err)
		}
		select {
		case <-time.After(readAgain):
		case <-ctx.Done():
		}
	}
	return nil
}

// hear reads the record, and again at each change, until the watch ends.
func (m *Member) hear(ctx context.Context, kv store.KV) error {
	page, err := kv.Range(ctx, store.CAKey)
	if err != nil {
		return err
	}
	for _, r := range page.Records {
		m.take(r)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	for b := range kv.Watch(ctx, store.CAKey, page.Revision) {
		if b.Err != nil {
			return b.Err
		}
		for _, e := range b.Events {
			if !e.Deleted {
				m.take(e.Record)
			}
		}
	}
	return ctx.Err()
}

// take keeps what a record says. One that no controller writes says nothing.
func (m *Member) take(r store.Record) {
	a, err := identity.ParseAuthorities(r.Value)
	if err != nil || r.Key != store.CAKey {
		return
	}
	m.cas.Store(&a)
	m.tell()
}

// tell wakes Renew.
func (m *Member) tell() {
	select {
	case m.told <- struct{}{}:
	default:
	}
}

// Client returns the settings of a client of the cluster's etcd. That somebody else
// answers there, with another CA, is noted for [Member.Problems] and Renew.
func (m *Member) Client() *tls.Config {
	return m.Credential.ClientNoting(func(refused error) {
		if now := identity.FaultOf(refused) == identity.WrongCA; m.stranger.Swap(now) != now {
			m.tell()
		}
	})
}

// Rekeyed tells whenever this host has another key than before, which a join brings
// and no renewal, until ctx is done.
func (m *Member) Rekeyed(ctx context.Context, tell func()) error {
	changed, key := m.Credential.Changed(), identity.PrintOf(m.Credential.Pair().Leaf())
	for {
		select {
		case <-changed:
		case <-ctx.Done():
			return nil
		}
		changed = m.Credential.Changed()
		if now := identity.PrintOf(m.Credential.Pair().Leaf()); now != key {
			key = now
			tell()
		}
	}
}

// unsettled reports whether something is wrong that a renewal may mend, or tell more
// about; or another process, which has joined this host again.
func (m *Member) unsettled() bool { return m.behind() || m.stranger.Load() || m.out.Load() }

// behind reports whether the CAs in force are others than those that this host
// trusts and has its certificate from.
func (m *Member) behind() bool {
	a := m.cas.Load()
	return a != nil && !a.Followed(m.Credential.Pair().Chain, m.Credential.Roots())
}

// atMost is the longest wait after which a host follows a change of the CAs: all hear
// of it at once, and each asks a controller.
const atMost = 5 * time.Second

// stagger waits for this host's share of that time, where it has something to do.
func (m *Member) stagger(ctx context.Context) {
	leaf := m.Credential.Pair().Leaf()
	key := identity.PrintOf(leaf)
	most := min(atMost, leaf.NotAfter.Sub(leaf.NotBefore.Add(identity.Skew))/200)
	if !m.behind() || most <= 0 {
		return
	}
	select {
	case <-time.After(most * time.Duration(key[0]) / 256):
	case <-ctx.Done():
	}
}

// confirm tells the controllers what this host trusts, while they wait for that.
func (m *Member) confirm(ctx context.Context) error {
	a := m.cas.Load()
	if a == nil || a.Phase == identity.Rest || m.behind() {
		return nil
	}
	trusts := identity.Prints(m.Credential.Roots())
	text := string(a.Phase) + " " + identity.Text(trusts)
	if text == m.confirmed {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	req := &ovlv1.ConfirmRequest{Trusts: identity.FormatPrints(trusts)}
	var err error
	for _, controller := range m.Cluster.Controllers {
		err = m.call(ctx, "confirm", controller, func(c ovlv1.JoinServiceClient) error {
			_, err := c.Confirm(ctx, req)
			return err
		})
		if err == nil {
			m.confirmed = text
			return nil
		}
	}
	return err
}
