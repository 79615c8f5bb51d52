package main

import (
	"context"
	"crypto/x509"
	"net"
	"net/netip"
	"path"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"

	"github.com/ovlnet/ovl/controller/api"
	"github.com/ovlnet/ovl/controller/audit"
	"github.com/ovlnet/ovl/controller/embedstore"
	"github.com/ovlnet/ovl/controller/porter"
	"github.com/ovlnet/ovl/internal/identity"
)

// answers is for how long a caller of the API whose CA was just dropped may wait for
// an answer: he may be the one who has dropped it.
const answers = 3 * time.Second

// ports is what stands before TLS on the API's port and on that of the etcd within.
type ports struct{ api, etcd *porter.Porter }

func (c *trust) openPorts() {
	judge := func(chain []*x509.Certificate) (identity.Who, error) { return c.keys.Credential.Verify(chain) }
	c.ports = ports{
		api:  porter.New(porter.Config{Judge: judge, Answers: answers}), // the gate judges each call
		etcd: porter.New(porter.Config{Judge: judge, Refused: c.handshakeRefused}),
	}
}

// etcdServer returns what the etcd within does with a connection, nil for plain text.
func (c *trust) etcdServer() credentials.TransportCredentials {
	if c.keys == nil {
		return nil
	}
	return c.ports.etcd.Guard(credentials.NewTLS(c.keys.Credential.Demanding(nil)))
}

// etcdDialer returns what connects the client of the etcd within; nil for that of an
// etcd outside, and for plain text, where no connection is ever judged.
func (c *trust) etcdDialer(b *backend) func(context.Context, string) (net.Conn, error) {
	if c.keys == nil || !b.embedded() {
		return nil
	}
	return c.ports.etcd.Dial
}

// adopted is told that other CAs are in force.
func (c *trust) adopted() {
	c.welcome.adopted()
	c.ports.api.Again()
	c.ports.etcd.Again()
}

// records has what the etcd within refuses recorded, from now on.
func (c *trust) records(t *audit.Trail) { c.trail.Store(t) }

// handshakeRefused is told of certificates that the etcd within did not accept.
func (c *trust) handshakeRefused(from netip.AddrPort, err error) {
	if t := c.trail.Load(); t != nil {
		t.Refused("", "etcd TLS", from, codes.Unauthenticated, err)
	}
}

// etcdRefused is told of calls that the etcd within refused. Who is shut out is shown
// the door: if he has joined again since he comes back with what he got.
func (c *trust) etcdRefused(r embedstore.Refusal) {
	who := ""
	if r.Host != "" {
		who = identity.Who{Role: identity.Host, Name: string(r.Host)}.String()
	}
	if t := c.trail.Load(); t != nil {
		t.Refused(who, "etcd "+path.Base(r.Method), r.From, r.Code, r.Err)
	}
	if identity.FaultOf(r.Err) == identity.Removed {
		c.ports.etcd.Dismiss(r.From)
	}
}

// advanced records a step of the CAs that this controller took by itself.
func (c *trust) advanced(before, after identity.Authorities) {
	t := c.trail.Load()
	if t == nil {
		return
	}
	roots := c.keys.Roots()
	t.Advanced("CA "+after.Newest().String(), api.Describe(before, roots), api.Describe(after, roots))
}
