package attach

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// errNoNamespace is the cause when there is nothing, or something else than a
// network namespace, at a path.
var errNoNamespace = errors.New("no network namespace is there")

// NetNSCheck returns a function that tells why the namespace at a path cannot be
// attached, or else its pin. One that is mounted at its path has none: whoever
// mounts another there means that one. Any other path is the kernel's, such as
// /proc/7/ns/net, and leads elsewhere when that process has ended and its number is
// another's: there pin tells the one from the other.
//
// The host's own namespace is read now: later a thread of this process may be
// visiting another.
func NetNSCheck(pin func(*os.File) (string, error)) (func(path string) (string, error), error) {
	var own unix.Stat_t
	if err := unix.Stat("/proc/thread-self/ns/net", &own); err != nil {
		return nil, fmt.Errorf("find own network namespace: %w", err)
	}
	return func(path string) (string, error) {
		verb := "open network namespace " + path
		f, err := openNetNS(path)
		if err != nil {
			return "", fmt.Errorf("%s: %w", verb, err)
		}
		defer func() { _ = f.Close() }() // nothing was written
		var theirs unix.Stat_t
		if err := unix.Fstat(int(f.Fd()), &theirs); err != nil {
			return "", fmt.Errorf("%s: %w", verb, err)
		}
		if theirs.Dev == own.Dev && theirs.Ino == own.Ino {
			return "", fmt.Errorf("%s: it is the host's own, not a container's", verb)
		}
		if isMounted(f) {
			return "", nil
		}
		p, err := pin(f)
		if err != nil {
			return "", fmt.Errorf("%s: %w", verb, err)
		}
		return p, nil
	}, nil
}

func openNetNS(path string) (*os.File, error) {
	// O_NONBLOCK: the path comes from outside, and opening a pipe would wait.
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ENXIO) || errors.Is(err, unix.ESRCH) {
		return nil, errNoNamespace
	}
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(fd), path)
	var fsys unix.Statfs_t
	if err := unix.Fstatfs(fd, &fsys); err != nil {
		_ = f.Close()
		return nil, err
	}
	// nsfs holds namespaces of every type (ioctl_ns(2)).
	if kind, err := unix.IoctlRetInt(fd, unix.NS_GET_NSTYPE); fsys.Type != unix.NSFS_MAGIC || err != nil || kind != unix.CLONE_NEWNET {
		_ = f.Close()
		return nil, errNoNamespace
	}
	return f, nil
}

// isMounted reports whether what was opened is mounted where its path leads, and
// not what a link of /proc leads to (Linux 5.8; before, the path itself must do).
func isMounted(f *os.File) bool {
	var st unix.Statx_t
	err := unix.Statx(int(f.Fd()), "", unix.AT_EMPTY_PATH, 0, &st)
	if err != nil || st.Attributes_mask&unix.STATX_ATTR_MOUNT_ROOT == 0 {
		return !strings.HasPrefix(f.Name(), "/proc/")
	}
	return st.Attributes&unix.STATX_ATTR_MOUNT_ROOT != 0
}
