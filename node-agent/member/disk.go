package member

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync/atomic"
	"time"

	"github.com/ovlnet/ovl/internal/cluster"
	"github.com/ovlnet/ovl/internal/identity"
)

// The files in the directory. The pair is written last, by a join: it says that
// the others are there.
const (
	pairFile    = "host.pem"
	rootsFile   = "ca.pem"
	clusterFile = "cluster.json"
	keyFile     = "joining.pem" // the key of a join under way
)

// Cluster is where the cluster is, as of the last join or renewal.
type Cluster struct {
	Name        string   `json:"name"`             // of this host
	Controllers []string `json:"controllers"`      // HOST:PORT
	Etcd        []string `json:"etcd"`             // URLs
	EtcdCA      string   `json:"etcdCA,omitempty"` // in PEM: of an etcd that is not the cluster's
	// ID names the cluster for good, whatever its CA is: the fingerprint of the CA
	// that it began with. Empty: that of the CA that is trusted.
	ID string `json:"cluster,omitempty"`
}

// maxTargets bounds the controllers and the endpoints of etcd.
const maxTargets = 64

// Member is a host that has joined.
type Member struct {
	Host       cluster.HostID
	Cluster    Cluster
	Credential *identity.Credential
	dir        string
	out        atomic.Bool           // the store refuses this host
	trouble    atomic.Pointer[error] // why the last renewal failed

	stranger atomic.Bool // what answers in the place of etcd has a CA that is unknown here

	cas       atomic.Pointer[identity.Authorities] // of the cluster, as the store has them; nil: not heard yet
	told      chan struct{}                        // has a token when cas changed
	confirmed string                               // what the controllers were told last; of Renew
}

// ErrNotJoined is a directory without a certificate.
var ErrNotJoined = errors.New("this host has not joined a cluster: ovl-agent join --controller HOST:PORT --token T does that (an admin makes the token with ovlctl token create)")

// Open reads what is in dir. The error wraps [ErrNotJoined] if it never joined.
func Open(dir string, host cluster.HostID, now func() time.Time) (*Member, error) {
	data, err := identity.ReadKey(filepath.Join(dir, pairFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, ErrNotJoined
	}
	if err != nil {
		return nil, err
	}
	m := &Member{Host: host, dir: dir, told: make(chan struct{}, 1)}
	pair, err := identity.ParsePair(data)
	if err == nil {
		err = m.own(pair)
	}
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", filepath.Join(dir, pairFile), err)
	}
	if m.Cluster, err = readCluster(filepath.Join(dir, clusterFile)); err != nil {
		return nil, err
	}
	data, err = identity.Read(filepath.Join(dir, rootsFile))
	if err != nil {
		return nil, err
	}
	roots, err := identity.ParseCerts(data)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", filepath.Join(dir, rootsFile), err)
	}
	if m.Cluster.ID == "" {
		m.Cluster.ID = identity.PrintOf(roots[0]).String()
	}
	m.Credential = identity.NewCredential(pair, roots, now)
	return m, nil
}

// own reports whether a certificate is this host's: a state directory that was
// put together from two hosts' is a mistake that etcd would only refuse later.
func (m *Member) own(p identity.Pair) error {
	who, err := p.Who()
	if err != nil {
		return err
	}
	if id, ok := who.HostID(); !ok || id != m.Host {
		return fmt.Errorf("it is of %s, and this is host %s: join again", who, m.Host)
	}
	return nil
}

func readCluster(path string) (Cluster, error) {
	data, err := identity.Read(path)
	if err != nil {
		return Cluster{}, err
	}
	c, err := parseCluster(data)
	if err != nil {
		return Cluster{}, fmt.Errorf("read %s: %w", path, err)
	}
	return c, nil
}

func parseCluster(data []byte) (Cluster, error) {
	var c Cluster
	if err := json.Unmarshal(data, &c); err != nil {
		return Cluster{}, err
	}
	if err := cluster.CheckName(c.Name); err != nil {
		return Cluster{}, err
	}
	if c.ID != "" {
		if _, err := identity.ParsePrint(c.ID); err != nil {
			return Cluster{}, err
		}
	}
	for _, targets := range [][]string{c.Controllers, c.Etcd} {
		if len(targets) == 0 || len(targets) > maxTargets || slices.Contains(targets, "") {
			return Cluster{}, fmt.Errorf("want 1 to %d controllers and as many endpoints of etcd", maxTargets)
		}
	}
	return c, nil
}

// save writes everything, the pair last.
func save(dir string, c Cluster, p identity.Pair, rootsPEM []byte) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("save identity: %w", err)
	}
	where, err := json.MarshalIndent(c, "", "  ")
	if err != nil {
		return fmt.Errorf("save identity: %w", err)
	}
	pair, err := identity.EncodePair(p)
	if err != nil {
		return err
	}
	for _, f := range []struct {
		name string
		data []byte
	}{{rootsFile, rootsPEM}, {clusterFile, append(where, '\n')}, {pairFile, pair}} {
		if err := identity.Write(filepath.Join(dir, f.name), f.data); err != nil {
			return err
		}
	}
	return nil
}
