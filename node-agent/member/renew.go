package member

import (
	"context"
	"crypto"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
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
// has it certified again, for the same key. Connections stay as they are; later
// ones show the new certificate.
func (m *Member) Renew(ctx context.Context, log *slog.Logger) error {
	for {
		leaf := m.Credential.Pair().Leaf()
		wait := time.Until(m.due(leaf))
		if wait <= 0 {
			wait = m.tryRenew(ctx, log, leaf)
		}
		select {
		case <-time.After(min(wait, look)):
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

// tryRenew renews once, and returns how long to wait for the next look.
func (m *Member) tryRenew(ctx context.Context, log *slog.Logger, leaf *x509.Certificate) time.Duration {
	err := m.renewOnce(ctx)
	m.note(err)
	if err == nil {
		log.Info("renewed the certificate", "until", m.Credential.Pair().Leaf().NotAfter)
		return 0
	}
	if ctx.Err() == nil {
		log.Warn("cannot renew the certificate", "err", err, "expires", leaf.NotAfter)
	}
	wait := min(max(time.Until(leaf.NotAfter)/10, shortest), longest)
	return wait/2 + rand.N(wait/2+1) //nolint:gosec // spreads, hides nothing
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
	conn, err := dial(controller, m.Credential.Client())
	if err != nil {
		return err
	}
	defer conn.Close() // nothing is sent any more
	answer, err := ovlv1.NewJoinServiceClient(conn).Renew(ctx, &ovlv1.RenewRequest{Request: request})
	if err != nil {
		return said("renew at "+controller, err)
	}
	p, roots, err := accept(answer, key)
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
	if err := save(m.dir, next, p, identity.EncodeCerts(roots)); err != nil {
		return err
	}
	m.Credential.Replace(p, roots)
	return nil
}

// accept checks what a controller answered: it hangs together, and is for that key.
func accept(m *ovlv1.Membership, key crypto.Signer) (identity.Pair, []*x509.Certificate, error) {
	roots, err := identity.ParseChain(m.GetRoots())
	if err != nil {
		return identity.Pair{}, nil, err
	}
	chain, err := identity.ParseChain(m.GetChain())
	if err != nil {
		return identity.Pair{}, nil, err
	}
	p, err := identity.NewPair(chain, key)
	if err != nil {
		return identity.Pair{}, nil, err
	}
	_, err = identity.Verify(chain, roots, p.Leaf().NotAfter, identity.Host)
	return p, roots, err
}
