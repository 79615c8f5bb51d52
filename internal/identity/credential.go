package identity

import (
	"crypto/tls"
	"crypto/x509"
	"sync/atomic"
	"time"
)

// Credential is what a process shows of itself and whom it trusts. Both can be
// replaced at any time: each handshake takes what is there then, and open
// connections go on.
type Credential struct {
	now  func() time.Time
	held atomic.Pointer[held]
}

type held struct {
	pair    Pair
	also    map[Print]Pair // by the other CAs, for clients that ask for them
	roots   []*x509.Certificate
	changed chan struct{} // closed when something else is held
}

// NewCredential returns a credential that holds the pair and trusts the roots.
func NewCredential(p Pair, roots []*x509.Certificate, now func() time.Time) *Credential {
	c := &Credential{now: now}
	c.Replace(p, roots)
	return c
}

// Replace makes later handshakes show the pair and trust the roots, of which the
// first issues. A server shows one of also to a client that asks for its issuer:
// see [ServerName].
func (c *Credential) Replace(p Pair, roots []*x509.Certificate, also ...Pair) {
	next := &held{pair: p, also: map[Print]Pair{}, roots: roots, changed: make(chan struct{})}
	for _, other := range also { // whose they are is found here, and not at each handshake
		next.also[IssuerOf(other.Chain, roots)] = other
	}
	if old := c.held.Swap(next); old != nil {
		close(old.changed)
	}
}

// Changed is closed when the credential is replaced the next time.
func (c *Credential) Changed() <-chan struct{} { return c.held.Load().changed }

// Pair returns what is shown now.
func (c *Credential) Pair() Pair { return c.held.Load().pair }

// Roots returns who is trusted now: the CAs, and nobody else. Whatever is verified
// against the cluster's CAs takes them from here, each time.
func (c *Credential) Roots() []*x509.Certificate { return c.held.Load().roots }

// Verify returns who the peer is, as of now: see [Verify].
func (c *Credential) Verify(chain []*x509.Certificate, want ...Role) (Who, error) {
	return Verify(chain, c.Roots(), c.now(), want...)
}

// Client returns the settings of a client that speaks to controllers and to
// their etcd. Whoever shows a controller's certificate of the own CA is the
// control plane, whatever address it was reached at: names are not compared.
func (c *Credential) Client() *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS13,
		NextProtos: []string{"h2"},
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			return c.Pair().tls(), nil
		},
		InsecureSkipVerify: true, //nolint:gosec // VerifyConnection verifies, against roots that may change
		VerifyConnection: func(s tls.ConnectionState) error {
			_, err := c.Verify(s.PeerCertificates, Controller)
			return err
		},
	}
}

// ClientNoting is [Credential.Client]; each other end that answers is noted, with why
// it is not taken, if it is not: who dials hears that in the words of a library only.
func (c *Credential) ClientNoting(note func(refused error)) *tls.Config {
	settings := c.Client()
	verify := settings.VerifyConnection
	settings.VerifyConnection = func(s tls.ConnectionState) error {
		err := verify(s)
		note(err)
		return err
	}
	return settings
}

// Asking returns the settings of a server that asks each client for its
// certificate and judges it later, with [Credential.Verify]: so that it can say
// in words what is wrong.
func (c *Credential) Asking() *tls.Config {
	return c.server(func(s *tls.Config) { s.ClientAuth = tls.RequestClientCert })
}

// Demanding returns the settings of a server that ends a handshake in which no
// trusted certificate is shown or accept, which may be nil, refuses.
func (c *Credential) Demanding(accept func(tls.ConnectionState) error) *tls.Config {
	return c.server(func(s *tls.Config) {
		s.ClientAuth, s.ClientCAs = tls.RequireAndVerifyClientCert, pool(c.Roots())
		s.VerifyConnection = accept
	})
}

// server returns settings of which each connection gets its own, with what is
// trusted at that time.
func (c *Credential) server(demand func(*tls.Config)) *tls.Config {
	current := func(name string) *tls.Config {
		s := &tls.Config{
			MinVersion:             tls.VersionTLS13,
			NextProtos:             []string{"h2"},
			SessionTicketsDisabled: true, // a resumed session would skip what is asked for
			Time:                   c.now,
			Certificates:           []tls.Certificate{*c.held.Load().pairFor(name).tls()},
		}
		demand(s)
		return s
	}
	first := current("")
	first.GetConfigForClient = func(h *tls.ClientHelloInfo) (*tls.Config, error) { return current(h.ServerName), nil }
	return first
}

// pairFor returns the pair for a client that asks for that server.
func (h *held) pairFor(name string) Pair {
	if ca, ok := wished(name); ok {
		if p, ok := h.also[ca]; ok {
			return p
		}
	}
	return h.pair
}
