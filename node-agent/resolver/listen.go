package resolver

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// port is where containers ask: resolv.conf(5) cannot say another.
const port = 53

// sockets are what one address on one device is listened on with.
type sockets struct {
	packets net.PacketConn
	streams net.Listener
}

// openSockets returns the sockets for an address on a device of this host.
// Bound to the device, they hear only the containers on that bridge, and nobody
// else's socket on port 53 is in their way but one bound to the same address.
// The address need not exist yet, nor stay.
func openSockets(device string, addr netip.Addr) (sockets, error) {
	config := net.ListenConfig{Control: func(network, _ string, c syscall.RawConn) error {
		var err error
		cerr := c.Control(func(fd uintptr) { err = prepare(int(fd), strings.HasSuffix(network, "6"), device) })
		return errors.Join(cerr, err)
	}}
	at, family := netip.AddrPortFrom(addr, port).String(), "4"
	if addr.Is6() {
		family = "6"
	}
	// Neither call waits for anything.
	packets, err := config.ListenPacket(context.Background(), "udp"+family, at)
	if err != nil {
		return sockets{}, fmt.Errorf("listen for questions: %w", err)
	}
	streams, err := config.Listen(context.Background(), "tcp"+family, at)
	if err != nil {
		_ = packets.Close()
		return sockets{}, fmt.Errorf("listen for questions: %w", err)
	}
	return sockets{packets, streams}, nil
}

// prepare binds a socket to a device (socket(7)) and lets it take an address
// that is not there (ip(7)).
func prepare(fd int, six bool, device string) error {
	if err := unix.BindToDevice(fd, device); err != nil {
		return fmt.Errorf("bind to %s: %w", device, err)
	}
	level, option := unix.SOL_IP, unix.IP_FREEBIND
	if six {
		level, option = unix.SOL_IPV6, unix.IPV6_FREEBIND
	}
	return unix.SetsockoptInt(fd, level, option, 1)
}

// linkIndex returns the index of a link of this host: a link that was made
// again under its old name has another, and sockets bound to the old one are
// deaf.
func linkIndex(name string) (uint32, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, fmt.Errorf("open socket: %w", err)
	}
	defer func() { _ = unix.Close(fd) }()
	req, err := unix.NewIfreq(name)
	if err != nil {
		return 0, fmt.Errorf("name link %s: %w", name, err)
	}
	if err := unix.IoctlIfreq(fd, unix.SIOCGIFINDEX, req); err != nil {
		return 0, fmt.Errorf("find link %s: %w", name, err)
	}
	return req.Uint32(), nil
}
