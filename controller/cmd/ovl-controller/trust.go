package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"log/slog"
	"net"
	"time"

	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	"github.com/ovlnet/ovl/controller/api"
	"github.com/ovlnet/ovl/controller/embedstore"
	"github.com/ovlnet/ovl/controller/gate"
	"github.com/ovlnet/ovl/controller/keys"
	"github.com/ovlnet/ovl/controller/roll"
	"github.com/ovlnet/ovl/internal/identity"
	"github.com/ovlnet/ovl/internal/store"
	"github.com/ovlnet/ovl/internal/telemetry"
)

// trust is who may come in, wired together; with nil keys everybody may, in
// plain text.
type trust struct {
	keys *keys.Keys
	roll *roll.Roll // set by follow, before anybody can call
}

func openTrust(o options) (*trust, error) {
	if o.identity.plaintext {
		return &trust{}, nil
	}
	k, err := keys.Open(o.identity.keys(o))
	if err != nil && o.identity.caCert == "" {
		err = withAdvice(err)
	}
	if err != nil {
		return nil, err
	}
	return &trust{keys: k}, nil
}

// follow keeps the roll of that store.
func (c *trust) follow(kv store.KV, log *slog.Logger) { c.roll = roll.New(kv, log) }

// etcdServer returns the settings of the etcd within, nil for plain text.
func (c *trust) etcdServer() *tls.Config {
	if c.keys == nil {
		return nil
	}
	return c.keys.Credential.Demanding(nil)
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
	return identity.Foreign(o.etcdCA, o.etcdCert, o.etcdKey, c.keys.Credential)
}

// joining returns what it takes to make members.
func (c *trust) joining(o options, b *backend) *api.Identity {
	if c.keys == nil {
		return nil
	}
	return &api.Identity{Authority: c.keys.Authority, Life: o.identity.life, EtcdEndpoints: o.identity.etcdEndpoints(o, b), Now: time.Now, Removed: c.roll.Forget}
}

// options returns those of the API's server that let callers in.
func (c *trust) options(log *slog.Logger) []grpc.ServerOption {
	g := gate.Config{Log: log}
	var all []grpc.ServerOption
	if c.keys != nil {
		g.Verify = func(chain []*x509.Certificate, want ...identity.Role) (identity.Who, error) {
			return c.keys.Credential.Verify(chain, want...)
		}
		g.Check = c.roll.Check
		all = append(all, grpc.Creds(credentials.NewTLS(c.keys.Credential.Asking())))
	}
	at := gate.New(g)
	return append(all, grpc.ChainUnaryInterceptor(at.Unary), grpc.ChainStreamInterceptor(at.Stream))
}

// run keeps the certificates fresh and the roll current, until ctx is done; an
// error means that this controller has no business in this cluster.
func (c *trust) run(ctx context.Context, kv store.KV, log *slog.Logger) error {
	if c.keys == nil {
		return nil
	}
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { c.keys.Run(ctx, log); return nil })
	group.Go(func() error { c.roll.Run(ctx); return nil })
	group.Go(func() error { return c.claim(ctx, kv) })
	return group.Wait()
}

// claim makes sure that all controllers of a store have one CA: hosts trust that
// alone. It waits for the store.
func (c *trust) claim(ctx context.Context, kv store.KV) error {
	own := c.keys.Authority.Print()
	for {
		switch common, err := roll.ClaimCA(ctx, kv, own); {
		case err == nil && common == own:
			return nil
		case err == nil:
			return fmt.Errorf("join the controllers of this etcd: they have the CA with fingerprint %s, and this one's has %s: give all the same --ca-cert and --ca-key, such as the first one's --data-dir/identity/ca.pem and ca-key.pem", common, own)
		}
		select {
		case <-time.After(time.Second):
		case <-ctx.Done():
			return nil
		}
	}
}

// announce says in one line where the controller listens, and for whom.
func (c *trust) announce(log *slog.Logger, build telemetry.Build, api net.Addr, b *backend) {
	attrs := []any{
		slog.String("version", build.Version), slog.String("listen", api.String()),
		slog.Any("etcd", b.endpoints), slog.Bool("embedded", b.embedded()),
	}
	if c.keys == nil {
		log.Warn("ovl-controller speaks plain text, on loopback: every user of this machine is its admin", attrs...)
		return
	}
	log.Info("ovl-controller is up: mutual TLS 1.3", append(attrs, slog.String("ca", c.keys.Authority.Print().String()))...)
}
