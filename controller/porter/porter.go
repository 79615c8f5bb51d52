// Package porter stands before TLS on the ports of a controller. A handshake costs
// more to answer than to ask for, and is answered before anybody has shown who he is:
// so what one address may have at once, and how fast, is bounded, and who waits there
// takes nothing from the others.
//
// It must never decide who may come in: it asks. Its invariant: no address has more
// connections than [MaxOpen] on which nobody known has shown himself, and none stays
// known whose CA is no longer trusted, except on the connections that this process
// has made to itself.
package porter

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"net/netip"
	"sync"
	"time"

	"google.golang.org/grpc/credentials"

	"github.com/ovlnet/ovl/controller/limit"
	"github.com/ovlnet/ovl/internal/identity"
)

// The bounds for one source: see [limit.Source]. A rack behind one address starts in
// a burst; what comes faster than that waits.
const (
	MaxOpen        = 256
	burst, refill  = 200, 10 * time.Millisecond
	maxWait        = 5 * time.Second
	maxHandshake   = 10 * time.Second // from the first byte, the wait included
	refusedStaysOn = 3 * time.Second
)

// Config is what a Porter needs.
type Config struct {
	// Judge returns who shows that chain, or why he is nobody known.
	Judge func(chain []*x509.Certificate) (identity.Who, error)
	// Refused is told of certificates that a handshake did not accept; nil: nobody is.
	Refused func(from netip.AddrPort, err error)
	// Answers is how long a connection stays whose CA is no longer trusted: who dropped
	// that CA may wait on it for the answer. Only for a port that judges each call too.
	Answers time.Duration
	Now     func() time.Time // nil = [time.Now]
}

// Porter is one port's.
type Porter struct {
	Config
	pace *limit.Limit[netip.Addr]

	mu     sync.Mutex
	open   map[netip.Addr]int // connections on which nobody known has shown himself
	guests map[*guest]struct{}
	own    map[netip.AddrPort]struct{} // the other ends of the connections that Dial made
}

// New returns a Porter.
func New(c Config) *Porter {
	if c.Now == nil {
		c.Now = time.Now
	}
	return &Porter{
		Config: c, pace: limit.New[netip.Addr](burst, refill, c.Now),
		open: map[netip.Addr]int{}, guests: map[*guest]struct{}{}, own: map[netip.AddrPort]struct{}{},
	}
}

// Guard returns the credentials with the porter before them.
func (p *Porter) Guard(within credentials.TransportCredentials) credentials.TransportCredentials {
	return guarded{within, p}
}

// guarded is the credentials of a server.
type guarded struct {
	credentials.TransportCredentials
	porter *Porter
}

// Clone implements [credentials.TransportCredentials].
func (g guarded) Clone() credentials.TransportCredentials {
	return guarded{g.TransportCredentials.Clone(), g.porter}
}

// errTooMany ends a connection before anything was said on it.
var errTooMany = errors.New("shake hands: too many connections from that address")

// ServerHandshake implements [credentials.TransportCredentials]. gRPC calls it in a
// goroutine of each connection.
func (g guarded) ServerHandshake(raw net.Conn) (net.Conn, credentials.AuthInfo, error) {
	p, at := g.porter, addrOf(raw)
	from := limit.Source(at.Addr())
	if !p.enter(from) {
		return nil, nil, errTooMany
	}
	v := &guest{porter: p, at: at, from: from, counted: true}
	deadline := p.Now().Add(maxHandshake)
	wait, ok := p.pace.Reserve(from, maxWait)
	if !ok {
		v.leave()
		return nil, nil, errTooMany
	}
	<-time.After(wait)
	if err := raw.SetDeadline(deadline); err != nil { // gRPC takes it away when all is well
		v.leave()
		return nil, nil, err
	}
	conn, info, err := g.TransportCredentials.ServerHandshake(raw)
	if err != nil {
		v.leave()
		if p.Refused != nil && judged(err) {
			p.Refused(at, err)
		}
		return nil, nil, err
	}
	v.Conn = conn
	if t, ok := info.(credentials.TLSInfo); ok {
		v.chain = t.State.PeerCertificates
	}
	p.seat(v)
	return v, info, nil
}

// judged reports whether a handshake failed over a certificate, and not over what any
// scanner sends.
func judged(err error) bool {
	_, ok := errors.AsType[*tls.CertificateVerificationError](err)
	return ok || identity.FaultOf(err) != ""
}

func (p *Porter) enter(from netip.Addr) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.open[from] >= MaxOpen {
		return false
	}
	p.open[from]++
	return true
}

// seat keeps a connection; one of somebody known is not counted any more.
func (p *Porter) seat(v *guest) {
	_, err := p.Judge(v.chain)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.guests[v] = struct{}{}
	if v.known = err == nil; v.known {
		p.uncount(v)
	}
}

// uncount is called with the lock held.
func (p *Porter) uncount(v *guest) {
	if !v.counted {
		return
	}
	v.counted = false
	if p.open[v.from]--; p.open[v.from] <= 0 {
		delete(p.open, v.from)
	}
}

// Dial connects to the port from this very process. [Porter.Again] leaves that
// connection alone, whatever its certificate is of: the process that changes the CAs
// is at both ends, and to close it would take the answers from its own requests, also
// from the one that has just written which CAs are in force.
func (p *Porter) Dial(ctx context.Context, addr string) (net.Conn, error) {
	var d net.Dialer
	c, err := d.DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	o := &own{Conn: c, porter: p, at: addrPort(c.LocalAddr())}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.own[o.at] = struct{}{} // before the other end can have seen a handshake
	return o, nil
}

// own is this process's end of a connection to its own port.
type own struct {
	net.Conn
	porter *Porter
	at     netip.AddrPort
}

// Close implements [net.Conn]. The address is forgotten first: it is free for another
// process as soon as the connection is closed.
func (o *own) Close() error {
	o.porter.mu.Lock()
	delete(o.porter.own, o.at)
	o.porter.mu.Unlock()
	return o.Conn.Close()
}

// Again judges all who are known once more, since other CAs are in force, and shows
// those out whose CA is none. That a certificate has ended since does not count: who
// has it shows a new one when he next connects.
func (p *Porter) Again() {
	p.mu.Lock()
	var out []*guest
	for v := range p.guests {
		if _, within := p.own[v.at]; v.known && !within {
			out = append(out, v)
		}
	}
	p.mu.Unlock()
	for _, v := range out {
		if _, err := p.Judge(v.chain); identity.FaultOf(err) != identity.WrongCA {
			continue
		}
		if p.Answers > 0 {
			time.AfterFunc(p.Answers, func() { _ = v.Close() })
			continue
		}
		_ = v.Close() // the other end sees it
	}
}

// Dismiss closes the connection from an address a moment later: who was refused on it
// has heard that then, and if he has joined again since he shows his new certificate.
func (p *Porter) Dismiss(at netip.AddrPort) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for v := range p.guests {
		if v.at == at && !v.dismissed {
			v.dismissed = true
			time.AfterFunc(refusedStaysOn, func() { _ = v.Close() })
		}
	}
}

// guest is a connection.
type guest struct {
	net.Conn
	porter    *Porter
	at        netip.AddrPort
	from      netip.Addr
	chain     []*x509.Certificate
	known     bool // guarded by the porter's lock, as the rest
	counted   bool
	dismissed bool
}

// Close implements [net.Conn].
func (v *guest) Close() error {
	v.leave()
	return v.Conn.Close()
}

func (v *guest) leave() {
	v.porter.mu.Lock()
	defer v.porter.mu.Unlock()
	delete(v.porter.guests, v)
	v.porter.uncount(v)
}

// addrOf returns where a connection comes from.
func addrOf(c net.Conn) netip.AddrPort { return addrPort(c.RemoteAddr()) }

func addrPort(a net.Addr) netip.AddrPort {
	tcp, ok := a.(*net.TCPAddr)
	if !ok {
		return netip.AddrPort{}
	}
	at := tcp.AddrPort()
	return netip.AddrPortFrom(at.Addr().Unmap(), at.Port())
}
