package main

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"log/slog"
	"net"
	"path/filepath"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	"github.com/ovlnet/ovl/controller/api"
	"github.com/ovlnet/ovl/controller/audit"
	"github.com/ovlnet/ovl/controller/embedstore"
	"github.com/ovlnet/ovl/controller/gate"
	"github.com/ovlnet/ovl/controller/keys"
	"github.com/ovlnet/ovl/controller/roll"
	"github.com/ovlnet/ovl/controller/rotation"
	"github.com/ovlnet/ovl/internal/build"
	"github.com/ovlnet/ovl/internal/identity"
	"github.com/ovlnet/ovl/internal/store"
)

// trust is who may come in, wired together; with nil keys everybody may, in
// plain text.
type trust struct {
	keys     *keys.Keys
	life     time.Duration
	name     string
	roll     *roll.Roll         // set by follow, before anybody can call
	rotation *rotation.Rotation // as roll
	welcome  welcome
	// judge knows the certificates of the hosts, and so what is signed by them.
	judge  *store.Mirror
	ports  ports
	opened chan struct{} // closed when roll and rotation are there
	trail  atomic.Pointer[audit.Trail]
	// etcdRoots are the CA of an etcd outside that has one of its own.
	etcdRoots []*x509.Certificate
}

func openTrust(o options) (*trust, error) {
	if o.identity.plaintext {
		return &trust{}, nil
	}
	config := o.identity.keys(o)
	k, err := keys.Open(config)
	if err != nil && o.identity.caCert == "" {
		err = withAdvice(err)
	}
	if err != nil {
		return nil, err
	}
	c := &trust{
		keys: k, opened: make(chan struct{}), life: o.identity.life, name: cmp.Or(config.Hostname, "controller"),
		welcome: welcome{path: filepath.Join(config.Dir, welcomeFile), changed: make(chan struct{}, 1)},
	}
	c.openPorts()
	return c, nil
}

// follow keeps the roll of that store, and its CAs.
func (c *trust) follow(kv store.KV, log *slog.Logger) {
	c.roll = roll.New(kv, log)
	if c.keys == nil {
		return
	}
	c.judge = store.NewMirror(store.MirrorConfig{KV: kv, Log: log, Roots: c.keys.Credential.Roots})
	c.judge.SetPrefixes()
	c.rotation = rotation.New(rotation.Config{
		Store: kv, Keys: c.keys, Roll: c.roll, Controller: c.name, Life: c.life, Log: log,
		Born: c.welcome.born, Adopted: c.adopted, Advanced: c.advanced,
	})
	close(c.opened)
}

// verify returns who shows that chain. Of a CA that was dropped it says so.
func (c *trust) verify(chain []*x509.Certificate, want ...identity.Role) (identity.Who, error) {
	who, err := c.keys.Credential.Verify(chain, want...)
	if identity.FaultOf(err) != identity.WrongCA || c.rotation == nil {
		return who, err
	}
	cas := c.rotation.Current()
	for _, above := range chain[1:] {
		if at, dropped := cas.DroppedAt(identity.PrintOf(above)); dropped {
			return who, &identity.RefusalError{Fault: identity.WrongCA, Who: who, Text: fmt.Sprintf(
				"this certificate is of the CA that the cluster dropped at %s: join again with a new token", at.UTC().Format(time.RFC3339))}
		}
	}
	return who, err
}

// doubts says which records are not their hosts' own; nil in plain text, where nobody
// signs.
func (c *trust) doubts() func(context.Context, []store.Record) (map[string]error, error) {
	if c.judge == nil {
		return nil
	}
	return c.judge.Doubts
}

// accept lets controllers and members into the etcd within, and limits hosts to
// what is theirs.
func (c *trust) accept() func(context.Context, tls.ConnectionState) (embedstore.Visitor, error) {
	if c.keys == nil {
		return nil
	}
	return func(ctx context.Context, s tls.ConnectionState) (v embedstore.Visitor, err error) {
		// That the certificate had not expired was seen when the connection was
		// made: verified now it would cut off who renewed his since.
		who, err := identity.WhoIs(s.VerifiedChains)
		if err != nil || who.Role == identity.Controller {
			return v, err
		}
		id, ok := who.HostID()
		if !ok {
			return v, fmt.Errorf("%s has no business in etcd: only controllers and hosts do", who)
		}
		select {
		case <-c.opened:
		case <-ctx.Done():
			return v, ctx.Err()
		}
		v.Host = id
		v.Gone, err = c.roll.Check(ctx, who, identity.PrintOf(s.PeerCertificates[0]))
		return v, err
	}
}

// etcdClient returns the settings of the client of etcd.
func (c *trust) etcdClient(o identityOptions) (*tls.Config, error) {
	if c.keys == nil {
		return nil, nil
	}
	if o.etcdCA == "" && o.etcdCert == "" {
		return c.keys.Credential.Client(), nil
	}
	roots := c.keys.Credential.Roots()
	if o.etcdCA != "" {
		var err error
		if roots, err = identity.ReadCerts(o.etcdCA); err != nil {
			return nil, err
		}
		c.etcdRoots = roots
	}
	return identity.ForeignTo(roots, o.etcdCert, o.etcdKey, c.keys.Credential)
}

// joining returns what it takes to make members.
func (c *trust) joining(o options, b *backend) *api.Identity {
	if c.keys == nil {
		return nil
	}
	id := &api.Identity{Keys: c.keys, Rotation: c.rotation, Life: o.identity.life, EtcdEndpoints: o.identity.etcdEndpoints(o, b), EtcdRoots: c.etcdRoots, Now: time.Now, Removed: c.roll.Forget}
	if b.users != nil {
		id.Users = b.users
	}
	return id
}

// inEtcd is the name under which etcd knows this controller.
func (c *trust) inEtcd(o identityOptions) (string, error) {
	if o.etcdCert == "" {
		return c.keys.Credential.Pair().Leaf().Subject.CommonName, nil
	}
	p, err := identity.ReadPair(o.etcdCert, o.etcdKey)
	if err != nil {
		return "", err
	}
	return p.Leaf().Subject.CommonName, nil
}

// options returns those of the API's server that let callers in.
func (c *trust) options(log *slog.Logger) []grpc.ServerOption {
	g := gate.Config{Log: log}
	var all []grpc.ServerOption
	if c.keys != nil {
		g.Verify, g.Check = c.verify, c.roll.Check
		g.Authorities = func() string { return identity.Text(c.keys.InForce()) }
		all = append(all, grpc.Creds(c.ports.api.Guard(credentials.NewTLS(c.keys.Credential.Asking()))))
	}
	at := gate.New(g)
	return append(all, grpc.ChainUnaryInterceptor(at.Unary), grpc.ChainStreamInterceptor(at.Stream))
}

// run keeps the certificates fresh and the roll current, until ctx is done; an
// error means that this controller has no business in this cluster.
func (c *trust) run(ctx context.Context, b *backend, o identityOptions, log *slog.Logger) error {
	if c.keys == nil {
		return nil
	}
	kv := b.kv
	self, err := c.inEtcd(o)
	if err != nil {
		return err
	}
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { c.keys.Run(ctx, log); return nil })
	group.Go(func() error { c.roll.Run(ctx); return nil })
	group.Go(func() error { return c.rotation.Run(ctx) })
	group.Go(func() error { c.welcome.run(ctx, kv, log); return nil })
	group.Go(func() error { align(ctx, b, self, log); return nil })
	group.Go(func() error {
		_ = c.judge.Run(ctx) // ctx's error
		return nil
	})
	return group.Wait()
}

// announce says in one line where the controller listens, and for whom.
func (c *trust) announce(log *slog.Logger, version build.Info, api net.Addr, b *backend) {
	attrs := []any{
		slog.String("version", version.Version), slog.String("listen", api.String()),
		slog.Any("etcd", b.endpoints), slog.Bool("embedded", b.embedded()),
	}
	if c.keys == nil {
		log.Warn("ovl-controller speaks plain text, on loopback: every user of this machine is its admin", attrs...)
		return
	}
	log.Info("ovl-controller is up: mutual TLS 1.3", append(attrs, slog.String("ca", c.keys.InForce()[0].String()))...)
}
