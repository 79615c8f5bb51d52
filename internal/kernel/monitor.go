package kernel

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"slices"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/ovlnet/ovl/internal/dataplane"
)

// MonitorConfig is what a Monitor needs.
type MonitorConfig struct {
	Kernel *Linux       // whose own changes wake nobody
	Log    *slog.Logger // nil = discard
}

// Monitor tells that something happened in the kernel and where: in which
// namespace, to which tables. It never tells what; whoever is woken looks.
type Monitor struct {
	kernel   *Linux
	log      *slog.Logger
	route    *os.File // rtnetlink(7), of all namespaces that the host numbers
	firewall *os.File // nf_tables; nil where the kernel has none
	conn     *conn

	mu  sync.Mutex
	ids map[int32]dataplane.NS // by the number that the host gave them
	// links are those of the host that matter though nothing is on them.
	links map[string]bool
}

// routeGroups are the multicast groups of rtnetlink that tell of rows.
var routeGroups = []int{
	unix.RTNLGRP_LINK, unix.RTNLGRP_NEIGH, unix.RTNLGRP_IPV4_IFADDR, unix.RTNLGRP_IPV6_IFADDR,
	unix.RTNLGRP_TC, unix.RTNLGRP_IPV4_ROUTE, unix.RTNLGRP_IPV6_ROUTE, unix.RTNLGRP_IPV4_NETCONF, unix.RTNLGRP_IPV6_NETCONF, unix.RTNLGRP_NSID,
}

// NewMonitor subscribes: what happens from now on is told once Run is called.
func NewMonitor(cfg MonitorConfig) (*Monitor, error) {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	m := &Monitor{kernel: cfg.Kernel, log: cfg.Log, ids: map[int32]dataplane.NS{}}
	var err error
	if m.conn, err = openConn(); err != nil {
		return nil, err
	}
	if m.route, err = subscribe(unix.NETLINK_ROUTE, routeGroups...); err != nil {
		m.conn.close()
		return nil, fmt.Errorf("subscribe to changes of links, addresses and routes: %w", err)
	}
	if err := setOption(m.route, unix.NETLINK_LISTEN_ALL_NSID); err != nil {
		// CAP_NET_BROADCAST is missing; then only the slow timer looks there.
		m.log.Warn("cannot watch the namespaces of containers; repairs in them take longer", "err", err)
	}
	if m.firewall, err = subscribe(unix.NETLINK_NETFILTER, unix.NFNLGRP_NFTABLES); err != nil {
		m.firewall = nil
		m.log.Debug("cannot watch nf_tables", "err", err)
	}
	return m, nil
}

// Legacy reports whether changes of the firewall make no event, so that its
// chains must be looked at now and then.
func (m *Monitor) Legacy() bool { return m.firewall == nil || m.kernel.Legacy() }

// Watch sets the namespaces of containers in which events are wanted. It keeps
// no handle on them. One that does not exist is left out; events in the rest of
// the machine's namespaces are passed over.
func (m *Monitor) Watch(namespaces []dataplane.NS) {
	m.mu.Lock()
	defer m.mu.Unlock()
	known := make(map[dataplane.NS]int32, len(m.ids))
	for id, ns := range m.ids {
		known[ns] = id
	}
	ids := make(map[int32]dataplane.NS, len(namespaces))
	for _, ns := range namespaces {
		id, ok := known[ns]
		if !ok {
			var err error
			if id, err = m.number(ns); err != nil {
				if !errors.Is(err, errNSGone) {
					m.log.Warn("cannot watch namespace", "netns", ns, "err", err)
				}
				continue
			}
		}
		ids[id] = ns
	}
	m.ids = ids
}

// WatchLinks sets the links of the host, not ours, whose coming and changing is to
// be told: what has no address and no row otherwise concerns nobody.
func (m *Monitor) WatchLinks(names []string) {
	links := make(map[string]bool, len(names))
	for _, name := range names {
		links[name] = true
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.links = links
}

func (m *Monitor) watches(link string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.links[link]
}

// number returns the host's number of a namespace, giving it one if it has
// none.
func (m *Monitor) number(ns dataplane.NS) (int32, error) {
	f, err := openNS(ns)
	if err != nil {
		return 0, err
	}
	defer func() { _ = f.Close() }()
	id, err := m.conn.nsid(f)
	if err != nil || id >= 0 {
		return id, err
	}
	if err := m.conn.number(f); err != nil && !errors.Is(err, unix.EEXIST) {
		return 0, fmt.Errorf("number namespace: %w", err)
	}
	return m.conn.nsid(f)
}

// Run calls wake with the scope of what has happened until ctx ends, and then
// releases the subscriptions. After lost messages the scope is everything.
// wake must not block for long; it is called from two goroutines.
func (m *Monitor) Run(ctx context.Context, wake func(dataplane.Scope)) error {
	defer m.conn.close()
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return m.listen(ctx, m.route, m.routeEvent, wake) })
	if m.firewall != nil {
		g.Go(func() error { return m.listen(ctx, m.firewall, m.firewallEvent, wake) })
	}
	return g.Wait()
}

// event is one notification: where (the number of a namespace, -1 = the host's)
// and what.
type event struct {
	nsid int32
	typ  uint16
	port uint32 // whose request caused it, 0 = the kernel
	body []byte
}

// listen reads datagrams, gathers what is there at once, and wakes once for it.
func (m *Monitor) listen(ctx context.Context, f *os.File, take func(event, dataplane.Scope), wake func(dataplane.Scope)) error {
	defer func() { _ = f.Close() }()
	stop := context.AfterFunc(ctx, func() { _ = f.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	raw, err := f.SyscallConn()
	if err != nil {
		return fmt.Errorf("watch the kernel: %w", err)
	}
	buf, control := make([]byte, 1<<16), make([]byte, 256)
	for {
		scope := dataplane.Scope{}
		var readErr error
		err := raw.Read(func(fd uintptr) bool {
			readErr = m.drain(int(fd), buf, control, take, scope)
			return !errors.Is(readErr, unix.EAGAIN) || len(scope) > 0
		})
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil:
			return fmt.Errorf("watch the kernel: %w", err)
		case errors.Is(readErr, unix.ENOBUFS):
			scope.Merge(m.everything())
		case readErr != nil && !errors.Is(readErr, unix.EAGAIN):
			return fmt.Errorf("watch the kernel: %w", readErr)
		}
		if len(scope) > 0 {
			wake(scope)
		}
	}
}

// drain reads until there is nothing more (EAGAIN) or something is wrong.
func (m *Monitor) drain(fd int, buf, control []byte, take func(event, dataplane.Scope), scope dataplane.Scope) error {
	for {
		n, cn, _, from, err := unix.Recvmsg(fd, buf, control, 0)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return err
		}
		if sa, ok := from.(*unix.SockaddrNetlink); ok && sa.Pid != 0 {
			continue // not the kernel
		}
		nsid := nsidOf(control[:cn])
		messages, err := syscall.ParseNetlinkMessage(buf[:n])
		if err != nil {
			return unix.ENOBUFS // never seen; as good as lost
		}
		for _, msg := range messages {
			take(event{nsid, msg.Header.Type, msg.Header.Pid, msg.Data}, scope)
		}
	}
}

// nsidOf returns the number of the namespace that a datagram comes from, -1 for
// the socket's own.
func nsidOf(control []byte) int32 {
	messages, err := unix.ParseSocketControlMessage(control)
	if err != nil {
		return -1
	}
	for _, c := range messages {
		if c.Header.Level == unix.SOL_NETLINK && c.Header.Type == unix.NETLINK_LISTEN_ALL_NSID {
			return int32(u32(c.Data))
		}
	}
	return -1
}

// everything is the scope after lost messages.
func (m *Monitor) everything() dataplane.Scope {
	m.mu.Lock()
	defer m.mu.Unlock()
	return dataplane.FullScope(slices.Collect(maps.Values(m.ids))...)
}

// receiveBuffer is the size of a subscription's buffer. Programming 5,000 peers
// makes 15,000 messages of some 300 bytes, each accounted at 1 KiB or so.
const receiveBuffer = 16 << 20

// subscribe opens a netlink socket that belongs to multicast groups.
func subscribe(protocol int, groups ...int) (*os.File, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, protocol)
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(fd), "netlink")
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, receiveBuffer); err != nil {
		_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, receiveBuffer) // as much as may be
	}
	err = unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK})
	for _, g := range groups {
		if err == nil {
			err = unix.SetsockoptInt(fd, unix.SOL_NETLINK, unix.NETLINK_ADD_MEMBERSHIP, g)
		}
	}
	if err != nil {
		_ = f.Close()
		return nil, err
	}
	return f, nil
}

func setOption(f *os.File, option int) error {
	raw, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var setErr error
	err = raw.Control(func(fd uintptr) { setErr = unix.SetsockoptInt(int(fd), unix.SOL_NETLINK, option, 1) })
	return errors.Join(err, setErr)
}
