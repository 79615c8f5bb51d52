package kernel

import (
	"errors"
	"fmt"
	"sync"

	"golang.org/x/sys/unix"
)

// errInterrupted says that what was dumped changed meanwhile (NLM_F_DUMP_INTR):
// the dump may miss entries that were there all the time, so it is worth
// nothing.
var errInterrupted = errors.New("the kernel's table changed while it was read")

// conn is an rtnetlink(7) socket. It stays in the namespace it was opened in.
type conn struct {
	mu   sync.Mutex
	fd   int
	port uint32 // our address, nlmsg_pid of what we cause
	seq  uint32
	buf  []byte
}

// openConn opens a socket in the network namespace of the calling thread.
func openConn() (*conn, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("open netlink socket: %w", err)
	}
	c := &conn{fd: fd, buf: make([]byte, 1<<16)} // the kernel fills at most 32 KiB at a time (netlink_dump)
	if err := c.configure(); err != nil {
		_ = unix.Close(fd)
		return nil, fmt.Errorf("set up netlink socket: %w", err)
	}
	return c, nil
}

func (c *conn) configure() error {
	if err := unix.Bind(c.fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return err
	}
	sa, err := unix.Getsockname(c.fd)
	if err != nil {
		return err
	}
	if nl, ok := sa.(*unix.SockaddrNetlink); ok {
		c.port = nl.Pid
	}
	// Reasons in words, and errors without an echo of the request, where the
	// kernel knows them (4.12, 4.3).
	_ = unix.SetsockoptInt(c.fd, unix.SOL_NETLINK, unix.NETLINK_EXT_ACK, 1)
	_ = unix.SetsockoptInt(c.fd, unix.SOL_NETLINK, unix.NETLINK_CAP_ACK, 1)
	// rtnetlink works within sendto, so that an answer is there before we ask
	// for it; the limit is against a kernel that owes one.
	return unix.SetsockoptTimeval(c.fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 10})
}

func (c *conn) close() { _ = unix.Close(c.fd) }

// dump asks for a whole table. f gets the body of each entry; it must not keep
// it.
func (c *conn) dump(typ int, header *message, f func(body []byte)) error {
	native.PutUint16(header.b[4:], uint16(typ))
	native.PutUint16(header.b[6:], unix.NLM_F_REQUEST|unix.NLM_F_DUMP)
	return c.do(header, f)
}

// do sends m and waits for the kernel's verdict, passing what comes before to
// f, which may be nil. The error is the kernel's errno with its reason.
func (c *conn) do(m *message, f func(body []byte)) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.seq++
	native.PutUint32(m.b, uint32(len(m.b)))
	native.PutUint32(m.b[8:], c.seq)
	if native.Uint16(m.b[6:])&unix.NLM_F_DUMP != unix.NLM_F_DUMP {
		native.PutUint16(m.b[6:], native.Uint16(m.b[6:])|unix.NLM_F_ACK)
	}
	to := &unix.SockaddrNetlink{Family: unix.AF_NETLINK} // port 0: the kernel
	if err := retryEINTR(func() error { return unix.Sendto(c.fd, m.b, 0, to) }); err != nil {
		return err
	}
	interrupted := false
	for {
		var n int
		if err := retryEINTR(func() (err error) { n, err = unix.Read(c.fd, c.buf); return err }); err != nil {
			return fmt.Errorf("read answer: %w", err)
		}
		done, err := c.take(c.buf[:n], f, &interrupted)
		switch {
		case err != nil:
			return err
		case done && interrupted:
			return errInterrupted
		case done:
			return nil
		}
	}
}

func retryEINTR(f func() error) error {
	for {
		if err := f(); !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

// take works through one datagram of answers. Those to an earlier request, left
// over from one that failed half-way, are passed over.
func (c *conn) take(b []byte, f func([]byte), interrupted *bool) (done bool, err error) {
	for len(b) >= unix.SizeofNlMsghdr {
		n := int(native.Uint32(b))
		if n < unix.SizeofNlMsghdr || n > len(b) {
			return false, fmt.Errorf("read answer: message of %d bytes in %d: %w", n, len(b), unix.EBADMSG)
		}
		typ, flags, seq, body := native.Uint16(b[4:]), native.Uint16(b[6:]), native.Uint32(b[8:]), b[unix.SizeofNlMsghdr:n]
		b = b[min(align(n), len(b)):]
		if seq != c.seq {
			continue
		}
		if flags&unix.NLM_F_DUMP_INTR != 0 {
			*interrupted = true
		}
		switch typ {
		case unix.NLMSG_DONE, unix.NLMSG_ERROR:
			return true, verdict(typ, flags, body)
		case unix.NLMSG_NOOP:
		default:
			if f != nil {
				f(body)
			}
		}
	}
	return false, nil
}

// verdict decodes a struct nlmsgerr, or the error at the end of a dump.
func verdict(typ, flags uint16, body []byte) error {
	errno := unix.Errno(-int32(u32(body)))
	if errno == 0 {
		return nil
	}
	if typ == unix.NLMSG_DONE || flags&unix.NLM_F_ACK_TLVS == 0 || len(body) < 4+unix.SizeofNlMsghdr {
		return errno
	}
	skip := 4 + unix.SizeofNlMsghdr
	if flags&unix.NLM_F_CAPPED == 0 {
		skip = 4 + align(int(u32(body[4:]))) // the request, echoed
	}
	var why string
	if skip <= len(body) {
		eachAttr(body[skip:], func(typ uint16, v []byte) {
			if typ == unix.NLMSGERR_ATTR_MSG {
				why = text(v)
			}
		})
	}
	if why == "" {
		return errno
	}
	return fmt.Errorf("%w: %s", errno, why)
}
