package main

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/status"

	"github.com/ovlnet/ovl/internal/identity"
	ovlv1 "github.com/ovlnet/ovl/proto/ovl/v1"
)

// renewTimeout bounds a renewal: what the user asked for is done already.
const renewTimeout = 5 * time.Second

// ownFiles are those of a context that ovlctl login wrote, and renews.
type ownFiles struct{ cert, ca string }

// keepFresh renews the certificate with which a command was run, where it is past
// half of its life or the cluster's CAs have changed. That it cannot is no error of
// the command; it is said when the end comes near.
func (o *options) keepFresh(ctx context.Context, cl *client) {
	if o.own == (ownFiles{}) || cl.own == nil || ctx.Err() != nil {
		return
	}
	who, err := cl.own.Pair().Who()
	leaf := cl.own.Pair().Leaf()
	if err != nil || who.Role == identity.Host || who.Name == identity.Local || !o.stale(cl.own, cl.told()) {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, renewTimeout)
	defer cancel()
	err = o.renew(ctx, cl)
	left := leaf.NotAfter.Sub(o.now())
	if err != nil && left < leaf.NotAfter.Sub(leaf.NotBefore)/4 {
		o.say("ovlctl: your certificate ends at %s and cannot be renewed: %s", leaf.NotAfter.UTC().Format(time.RFC3339), oneLine(err.Error()))
	}
}

// stale reports whether a credential is to be renewed: told is what the controller
// says of the CAs in force, or empty.
func (o *options) stale(c *identity.Credential, told string) bool {
	if !o.now().Before(identity.RenewAt(c.Pair().Leaf())) {
		return true
	}
	roots := c.Roots()
	return told != "" && (told != identity.Text(identity.Prints(roots)) ||
		identity.IssuerOf(c.Pair().Chain, roots) != identity.PrintOf(roots[0]))
}

// renew has the key certified again and writes what it gets. Of several ovlctl that
// would do so at once one does: the others find its directory locked, and have
// nothing to wait for.
func (o *options) renew(ctx context.Context, cl *client) error {
	dir, err := os.Open(filepath.Dir(o.own.cert))
	if err != nil {
		return err
	}
	defer dir.Close() // which unlocks
	err = unix.Flock(int(dir.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("lock %s: %w", dir.Name(), err)
	}
	now, err := o.credential()
	if err != nil {
		return err
	}
	if !o.stale(now, cl.told()) {
		return nil // another one was faster
	}
	pair, roots, err := cl.renewed(ctx, now.Pair())
	if err != nil {
		return err
	}
	data, err := identity.EncodePair(pair)
	if err != nil {
		return err
	}
	// The roots first: what is shown next is of one of them.
	if err := identity.Write(o.own.ca, identity.EncodeCerts(roots)); err != nil {
		return err
	}
	if err := identity.Write(o.own.cert, data); err != nil {
		return err
	}
	if len(roots) < 2 {
		return nil
	}
	return o.confirmTrust(ctx, cl.address, identity.NewCredential(pair, roots, time.Now))
}

// confirmTrust tells the controllers, which wait for it while the CA changes, what
// is trusted here.
func (o *options) confirmTrust(ctx context.Context, address string, c *identity.Credential) error {
	cl, err := (&client{who: "controller " + address, address: address, ca: identity.PrintOf(c.Roots()[0])}).dial("tcp", credentials.NewTLS(c.Client()))
	if err != nil {
		return err
	}
	defer cl.close()
	_, err = cl.joins().Confirm(ctx, &ovlv1.ConfirmRequest{Trusts: identity.FormatPrints(identity.Prints(c.Roots()))})
	return err
}

// renewed asks for a new certificate of that key.
func (c *client) renewed(ctx context.Context, old identity.Pair) (p identity.Pair, roots []*x509.Certificate, err error) {
	request, err := identity.NewRequest(old.Key)
	if err != nil {
		return p, nil, err
	}
	m, err := c.joins().Renew(ctx, &ovlv1.RenewRequest{Request: request})
	if err != nil {
		return p, nil, errors.New(status.Convert(err).Message())
	}
	return identity.Accept(m.GetChain(), m.GetRoots(), old.Key)
}
