package resolver

import (
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/miekg/dns"
)

// The bounds of what the containers of one network may keep busy. They are for
// each network, so that a flood on one leaves the others their names.
const (
	maxStreams = 128 // TCP connections for each address
	maxForward = 256 // questions on their way to the host's resolvers
	idle       = 10 * time.Second
)

// listener is one address of a gateway that is listened on.
type listener struct {
	index   uint32 // of the device
	servers []*dns.Server
	dead    chan struct{} // closed when a socket stopped working by itself
	die     func()
}

// serve answers on the sockets until close is called.
func serve(s sockets, index uint32, handler dns.Handler) *listener {
	l := &listener{index: index, dead: make(chan struct{})}
	l.die = sync.OnceFunc(func() { close(l.dead) })
	l.servers = []*dns.Server{
		{PacketConn: s.packets, Handler: handler, UDPSize: udpSize, MsgAcceptFunc: acceptQuery},
		{Listener: limit(s.streams, maxStreams), Handler: handler, IdleTimeout: func() time.Duration { return idle }, MsgAcceptFunc: acceptQuery},
	}
	for _, server := range l.servers {
		go func() {
			// Ends when the socket is closed, by us or by itself.
			_ = server.ActivateAndServe()
			l.die()
		}()
	}
	return l
}

// acceptQuery refuses what is no plain question (as miekg/dns does, and NOTIFY).
func acceptQuery(h dns.Header) dns.MsgAcceptAction {
	action := dns.DefaultMsgAcceptFunc(h)
	if action == dns.MsgAccept && int(h.Bits>>11)&0xf != dns.OpcodeQuery {
		return dns.MsgRejectNotImplemented
	}
	return action
}

// alive reports whether all sockets are being read.
func (l *listener) alive() bool {
	select {
	case <-l.dead:
		return false
	default:
		return true
	}
}

// close stops listening at once. Answers on their way still go out, or fail.
func (l *listener) close() {
	for _, server := range l.servers {
		if server.PacketConn != nil {
			_ = server.PacketConn.Close()
		}
		if server.Listener != nil {
			_ = server.Listener.Close()
		}
	}
}

// limit returns a listener that has at most n connections at a time; more wait
// to be accepted.
func limit(l net.Listener, n int) net.Listener {
	return &limited{Listener: l, room: make(chan struct{}, n), closed: make(chan struct{})}
}

type limited struct {
	net.Listener
	room   chan struct{}
	once   sync.Once
	closed chan struct{}
}

func (l *limited) Accept() (net.Conn, error) {
	select {
	case l.room <- struct{}{}:
	case <-l.closed:
		return nil, net.ErrClosed
	}
	c, err := l.Listener.Accept()
	if err != nil {
		<-l.room
		return nil, err
	}
	return &counted{Conn: c, leave: sync.OnceFunc(func() { <-l.room })}, nil
}

func (l *limited) Close() error {
	l.once.Do(func() { close(l.closed) })
	return l.Listener.Close()
}

type counted struct {
	net.Conn
	leave func()
}

func (c *counted) Close() error {
	defer c.leave()
	return c.Conn.Close()
}

// asker returns the address that a question came from, and whether over TCP.
func asker(w dns.ResponseWriter) (from netip.Addr, stream bool) {
	switch a := w.RemoteAddr().(type) {
	case *net.UDPAddr:
		return a.AddrPort().Addr().Unmap().WithZone(""), false
	case *net.TCPAddr:
		return a.AddrPort().Addr().Unmap().WithZone(""), true
	}
	return netip.Addr{}, true
}
