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

	"github.com/ovlnet/ovl/internal/identity"
)

// ring is the CAs whose keys are here. A controller trusts no other CA, whatever
// the store says: so that who writes there cannot bring in one of his own.
type ring map[identity.Print]*identity.Authority

// The files of CAs, by what they are for. Which certificate has which key is seen
// from the keys, since a crash may leave them one step apart.
var (
	caFiles  = []string{caFile, nextFile}
	keyFiles = []string{caKeyFile, nextKeyFile}
)

// openRing reads the CAs in the directory, and the one that was given.
func openRing(c Config) (ring, error) {
	r := ring{}
	var bundles [][]*x509.Certificate
	for _, file := range caFiles {
		certs, err := readCA(c, file)
		if err != nil {
			return nil, err
		}
		bundles = append(bundles, certs)
	}
	for _, file := range keyFiles {
		data, err := identity.ReadKey(filepath.Join(c.Dir, file))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		key, err := identity.ParseKey(data)
		if err != nil {
			return nil, fmt.Errorf("read key %s: %w", filepath.Join(c.Dir, file), err)
		}
		if err := r.match(key, bundles, c); err != nil {
			return nil, err
		}
	}
	return r, nil
}

// match adds the CA of a key, if its certificate is there.
func (r ring) match(key crypto.Signer, bundles [][]*x509.Certificate, c Config) error {
	for _, certs := range bundles {
		p, err := identity.NewPair(certs, key)
		if err != nil {
			continue // another one's
		}
		a, err := identity.AuthorityOf(p, c.Now())
		if err != nil {
			return fmt.Errorf("open CA in %s: %w", c.Dir, err)
		}
		r[a.Print()] = a
	}
	return nil
}

// given reads an own CA.
func (r ring) given(c Config) (*identity.Authority, error) {
	cert, err := identity.Read(c.CACert)
	if err != nil {
		return nil, err
	}
	key, err := identity.ReadKey(c.CAKey)
	if err != nil {
		return nil, err
	}
	a, err := identity.ParseAuthority(cert, key, c.Now())
	if err != nil {
		return nil, fmt.Errorf("read CA %s, %s: %w", c.CACert, c.CAKey, err)
	}
	r[a.Print()] = a
	return a, nil
}

// first returns the CA with which a controller begins that knows of no other.
func (r ring) first(c Config) (*identity.Authority, error) {
	certs, err := readCA(c, caFile)
	switch {
	case err != nil:
		return nil, err
	case len(certs) == 0 && c.CACert == "":
		return r.make(c, caFile, caKeyFile)
	case len(certs) == 0:
		a, err := r.given(c)
		if err != nil {
			return nil, err
		}
		return a, identity.Write(filepath.Join(c.Dir, caFile), identity.EncodeCerts(a.Roots())) // clients on this machine look there
	}
	here := r[identity.PrintOf(certs[0])]
	if c.CACert == "" {
		if next, err := readCA(c, nextFile); here == nil && err == nil && len(next) > 0 && r[identity.PrintOf(next[0])] != nil {
			return r[identity.PrintOf(next[0])], nil // settle was interrupted between its files
		}
		if here == nil {
			_, err := identity.ReadKey(filepath.Join(c.Dir, caKeyFile))
			return nil, errors.Join(fmt.Errorf("open CA in %s: its key is not there", c.Dir), err)
		}
		return here, nil
	}
	a, err := r.given(c)
	if err != nil || here == nil || here.Print() == a.Print() {
		return a, err
	}
	if c.dropped(a.Print()) {
		delete(r, a.Print())
		return here, nil // the flags name the CA before this one
	}
	return nil, fmt.Errorf("read CA %s: %s holds a CA already, and hosts trust that one: leave --ca-cert out and bring the other one in with ovlctl ca rotate, or move that directory away to begin anew", c.CACert, c.Dir)
}

// dropped reports whether a CA is one that this controller has seen dropped.
func (c Config) dropped(p identity.Print) bool {
	certs, err := readCA(c, previousFile)
	return err == nil && slices.Contains(identity.Prints(certs), p)
}

// make makes a CA. The certificate comes last: it is what says that there is one.
func (r ring) make(c Config, file, keyFile string) (*identity.Authority, error) {
	a, err := identity.NewAuthority(c.Now())
	if err == nil {
		err = r.write(a, c, file, keyFile)
	}
	return a, err
}

func (r ring) write(a *identity.Authority, c Config, file, keyFile string) error {
	cert, key, err := a.Encode()
	if err == nil {
		err = identity.Write(filepath.Join(c.Dir, keyFile), key)
	}
	if err == nil {
		err = identity.Write(filepath.Join(c.Dir, file), cert)
	}
	if err == nil {
		r[a.Print()] = a
	}
	return err
}

// settle makes the files say what is at rest: the one CA, and no next one. A crash
// in between leaves pairs that openRing still finds.
func (r ring) settle(c Config, only identity.Print) error {
	next, err := readCA(c, nextFile)
	if err != nil || len(next) == 0 || identity.PrintOf(next[0]) != only {
		return err // none, or one that is still to come
	}
	before, err := readCA(c, caFile)
	if err == nil && len(before) > 0 && identity.PrintOf(before[0]) != only {
		err = identity.Write(filepath.Join(c.Dir, previousFile), identity.EncodeCerts(before))
	}
	if err != nil {
		return err
	}
	for _, f := range [][2]string{{nextKeyFile, caKeyFile}, {nextFile, caFile}} {
		err := os.Rename(filepath.Join(c.Dir, f[0]), filepath.Join(c.Dir, f[1]))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("replace CA: %w", err)
		}
	}
	for p := range r {
		if p != only {
			delete(r, p)
		}
	}
	return nil
}

// readCA reads the certificates of a CA; a file that is not there has none.
func readCA(c Config, file string) ([]*x509.Certificate, error) {
	path := filepath.Join(c.Dir, file)
	data, err := identity.Read(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	certs, err := identity.ParseCerts(data)
	if err != nil {
		return nil, fmt.Errorf("read CA %s: %w", path, err)
	}
	return certs, nil
}
