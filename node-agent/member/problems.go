package member

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/ovlnet/ovl/internal/cluster"
	"github.com/ovlnet/ovl/internal/identity"
	"github.com/ovlnet/ovl/internal/store"
)

// noting is a store of which the answers say whether this host is still in.
type noting struct {
	store.KV
	m *Member
}

// Noting returns the store, with what it says of this host's membership noted for
// [Member.Problems].
func (m *Member) Noting(kv store.KV) store.KV { return noting{kv, m} }

// Range implements [store.KV].
func (n noting) Range(ctx context.Context, prefixes ...string) (store.Page, error) {
	page, err := n.KV.Range(ctx, prefixes...)
	if err == nil {
		n.m.out.Store(false) // who may read is in
	}
	n.m.out.CompareAndSwap(false, errors.Is(err, store.ErrRefused))
	return page, err
}

// KeepAlive implements [store.KV].
func (n noting) KeepAlive(ctx context.Context, id store.LeaseID) (time.Duration, error) {
	left, err := n.KV.KeepAlive(ctx, id)
	n.m.out.CompareAndSwap(false, errors.Is(err, store.ErrRefused))
	return left, err
}

// note keeps why a renewal failed, or that none did.
func (m *Member) note(err error) {
	if err == nil {
		m.trouble.Store(nil)
		return
	}
	m.trouble.Store(&err)
}

// Problems returns what is wrong with this host's membership, for people.
func (m *Member) Problems() []cluster.Problem {
	problem := func(s cluster.Severity, what, hint string) []cluster.Problem {
		return []cluster.Problem{{Severity: s, Subject: "host " + m.Cluster.Name, What: what, Hint: hint}}
	}
	ends := m.Credential.Pair().Leaf().NotAfter
	why := m.trouble.Load()
	switch {
	case m.out.Load():
		return problem(cluster.SeverityError, "the cluster shuts this host out: it was removed, or has joined again since", "join again: ovl-agent join with a new token")
	case time.Now().After(ends):
		return problem(cluster.SeverityError, fmt.Sprintf("its certificate expired at %s", ends.UTC().Format(time.RFC3339)), "join again: ovl-agent join with a new token")
	case m.stranger.Load() || why != nil && identity.FaultOf(*why) == identity.WrongCA:
		return problem(cluster.SeverityError, "what answers as controller shows a certificate of a CA that this host does not know: either the cluster has changed its CA while this host was away, or something else answers there", "if it is the cluster's, join again: ovl-agent join with a new token; the host keeps its ID and its subnets")
	case why != nil && errors.Is(*why, ErrRefused):
		return problem(cluster.SeverityError, (*why).Error(), "join again: ovl-agent join with a new token")
	case why != nil:
		return problem(cluster.SeverityWarning, "its certificate cannot be renewed: "+(*why).Error(), fmt.Sprintf("it ends at %s: make the controller reachable", ends.UTC().Format(time.RFC3339)))
	}
	return nil
}
