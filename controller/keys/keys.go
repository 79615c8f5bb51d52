package keys

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/ovlnet/ovl/internal/cluster"
	"github.com/ovlnet/ovl/internal/identity"
)

// The files in the directory.
const (
	caFile         = "ca.pem"
	caKeyFile      = "ca-key.pem"
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
	Authority  *identity.Authority
	Credential *identity.Credential // of this controller, always fresh: see Run
	config     Config
}

// Open reads the keys, or makes what is missing.
func Open(c Config) (*Keys, error) {
	if c.Now == nil {
		c.Now = time.Now
	}
	if err := os.MkdirAll(c.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("open identity: %w", err)
	}
	a, err := openAuthority(c)
	if err != nil {
		return nil, err
	}
	k := &Keys{Authority: a, config: c}
	return k, k.renew()
}

func openAuthority(c Config) (*identity.Authority, error) {
	certFile, keyFile := filepath.Join(c.Dir, caFile), filepath.Join(c.Dir, caKeyFile)
	if c.CACert != "" {
		return givenAuthority(c)
	}
	cert, err := identity.Read(certFile)
	if errors.Is(err, fs.ErrNotExist) {
		return makeAuthority(certFile, keyFile, c.Now())
	}
	if err != nil {
		return nil, err
	}
	key, err := identity.ReadKey(keyFile)
	if err != nil {
		return nil, err
	}
	a, err := identity.ParseAuthority(cert, key, c.Now())
	if err != nil {
		return nil, fmt.Errorf("open CA in %s: %w", c.Dir, err)
	}
	return a, nil
}

// givenAuthority reads an own CA, and leaves its certificate beside the others:
// clients on this machine read it there.
func givenAuthority(c Config) (*identity.Authority, error) {
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
	own := filepath.Join(c.Dir, caFile)
	if _, err := os.Stat(filepath.Join(c.Dir, caKeyFile)); err == nil {
		return nil, fmt.Errorf("read CA %s: %s holds a CA already, and hosts trust that one: move it away to begin with another", c.CACert, c.Dir)
	}
	return a, identity.Write(own, identity.EncodeCerts(a.Roots()))
}

// makeAuthority makes the CA. The certificate comes last: it is what says that
// there is one.
func makeAuthority(certFile, keyFile string, now time.Time) (*identity.Authority, error) {
	a, err := identity.NewAuthority(now)
	if err != nil {
		return nil, err
	}
	cert, key, err := a.Encode()
	if err == nil {
		err = identity.Write(keyFile, key)
	}
	if err == nil {
		err = identity.Write(certFile, cert)
	}
	return a, err
}

// renew issues the certificates of this machine, and writes them.
func (k *Keys) renew() error {
	c := k.config
	name := c.Hostname
	if cluster.CheckName(name) != nil {
		name = "controller"
	}
	own, err := k.issue(controllerFile, identity.Who{Role: identity.Controller, Name: name}, c.Names)
	if err != nil {
		return err
	}
	if _, err := k.issue(adminFile, identity.Who{Role: identity.Admin, Name: identity.Local}, identity.Names{}); err != nil {
		return err
	}
	if err := identity.Write(filepath.Join(c.Dir, contextFile), k.context()); err != nil {
		return err
	}
	if k.Credential == nil {
		k.Credential = identity.NewCredential(own, k.Authority.Roots(), c.Now)
	}
	k.Credential.Replace(own, k.Authority.Roots())
	return nil
}

func (k *Keys) issue(file string, who identity.Who, names identity.Names) (identity.Pair, error) {
	key, err := identity.NewKey()
	if err != nil {
		return identity.Pair{}, err
	}
	chain, err := k.Authority.Issue(who, key.Public(), names, k.config.Now(), k.config.Life)
	if err != nil {
		return identity.Pair{}, err
	}
	p := identity.Pair{Chain: chain, Key: key}
	data, err := identity.EncodePair(p)
	if err == nil {
		err = identity.Write(filepath.Join(k.config.Dir, file), data)
	}
	return p, err
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
`, cmp.Or(k.config.Controller, "127.0.0.1:6790"), caFile, adminFile)
}
