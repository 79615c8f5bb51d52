package keys

import (
	"crypto"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/ovlnet/ovl/internal/identity"
)

// ErrNoKey is a CA whose key is not on this machine.
var ErrNoKey = errors.New("this controller has not the key of a CA of this cluster")

// Roots returns the certificates of the CAs in force, the issuing one first.
func (k *Keys) Roots() []*x509.Certificate { return k.Credential.Roots() }

// Issue issues with the CA that issues now.
func (k *Keys) Issue(who identity.Who, public crypto.PublicKey, names identity.Names, now time.Time, life time.Duration) ([]*x509.Certificate, error) {
	k.mu.Lock()
	a := k.ring[k.trusted[0]]
	k.mu.Unlock()
	return a.Issue(who, public, names, now, life)
}

// InForce are the CAs that this controller trusts and serves with; the first one
// issues.
func (k *Keys) InForce() []identity.Print {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.trusted
}

// Next makes a CA to change to, or takes the one that is given, and keeps it on
// disk; nothing trusts it yet. One that was made before, by a try that did not
// end, is taken again. It returns the CA's print.
func (k *Keys) Next(certPEM, keyPEM []byte) (identity.Print, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	now := k.config.Now()
	if len(certPEM) > 0 || len(keyPEM) > 0 {
		a, err := identity.ParseAuthority(certPEM, keyPEM, now)
		if err != nil {
			return identity.Print{}, err
		}
		if slices.Contains(k.trusted, a.Print()) {
			return a.Print(), nil
		}
		if len(k.trusted) > 1 {
			return identity.Print{}, errors.New("the CA is changing to another one already")
		}
		return a.Print(), k.ring.write(a, k.config, nextFile, nextKeyFile)
	}
	for p := range k.ring {
		if !slices.Contains(k.trusted, p) {
			return p, nil
		}
	}
	a, err := k.ring.make(k.config, nextFile, nextKeyFile)
	if err != nil {
		return identity.Print{}, err
	}
	return a.Print(), nil
}

// Forget removes the CA to change to, which is not in force.
func (k *Keys) Forget() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	var errs []error
	for _, file := range []string{nextFile, nextKeyFile} {
		if err := os.Remove(filepath.Join(k.config.Dir, file)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, fmt.Errorf("remove CA: %w", err))
		}
	}
	for p := range k.ring {
		if !slices.Contains(k.trusted, p) {
			delete(k.ring, p)
		}
	}
	return errors.Join(errs...)
}

// Adopt makes this controller trust and issue as the cluster does now. One whose
// key is not here makes it [ErrNoKey], and then everything stays as it was.
func (k *Keys) Adopt(a identity.Authorities) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, p := range a.Trusted {
		if k.ring[p] == nil {
			return fmt.Errorf("%w (fingerprint %s): bring it that CA's certificate and key: ovlctl --controller THIS-ONE ca rotate --ca-cert FILE --ca-key FILE", ErrNoKey, p)
		}
	}
	if old := k.trusted; !slices.Equal(a.Trusted, old) {
		k.trusted = slices.Clone(a.Trusted)
		if err := k.renewLocked(); err != nil {
			k.trusted = old
			return err
		}
	}
	if a.Phase != identity.Rest {
		return nil
	}
	return k.ring.settle(k.config, a.Issuer())
}
