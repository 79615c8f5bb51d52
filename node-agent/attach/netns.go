package attach

import (
	"errors"
	"fmt"
	"io/fs"

	"golang.org/x/sys/unix"
)

// errNoNamespace is the cause when there is nothing, or something else than a
// network namespace, at a path.
var errNoNamespace = errors.New("no network namespace is there")

// NetNSCheck returns a function that tells why the namespace at a path cannot be
// attached, or nil. The host's own namespace is read now: later a thread of this
// process may be visiting another.
func NetNSCheck() (func(path string) error, error) {
	var own unix.Stat_t
	if err := unix.Stat("/proc/thread-self/ns/net", &own); err != nil {
		return nil, fmt.Errorf("find own network namespace: %w", err)
	}
	return func(path string) error {
		theirs, err := statNetNS(path)
		if err != nil {
			return fmt.Errorf("open network namespace %s: %w", path, err)
		}
		if theirs.Dev == own.Dev && theirs.Ino == own.Ino {
			return fmt.Errorf("open network namespace %s: it is the host's own, not a container's", path)
		}
		return nil
	}, nil
}

func statNetNS(path string) (unix.Stat_t, error) {
	var st unix.Stat_t
	// O_NONBLOCK: the path comes from outside, and opening a pipe would wait.
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ENXIO) {
		return st, errNoNamespace
	}
	if err != nil {
		return st, err
	}
	defer func() { _ = unix.Close(fd) }() // nothing was written

	var fsys unix.Statfs_t
	if err := unix.Fstatfs(fd, &fsys); err != nil {
		return st, err
	}
	// nsfs holds namespaces of every type (ioctl_ns(2)).
	if fsys.Type != unix.NSFS_MAGIC {
		return st, errNoNamespace
	}
	if kind, err := unix.IoctlRetInt(fd, unix.NS_GET_NSTYPE); err != nil || kind != unix.CLONE_NEWNET {
		return st, errNoNamespace
	}
	return st, unix.Fstat(fd, &st)
}
