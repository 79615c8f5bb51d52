package kernel

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// Pin returns what tells a network namespace from every other, also from those
// that come after it: the kernel's cookie for it, which it gives once between two
// boots (net_cookie in net/core/net_namespace.c), and which boot that is. The
// inode of a namespace is no such thing: the next one may get it.
func Pin(ns *os.File) (string, error) {
	boot, err := BootID()
	if err != nil {
		return "", err
	}
	var cookie uint64
	err = within(ns, func() (err error) {
		cookie, err = netCookie()
		return err
	})
	if errors.Is(err, unix.ENOPROTOOPT) {
		return "", refusal("this kernel cannot tell network namespaces apart, which takes Linux 5.14: give this one a name with `ip netns attach NAME PID`, and attach that")
	}
	if err != nil {
		return "", fmt.Errorf("read cookie of network namespace: %w", err)
	}
	return fmt.Sprintf("%s-%d", boot[:min(len(boot), 8)], cookie), nil
}

// boot is what BootID has read.
var boot atomic.Pointer[string] //nolint:gochecknoglobals // the machine has one, which lasts longer than this process

// BootID returns the kernel's identity of this boot. It is read once, since every entry
// into a pinned namespace asks for it; that it cannot be read is not remembered.
func BootID() (string, error) {
	if id := boot.Load(); id != nil {
		return *id, nil
	}
	raw, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return "", fmt.Errorf("read boot ID: %w", err)
	}
	id := strings.TrimSpace(string(raw))
	boot.Store(&id)
	return id, nil
}

// netCookie returns the cookie of the calling thread's network namespace
// (SO_NETNS_COOKIE of sk_getsockopt, net/core/sock.c).
func netCookie() (uint64, error) {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, err
	}
	defer func() { _ = unix.Close(fd) }()
	return unix.GetsockoptUint64(fd, unix.SOL_SOCKET, unix.SO_NETNS_COOKIE)
}
