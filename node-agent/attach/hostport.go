package attach

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"google.golang.org/grpc/codes"

	"github.com/ovlnet/ovl/internal/cluster"
)

// HostPort tells why a port of this host cannot be published: a process of the
// host has it (which would never again hear of it), or the host does not have
// that address. It is asked once, when a container is attached.
func HostPort(p cluster.Port) error {
	var hosts []netip.Addr
	if p.HostIP.IsValid() {
		hosts = []netip.Addr{p.HostIP}
	} else {
		hosts = []netip.Addr{netip.IPv4Unspecified(), netip.IPv6Unspecified()}
	}
	for _, h := range hosts {
		err := bind(p.Proto, netip.AddrPortFrom(h, p.HostPort))
		switch {
		case err == nil:
		case errors.Is(err, syscall.EADDRINUSE):
			if who, listening := owner(p, h.Is4()); listening {
				return refuse(codes.AlreadyExists, "host port %s is in use by %s: use another, or stop that", portText(p), who)
			}
		case h.IsUnspecified(): // the host is without that family
		case errors.Is(err, syscall.EADDRNOTAVAIL):
			return refuse(codes.FailedPrecondition, "host port %s: this host does not have that address: see `ip address`", portText(p))
		default:
			return fmt.Errorf("try host port %s: %w", portText(p), err)
		}
	}
	return nil
}

// bind binds a socket and closes it again.
func bind(proto cluster.Proto, at netip.AddrPort) error {
	network := string(proto) + "6"
	if at.Addr().Is4() {
		network = string(proto) + "4"
	}
	var c net.ListenConfig
	if proto == cluster.UDP {
		s, err := c.ListenPacket(context.Background(), network, at.String())
		if err != nil {
			return err
		}
		return s.Close()
	}
	s, err := c.Listen(context.Background(), network, at.String())
	if err != nil {
		return err
	}
	return s.Close()
}

// owner names the process that listens on a port. An outgoing TCP connection
// that has it as its own local port stands in nobody's way.
func owner(p cluster.Port, four bool) (who string, listening bool) {
	tables := []string{string(p.Proto) + "6"} // one that takes both families is there
	if four {
		tables = append(tables, string(p.Proto))
	}
	for _, table := range tables {
		raw, err := os.ReadFile("/proc/thread-self/net/" + table)
		if err != nil {
			continue // no IPv6
		}
		if inode, ok := listener(string(raw), p); ok {
			return process(inode), true
		}
	}
	return "", false
}

// listener finds a socket that listens on p's port in the text of /proc/net/tcp
// or udp (tcp4_seq_show in net/ipv4/tcp_ipv4.c): the state of a listening TCP
// socket is 0A, of an unconnected UDP socket 07.
func listener(text string, p cluster.Port) (inode string, ok bool) {
	state := "0A"
	if p.Proto == cluster.UDP {
		state = "07"
	}
	for line := range strings.Lines(text) {
		f := strings.Fields(line)
		if len(f) < 10 || f[3] != state {
			continue
		}
		_, port, _ := strings.Cut(f[1], ":")
		if n, err := strconv.ParseUint(port, 16, 16); err == nil && uint16(n) == p.HostPort {
			return f[9], true
		}
	}
	return "", false
}

// process names the process that holds a socket. The kernel's own sockets, and
// those of processes in other PID namespaces, are nobody's here.
func process(inode string) string {
	fds, err := filepath.Glob("/proc/[0-9]*/fd/*")
	if err != nil {
		return "a process of the host"
	}
	for _, fd := range fds {
		if to, err := os.Readlink(fd); err != nil || to != "socket:["+inode+"]" {
			continue
		}
		pid := strings.Split(fd, "/")[2]
		comm, err := os.ReadFile("/proc/" + pid + "/comm")
		if err != nil {
			continue
		}
		return fmt.Sprintf("process %s (%s) of the host", quote(strings.TrimSpace(string(comm))), pid)
	}
	return "a process of the host"
}
