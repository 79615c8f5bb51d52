package kernel

import (
	"errors"
	"fmt"
	"os"
	"runtime"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/ovlnet/ovl/internal/dataplane"
)

// space is a network namespace with a socket in it.
type space struct {
	ns   dataplane.NS
	conn *conn
	file *os.File
	// sysctls is the directory of the parameters: a thread sees there those of the
	// namespace that it is in.
	sysctls string
	// index holds the indexes of links of ours by name: what was last seen,
	// dropped when the kernel knows better.
	index map[string]int32
	// odd holds the keys of routes of ours that a row cannot tell, as last seen.
	odd map[dataplane.RouteKey]bool
}

// enter opens a namespace, for a moment: see [linger]. The error is errNSGone if
// the namespace does not exist.
func (l *Linux) enter(ns dataplane.NS) (*space, error) {
	if ns == dataplane.Host {
		return l.host, nil
	}
	if s, ok := l.visits.find(ns); ok {
		return s, nil
	}
	f, err := openNS(ns)
	if err != nil {
		return nil, err
	}
	if sameNS(f, l.host.file) {
		// The path of a process that ended may be that of another one by now,
		// which lives on the host.
		_ = f.Close()
		return nil, errNSGone
	}
	s := &space{ns: ns, file: f, sysctls: l.host.sysctls, index: map[string]int32{}}
	err = within(f, func() (err error) {
		s.conn, err = openConn()
		return err
	})
	if err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("enter netns %s: %w", ns, err)
	}
	l.visits.keep(s, l.expire)
	return s, nil
}

// openNS opens a network namespace, or returns errNSGone if there is none: the path
// is not there, or what is there is no namespace (the empty file that remains of a
// named one whose mount is gone), or another one than the pin says.
func openNS(ns dataplane.NS) (*os.File, error) {
	f, err := openPath(ns.Path())
	if err != nil || ns.Pin() == "" {
		return f, err
	}
	switch pin, err := Pin(f); {
	case err != nil:
		_ = f.Close()
		return nil, err
	case pin != ns.Pin():
		_ = f.Close()
		return nil, errNSGone
	}
	return f, nil
}

func openPath(path string) (*os.File, error) {
	f, err := os.Open(path)
	switch {
	case errors.Is(err, unix.ENOENT), errors.Is(err, unix.ESRCH), errors.Is(err, unix.ENOTDIR):
		return nil, errNSGone
	case err != nil:
		return nil, fmt.Errorf("open network namespace: %w", err)
	}
	var fs unix.Statfs_t
	if err := unix.Fstatfs(int(f.Fd()), &fs); err != nil || fs.Type != unix.NSFS_MAGIC {
		_ = f.Close()
		return nil, errNSGone
	}
	if kind, err := unix.IoctlRetInt(int(f.Fd()), unix.NS_GET_NSTYPE); err == nil && kind != unix.CLONE_NEWNET {
		_ = f.Close()
		return nil, refusal(path + " is a namespace, but not of the network")
	}
	return f, nil
}

func sameNS(a, b *os.File) bool {
	x, errA := a.Stat()
	y, errB := b.Stat()
	return errA == nil && errB == nil && os.SameFile(x, y)
}

// within runs f in the network namespace ns, on a thread of its own that is
// brought back to where it was. A thread that cannot be brought back dies with
// its goroutine.
func within(ns *os.File, f func() error) error {
	result := make(chan error)
	go func() {
		runtime.LockOSThread()
		home, err := os.Open("/proc/thread-self/ns/net")
		if err == nil {
			err = unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET)
		}
		if err == nil {
			err = f()
			if unix.Setns(int(home.Fd()), unix.CLONE_NEWNET) == nil {
				runtime.UnlockOSThread()
			}
		}
		if home != nil {
			_ = home.Close()
		}
		result <- err
	}()
	return <-result
}

// nsid returns the number by which the namespace of c knows the one of f, -1 if
// it has none.
func (c *conn) nsid(f *os.File) (int32, error) {
	m := ask(unix.RTM_GETNSID, nl.NewRtGenMsg())
	add(m, unix.NETNSA_FD, nl.Uint32Attr(uint32(f.Fd())))
	id := int32(-1)
	if err := c.do(m, func(body []byte) { id = nsidIn(body) }); err != nil {
		return -1, fmt.Errorf("read number of namespace: %w", err)
	}
	return id, nil
}

// number gives the namespace of f a number in the one of c.
func (c *conn) number(f *os.File) error {
	m := change(unix.RTM_NEWNSID, 0, nl.NewRtGenMsg())
	add(m, unix.NETNSA_NSID, nl.Uint32Attr(^uint32(0))) // any
	add(m, unix.NETNSA_FD, nl.Uint32Attr(uint32(f.Fd())))
	return c.do(m, nil)
}

// nsidIn returns the number that a struct rtgenmsg tells of, -1 if none.
func nsidIn(body []byte) int32 {
	if len(body) < unix.NLMSG_ALIGNTO {
		return -1
	}
	for typ, value := range fields(body[unix.NLMSG_ALIGNTO:]) {
		if typ == unix.NETNSA_NSID {
			return int32(u32(value))
		}
	}
	return -1
}
