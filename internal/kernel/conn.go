package kernel

import (
	"errors"
	"fmt"

	"github.com/vishvananda/netlink/nl"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// errInterrupted says that what was dumped changed meanwhile (NLM_F_DUMP_INTR):
// the dump may miss entries that were there all the time, so it is worth
// nothing.
var errInterrupted = errors.New("the kernel's table changed while it was read")

// conn is a netlink socket of package nl, of rtnetlink(7) or of netfilter. It
// stays in the namespace it was opened in.
//
// It is no netlink.Handle, because that hides its socket: then the monitor could
// not tell our own changes by their port, and the kernel's reasons in words
// would not be asked for (NETLINK_EXT_ACK).
type conn struct {
	protocol int
	sockets  map[int]*nl.SocketHandle // the one, as a request wants it
	port     uint32                   // our address, nlmsg_pid of what we cause
}

// openConn opens a socket of rtnetlink in the network namespace of the calling
// thread.
func openConn() (*conn, error) { return openConnOf(unix.NETLINK_ROUTE) }

func openConnOf(protocol int) (*conn, error) {
	s, err := nl.GetNetlinkSocketAt(netns.None(), netns.None(), protocol)
	if err != nil {
		return nil, fmt.Errorf("open netlink socket: %w", err)
	}
	port, err := s.GetPid()
	if err != nil {
		s.Close()
		return nil, fmt.Errorf("read port of netlink socket: %w", err)
	}
	_ = s.SetExtAck(true) // where the kernel knows it (4.12)
	// Both protocols work within sendto, so that an answer is there before we ask
	// for it; the limit is against a kernel that owes one.
	_ = s.SetReceiveTimeout(&unix.Timeval{Sec: 10})
	return &conn{protocol, map[int]*nl.SocketHandle{protocol: {Socket: s}}, port}, nil
}

func (c *conn) close() { c.sockets[c.protocol].Close() }

// do sends a request and waits for the kernel's verdict, passing what comes
// before to f, which may be nil. The error is the kernel's errno with its
// reason, or errInterrupted.
func (c *conn) do(r *nl.NetlinkRequest, f func(body []byte)) error {
	r.Sockets = c.sockets
	err := r.ExecuteIter(c.protocol, 0, func(body []byte) bool {
		if f != nil {
			f(body)
		}
		return true
	})
	if errors.Is(err, nl.ErrDumpInterrupted) {
		return errInterrupted
	}
	return err
}

// ask makes a request for one object, dump for all of a table, change for a
// change.
func ask(typ int, header nl.NetlinkRequestData) *nl.NetlinkRequest { return request(typ, 0, header) }

func dump(typ int, header nl.NetlinkRequestData) *nl.NetlinkRequest {
	return request(typ, unix.NLM_F_DUMP, header)
}

func change(typ, mode int, header nl.NetlinkRequestData) *nl.NetlinkRequest {
	return request(typ, mode|unix.NLM_F_ACK, header)
}

func request(typ, flags int, header nl.NetlinkRequestData) *nl.NetlinkRequest {
	r := nl.NewNetlinkRequest(typ, flags)
	r.AddData(header)
	return r
}
