package porter_test

import (
	"crypto/tls"
	"crypto/x509"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc/credentials"

	"github.com/ovlnet/ovl/controller/porter"
	"github.com/ovlnet/ovl/internal/identity"
)

// port is a listener behind a porter.
type port struct {
	t       *testing.T
	porter  *porter.Porter
	addr    string
	served  chan error // of each handshake
	conns   chan net.Conn
	refused chan error
	client  *identity.Credential

	mu    sync.Mutex
	judge error // of everybody
}

func open(t *testing.T) *port {
	t.Helper()
	ca, err := identity.NewAuthority(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	credential := func(role identity.Role) *identity.Credential {
		key, err := identity.NewKey()
		if err != nil {
			t.Fatal(err)
		}
		chain, err := ca.Issue(identity.Who{Role: role, Name: "x"}, key.Public(), identity.Names{}, time.Now(), time.Hour)
		if err != nil {
			t.Fatal(err)
		}
		return identity.NewCredential(identity.Pair{Chain: chain, Key: key}, ca.Roots(), time.Now)
	}
	server := credential(identity.Controller)
	p := &port{t: t, served: make(chan error, 1000), conns: make(chan net.Conn, 1000), refused: make(chan error, 1000), client: credential(identity.Viewer)}
	p.porter = porter.New(porter.Config{
		Judge: func(chain []*x509.Certificate) (identity.Who, error) {
			p.mu.Lock()
			defer p.mu.Unlock()
			if p.judge != nil {
				return identity.Who{}, p.judge
			}
			return server.Verify(chain)
		},
		Refused: func(_ netip.AddrPort, err error) { p.refused <- err },
	})
	guard := p.porter.Guard(credentials.NewTLS(server.Asking()))
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	p.addr = l.Addr().String()
	go func() {
		for {
			raw, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				conn, _, err := guard.ServerHandshake(raw)
				if err != nil {
					_ = raw.Close()
				} else {
					_, err = conn.Write([]byte{1})
					p.conns <- conn
				}
				p.served <- err
			}()
		}
	}()
	return p
}

// connect connects from an address of loopback, and says nothing.
func (p *port) connect(from string) net.Conn {
	p.t.Helper()
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
	c, err := d.DialContext(p.t.Context(), "tcp", p.addr)
	if err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(func() { _ = c.Close() })
	return c
}

// shake shakes hands, and reads what the server writes then.
func (p *port) shake(from string, settings *tls.Config) (*tls.Conn, error) {
	p.t.Helper()
	c := tls.Client(p.connect(from), settings)
	_, err := c.Read(make([]byte, 1))
	return c, err
}

// One address has no more than so many connections on which nobody known is; another
// one does not notice.
func TestSilent(t *testing.T) {
	p := open(t)
	for range porter.MaxOpen + 1 {
		p.connect("127.0.0.2")
	}
	if err := <-p.served; err == nil { // which one is seen last is not for us to say
		t.Fatal("one silent connection more is served")
	}
	if _, err := p.shake("127.0.0.2", p.client.Client()); err == nil {
		t.Error("one more from that address is served")
	}
	if _, err := p.shake("127.0.0.3", p.client.Client()); err != nil {
		t.Errorf("another address: %v", err)
	}
}

// Who shows a good certificate is not counted: a rack behind one address has as many
// connections as it needs.
func TestKnown(t *testing.T) {
	p := open(t)
	for range porter.MaxOpen + 5 {
		if _, err := p.shake("127.0.0.2", p.client.Client()); err != nil {
			t.Fatal(err)
		}
	}
}

// A connection whose CA is no longer one is closed; one whose certificate has ended
// since is not.
func TestAgain(t *testing.T) {
	p := open(t)
	c, err := p.shake("127.0.0.2", p.client.Client())
	if err != nil {
		t.Fatal(err)
	}
	for _, fault := range []identity.Fault{identity.Expired, identity.WrongCA} {
		p.mu.Lock()
		p.judge = &identity.RefusalError{Fault: fault}
		p.mu.Unlock()
		p.porter.Again()
		if fault == identity.Expired {
			if _, err := c.Write([]byte{1}); err != nil {
				t.Errorf("a certificate that has ended since: %v", err)
			}
		}
	}
	if _, err := c.Read(make([]byte, 1)); err == nil {
		t.Error("the connection of a CA that was dropped is open")
	}
}

// The connection that the process of the port made to it itself stays, though its CA
// was dropped.
func TestOwn(t *testing.T) {
	p := open(t)
	settings := p.client.Client()
	var within, without *tls.Conn
	raw, err := p.porter.Dial(t.Context(), p.addr)
	if err == nil {
		within = tls.Client(raw, settings)
		_, err = within.Read(make([]byte, 1))
	}
	if err == nil {
		without, err = p.shake("127.0.0.1", settings)
	}
	if err != nil {
		t.Fatal(err)
	}
	p.mu.Lock()
	p.judge = &identity.RefusalError{Fault: identity.WrongCA}
	p.mu.Unlock()
	p.porter.Again()
	if _, err := without.Read(make([]byte, 1)); err == nil {
		t.Error("the connection of another one stays")
	}
	for range 2 {
		if c := <-p.conns; c.RemoteAddr().String() == raw.LocalAddr().String() {
			_, err = c.Write([]byte{1})
		}
	}
	if err == nil {
		_, err = within.Read(make([]byte, 1))
	}
	if err != nil {
		t.Errorf("its own connection: %v", err)
	}
	if err := within.Close(); err != nil {
		t.Error(err)
	}
}

// A certificate that the handshake itself does not take is told of; what a scanner
// sends is not.
func TestRefused(t *testing.T) {
	p := open(t)
	c := p.connect("127.0.0.2")
	if _, err := c.Write([]byte("GET / HTTP/1.0\r\n\r\n")); err != nil {
		t.Fatal(err)
	}
	if err := <-p.served; err == nil {
		t.Error("HTTP was served")
	}
	select {
	case err := <-p.refused:
		t.Errorf("told of a scanner: %v", err)
	default:
	}
}
