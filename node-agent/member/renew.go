package member

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"github.com/ovlnet/ovl/internal/identity"
	ovlv1 "github.com/ovlnet/ovl/proto/ovl/v1"
)

const (
	// look is the longest wait between two looks at the clock: timers stand
	// still while a machine is suspended.
	look = time.Hour
	// shortest and longest bound the wait after a failure: a tenth of what is
	// left of the certificate's life.
	shortest, longest = time.Second, 10 * time.Minute
	// callTimeout bounds one call.
	callTimeout = 10 * time.Second
)

// Renew keeps the certificate fresh, until ctx is done: at half of its life it
// has it certified again, for the same key, and as soon as the cluster's CAs are
// others than this host has. Connections stay as they are; later ones show the new
// certificate.
func (m *Member) Renew(ctx context.Context, log *slog.Logger) error {
	failures := 0
	for {
		leaf := m.Credential.Pair().Leaf()
		wait := time.Until(m.due(leaf))
		if wait <= 0 || m.unsettled() {
			failures++
			wait = m.tryRenew(ctx, log, leaf, failures)
		}
		if !m.unsettled() {
			failures = 0
		}
		if err := m.confirm(ctx); err != nil && ctx.Err() == nil {
			log.Warn("cannot tell the controllers which CAs this host trusts", "err", err)
			wait = min(wait, shortest)
		}
		select {
		case <-time.After(min(wait, look)):
		case <-m.told:
			m.stagger(ctx)
		case <-ctx.Done():
			return nil
		}
	}
}

// due is half of the certificate's life and up to a tenth more: hosts that
// joined together do not renew together.
func (m *Member) due(leaf *x509.Certificate) time.Time {
	half := identity.RenewAt(leaf)
	key := identity.PrintOf(leaf)
	share := float64(key[0]) / 256 // of this host, always the same
	return half.Add(time.Duration(share * float64(leaf.NotAfter.Sub(half)) / 5))
}

// tryRenew renews once, and returns how long to wait for the next look. That it has
// failed, or changed nothing though the CAs are others, for the n-th time is no
// reason to ask without end.
func (m *Member) tryRenew(ctx context.Context, log *slog.Logger, leaf *x509.Certificate, n int) time.Duration {
	err := m.renewOnce(ctx)
	if err != nil && m.reload() {
		err = nil // somebody has joined this host again meanwhile
	}
	m.note(err)
	if err == nil {
		log.Info("renewed the certificate", "until", m.Credential.Pair().Leaf().NotAfter)
		if !m.unsettled() {
			return 0
		}
	}
	if err != nil && ctx.Err() == nil {
		log.Warn("cannot renew the certificate", "err", err, "expires", leaf.NotAfter)
	}
	wait := min(max(time.Until(leaf.NotAfter)/10, shortest), longest)
	if m.unsettled() {
		wait = min(wait, shortest<<min(n, 6)) // others wait for this host, or people do
	}
	return wait/2 + rand.N(wait/2+1) //nolint:gosec // spreads, hides nothing
}

// reload takes what is on disk, if another process has put something there since.
func (m *Member) reload() bool {
	next, err := Open(m.dir, m.Host, time.Now)
	if err != nil || next.Credential.Pair().Leaf().Equal(m.Credential.Pair().Leaf()) {
		return false
	}
	m.Credential.Replace(next.Credential.Pair(), next.Credential.Roots())
	return true
}

// renewOnce asks the controllers, one after the other.
func (m *Member) renewOnce(ctx context.Context) error {
	var errs []error
	for _, controller := range m.Cluster.Controllers {
		err := m.renewAt(ctx, controller)
		if err == nil {
			return nil
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

func (m *Member) renewAt(ctx context.Context, controller string) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	key := m.Credential.Pair().Key
	request, err := identity.NewRequest(key)
	if err != nil {
		return err
	}
	var answer *ovlv1.Membership
	err = m.call(ctx, "renew", controller, func(c ovlv1.JoinServiceClient) error {
		var err error
		answer, err = c.Renew(ctx, &ovlv1.RenewRequest{Request: request})
		return err
	})
	if err != nil {
		return err
	}
	p, roots, err := identity.Accept(answer.GetChain(), answer.GetRoots(), key, identity.Host)
	if err == nil {
		err = m.own(p)
	}
	if err != nil {
		return fmt.Errorf("renew at %s: %w", controller, err)
	}
	next := m.Cluster
	if next.Etcd, err = endpoints(answer.GetEtcdEndpoints(), controller); err != nil {
		return fmt.Errorf("renew at %s: %w", controller, err)
	}
	if next.EtcdCA, err = etcdCA(answer); err != nil {
		return fmt.Errorf("renew at %s: %w", controller, err)
	}
	if err := save(m.dir, next, p, identity.EncodeCerts(roots)); err != nil {
		return err
	}
	m.Credential.Replace(p, roots)
	return nil
}

// call calls a controller. That it was no controller of this host's cluster is the
// error, however much gRPC says around it.
func (m *Member) call(ctx context.Context, doing, controller string, do func(ovlv1.JoinServiceClient) error) error {
	doing += " at " + controller
	var refused atomic.Pointer[error]
	settings := m.Credential.ClientNoting(func(err error) {
		if err != nil {
			refused.Store(&err)
		}
	})
	conn, err := dial(controller, settings, identity.PrintOf(m.Credential.Roots()[0]))
	if err != nil {
		return err
	}
	defer conn.Close() // nothing is sent any more
	err = do(ovlv1.NewJoinServiceClient(conn))
	if why := refused.Load(); err != nil && why != nil {
		return fmt.Errorf("%s: %w", doing, *why)
	}
	if err != nil {
		return said(doing, err)
	}
	return ctx.Err()
}
