package member

import (
	"context"
	"crypto"
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/status"

	"github.com/ovlnet/ovl/internal/cluster"
	"github.com/ovlnet/ovl/internal/identity"
	ovlv1 "github.com/ovlnet/ovl/proto/ovl/v1"
)

// Config says who joins what.
type Config struct {
	Dir        string // of the identity
	Host       cluster.HostID
	Name       string
	Controller string // HOST:PORT
	Token      identity.Token
	Now        func() time.Time
}

// Join makes this host a member of the token's cluster, and returns it. A host
// that is one already stays what it is, and spends nothing. One that has to join
// again, since its certificate or its CA has ended or it was removed, does so with a
// new key: whatever was copied of its disk before is worth nothing then.
func Join(ctx context.Context, c Config) (*Member, error) {
	old, err := Open(c.Dir, c.Host, c.Now)
	switch {
	case err != nil && !errors.Is(err, ErrNotJoined):
		return nil, err
	case err == nil && c.of(old) && c.now().Before(old.Credential.Pair().Leaf().NotAfter) && old.Cluster.Name == c.Name:
		if !shutOut(old.renewAt(ctx, c.Controller)) {
			return old, nil // or the controller is away, and no reason to join is known
		}
	}
	key, err := c.key()
	if err != nil {
		return nil, err
	}
	where := Cluster{Name: c.Name, Controllers: []string{c.Controller}}
	pair, roots, err := c.ask(ctx, key, old, &where)
	if err != nil {
		return nil, err
	}
	if err := save(c.Dir, where, pair, roots); err != nil {
		return nil, err
	}
	if err := os.Remove(filepath.Join(c.Dir, keyFile)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("join: %w", err)
	}
	return Open(c.Dir, c.Host, c.Now)
}

// shutOut reports whether a renewal failed because this host has to join again.
func shutOut(err error) bool {
	return errors.Is(err, ErrRefused) || identity.FaultOf(err) == identity.WrongCA
}

func (c Config) now() time.Time { return c.Now() }

// of reports whether a member is one of the token's cluster.
func (c Config) of(m *Member) bool {
	for _, r := range m.Credential.Roots() {
		if identity.PrintOf(r) == c.Token.CA {
			return true
		}
	}
	return false
}

// key returns the key to join with: that of a join whose answer got lost, so that
// the controller knows it again; else a new one.
func (c Config) key() (crypto.Signer, error) {
	if err := os.MkdirAll(c.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("join: %w: run as root, or choose another --state-dir", err)
	}
	path := filepath.Join(c.Dir, keyFile)
	data, err := identity.ReadKey(path)
	if err == nil {
		return identity.ParseKey(data)
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	key, err := identity.NewKey()
	if err != nil {
		return nil, err
	}
	if data, err = identity.EncodeKey(key); err == nil {
		err = identity.Write(path, data)
	}
	return key, err
}

// ask has the key certified. Nothing is said before the other end has shown the
// token's CA. A host that was a member says of which cluster, so that no other one
// takes it in, and has its key of before hand over.
func (c Config) ask(ctx context.Context, key crypto.Signer, old *Member, where *Cluster) (p identity.Pair, rootsPEM []byte, err error) {
	request, err := identity.NewRequest(key)
	if err != nil {
		return p, nil, err
	}
	req := &ovlv1.JoinRequest{TokenId: c.Token.ID, Secret: c.Token.Secret, Request: request, HostId: string(c.Host), Name: c.Name}
	if old != nil {
		if req.Handover, err = identity.NewHandover(old.Credential.Pair().Key, request); err != nil {
			return p, nil, err
		}
		req.Cluster = old.Cluster.ID
	}
	conn, err := dial(c.Controller, identity.Pinned(c.Token.CA, c.Now), c.Token.CA)
	if err != nil {
		return p, nil, err
	}
	defer conn.Close() // nothing is sent any more
	m, err := ovlv1.NewJoinServiceClient(conn).Join(ctx, req)
	if err != nil {
		return p, nil, fmt.Errorf("join %s: %s", c.Controller, status.Convert(err).Message())
	}
	p, roots, err := identity.Accept(m.GetChain(), m.GetRoots(), key, identity.Host)
	if err == nil {
		where.ID = m.GetCluster()
		where.Etcd, err = endpoints(m.GetEtcdEndpoints(), c.Controller)
	}
	if err == nil {
		where.EtcdCA, err = etcdCA(m)
	}
	if err != nil {
		return p, nil, fmt.Errorf("join %s: %w", c.Controller, err)
	}
	return p, identity.EncodeCerts(roots), nil
}

// endpoints returns the URLs of etcd; one without a host is where the controller
// was reached.
func endpoints(urls []string, controller string) ([]string, error) {
	if len(urls) == 0 || len(urls) > maxTargets {
		return nil, fmt.Errorf("%d endpoints of etcd: want 1 to %d", len(urls), maxTargets)
	}
	var all []string
	for _, s := range urls {
		u, err := url.Parse(s)
		if err != nil || u.Scheme != "https" || u.Port() == "" {
			return nil, fmt.Errorf("endpoint of etcd %.160q: want a URL such as https://10.0.0.1:6779", s)
		}
		if u.Hostname() == "" {
			host, _, err := net.SplitHostPort(controller)
			if err != nil {
				return nil, fmt.Errorf("controller %q: want HOST:PORT", controller)
			}
			u.Host = net.JoinHostPort(host, u.Port())
		}
		all = append(all, u.String())
	}
	return all, nil
}

// etcdCA returns the CA of an etcd that is not the cluster's, in PEM.
func etcdCA(m *ovlv1.Membership) (string, error) {
	if len(m.GetEtcdRoots()) == 0 {
		return "", nil
	}
	roots, err := identity.ParseChain(m.GetEtcdRoots())
	return string(identity.EncodeCerts(roots)), err
}

// dial returns a connection that connects when it is first used. The controller is
// asked for a certificate of that CA.
func dial(controller string, settings *tls.Config, ca identity.Print) (*grpc.ClientConn, error) {
	conn, err := grpc.NewClient("passthrough:///"+controller,
		grpc.WithTransportCredentials(credentials.NewTLS(settings)), grpc.WithAuthority(identity.ServerName(ca)), grpc.WithNoProxy())
	if err != nil {
		return nil, fmt.Errorf("dial controller %s: %w", controller, err)
	}
	return conn, nil
}

// ErrRefused is the answer to a host that is no member, or has no good certificate.
var ErrRefused = errors.New("the cluster shuts this host out")

// said is the error of a call as people read it.
func said(doing string, err error) error {
	s := status.Convert(err)
	if s.Code() == codes.Unauthenticated {
		return fmt.Errorf("%s: %w: %s", doing, ErrRefused, s.Message())
	}
	return fmt.Errorf("%s: %s", doing, s.Message())
}
