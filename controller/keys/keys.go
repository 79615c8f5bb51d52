package keys

import (
	"cmp"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/ovlnet/ovl/internal/cluster"
	"github.com/ovlnet/ovl/internal/identity"
)

// The files in the directory.
const (
	caFile         = "ca.pem" // the CA
	caKeyFile      = "ca-key.pem"
	nextFile       = "next-ca.pem" // the one that the cluster changes to, if it does
	nextKeyFile    = "next-ca-key.pem"
	previousFile   = "previous-ca.pem" // the one that it changed from
	rootsFile      = "roots.pem"       // those in force, the issuing one first
	controllerFile = "controller.pem"
	adminFile      = "admin.pem"
	contextFile    = "ovlctl.yaml"
)

// Config says where the keys are and for whom.
type Config struct {
	Dir           string           // of the keys; made if it is missing
	CACert, CAKey string           // an own CA; empty: that of Dir
	Hostname      string           // names this controller, as far as it can
	Names         identity.Names   // of the server's certificate
	Controller    string           // where ovlctl on this machine finds the API
	Life          time.Duration    // of certificates
	Now           func() time.Time // nil = [time.Now]
}

// Keys are the keys of a running controller.
type Keys struct {
	Credential *identity.Credential // of this controller, always fresh: see Run
	config     Config

	mu      sync.Mutex
	ring    ring
	trusted []identity.Print // in force; the first one issues
}

// Open reads the keys, or makes what is missing.
func Open(c Config) (*Keys, error) {
	if c.Now == nil {
		c.Now = time.Now
	}
	if err := os.MkdirAll(c.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("open identity: %w", err)
	}
	r, err := openRing(c)
	if err != nil {
		return nil, err
	}
	k := &Keys{config: c, ring: r}
	if k.trusted, err = k.restore(); err != nil {
		return nil, err
	}
	return k, k.renew()
}

// restore returns the CAs that were in force when this controller last ran, as
// far as their keys are here; the store has the last word.
func (k *Keys) restore() ([]identity.Print, error) {
	first, err := k.ring.first(k.config)
	if err != nil {
		return nil, err
	}
	data, err := identity.Read(filepath.Join(k.config.Dir, rootsFile))
	if errors.Is(err, fs.ErrNotExist) {
		return []identity.Print{first.Print()}, nil
	}
	if err != nil {
		return nil, err
	}
	certs, err := identity.ParseCerts(data)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", filepath.Join(k.config.Dir, rootsFile), err)
	}
	here := slices.DeleteFunc(identity.Prints(certs), func(p identity.Print) bool { return k.ring[p] == nil })
	if len(here) == 0 {
		here = []identity.Print{first.Print()}
	}
	return here, nil
}

// renew issues the certificates of this machine, and writes them.
func (k *Keys) renew() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.renewLocked()
}

// renewLocked shows what the issuing CA says, and to those who ask for another
// one what that says. The roots are written first: what is shown next hangs from
// one of them.
func (k *Keys) renewLocked() error {
	c := k.config
	name := c.Hostname
	if cluster.CheckName(name) != nil {
		name = "controller"
	}
	var roots []*x509.Certificate
	for _, p := range k.trusted {
		roots = append(roots, k.ring[p].Roots()...)
	}
	if err := identity.Write(filepath.Join(c.Dir, rootsFile), identity.EncodeCerts(roots)); err != nil {
		return err
	}
	var pairs []identity.Pair
	for _, p := range k.trusted {
		own, err := k.issue(k.ring[p], identity.Who{Role: identity.Controller, Name: name}, c.Names)
		if err != nil {
			return err
		}
		pairs = append(pairs, own)
	}
	local, err := k.issue(k.ring[k.trusted[0]], identity.Who{Role: identity.Admin, Name: identity.Local}, identity.Names{})
	if err == nil {
		err = k.write(controllerFile, pairs[0])
	}
	if err == nil {
		err = k.write(adminFile, local)
	}
	if err == nil {
		err = identity.Write(filepath.Join(c.Dir, contextFile), k.context())
	}
	if err != nil {
		return err
	}
	if k.Credential == nil {
		k.Credential = identity.NewCredential(pairs[0], roots, c.Now)
	}
	k.Credential.Replace(pairs[0], roots, pairs[1:]...)
	return nil
}

func (k *Keys) issue(a *identity.Authority, who identity.Who, names identity.Names) (identity.Pair, error) {
	key, err := identity.NewKey()
	if err != nil {
		return identity.Pair{}, err
	}
	chain, err := a.Issue(who, key.Public(), names, k.config.Now(), k.config.Life)
	return identity.Pair{Chain: chain, Key: key}, err
}

func (k *Keys) write(file string, p identity.Pair) error {
	data, err := identity.EncodePair(p)
	if err == nil {
		err = identity.Write(filepath.Join(k.config.Dir, file), data)
	}
	return err
}

// context is what ovlctl --config reads: names of files are relative to it.
func (k *Keys) context() []byte {
	return fmt.Appendf(nil, `# Written by ovl-controller: the admin of this machine.
currentContext: local
contexts:
- name: local
  controller: %q
  ca: %s
  cert: %s
`, cmp.Or(k.config.Controller, "127.0.0.1:6790"), rootsFile, adminFile)
}
