package sandbox

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"time"

	"golang.org/x/sys/unix"
)

// threadNetNS is the network namespace of the calling thread; /proc/self would
// be that of the main thread.
const threadNetNS = "/proc/thread-self/ns/net"

// Create makes the sandbox: its directories and its network namespace, with
// the loopback up and nothing else in it. The error wraps [ErrExists] if the
// name is in use. After any error nothing is left.
func (s Sandbox) Create() error { return s.create("", makeNetNS) }

// Join makes the sandbox as [Sandbox.Create] does, but in the network namespace at
// netns, which it shares with whoever has that. It is mounted under the
// sandbox's name too, so that ip netns exec works as on any other; it ends with
// the last that has it.
func (s Sandbox) Join(mode Mode, netns string) error {
	return s.create(mode, func(path string) error {
		if !isNamespace(netns) {
			return fmt.Errorf("%s: no network namespace is there", netns)
		}
		return mountNetNS(path, netns)
	})
}

// create makes the sandbox; place makes its network namespace at a path.
func (s Sandbox) create(mode Mode, place func(path string) error) (err error) {
	if err := s.Free(); err != nil {
		return fmt.Errorf("create sandbox %s: %w", s.Name, err)
	}
	if err := os.MkdirAll(s.paths.State, 0o755); err != nil { //nolint:gosec // the names are no secret
		return fmt.Errorf("create sandbox %s: %w", s.Name, err)
	}
	// Mkdir is the lock: of two that race for a name, one gets it.
	//nolint:gosec // that it runs is no secret; its log is one
	if err := os.Mkdir(s.dir(), 0o755); errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("create sandbox %s: %s: %w", s.Name, s.dir(), ErrExists)
	} else if err != nil {
		return fmt.Errorf("create sandbox %s: %w", s.Name, err)
	}
	defer func() {
		if err != nil {
			_ = os.RemoveAll(s.dir())
		}
	}()
	if err := s.record(func(st *state) { st.Created, st.Mode = time.Now().UTC(), mode }); err != nil {
		return err
	}
	if err := shareNetNSDir(s.paths.NetNS); err != nil {
		return fmt.Errorf("create sandbox %s: %w", s.Name, err)
	}
	if err := place(s.NetNS()); err != nil {
		return fmt.Errorf("create sandbox %s: %w", s.Name, err)
	}
	return nil
}

// shareNetNSDir prepares the directory of named namespaces as ip netns add
// does (iproute2, ip/ipnetns.c): a shared mount, so that a namespace which is
// mounted there appears in every mount namespace that follows this one, and
// one that is removed is not kept alive by a forgotten copy.
func shareNetNSDir(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil { //nolint:gosec // as ip-netns(8) makes it
		return err
	}
	unlock, err := lockDir(dir)
	if err != nil {
		return err
	}
	defer unlock()
	err = unix.Mount("", dir, "none", unix.MS_SHARED|unix.MS_REC, "")
	if !errors.Is(err, unix.EINVAL) { // EINVAL: not a mount point yet
		return wrap("share "+dir, err)
	}
	if err := unix.Mount(dir, dir, "none", unix.MS_BIND|unix.MS_REC, ""); err != nil {
		return fmt.Errorf("mount %s: %w", dir, err)
	}
	return wrap("share "+dir, unix.Mount("", dir, "none", unix.MS_SHARED|unix.MS_REC, ""))
}

// lockDir takes the lock that ip netns takes too, so that two do not both
// mount the directory over itself.
func lockDir(dir string) (unlock func(), err error) {
	f, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX); err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("lock %s: %w", dir, err)
	}
	return func() { _ = f.Close() }, nil // closing unlocks
}

// makeNetNS makes a network namespace and mounts it on a new file at path.
func makeNetNS(path string) error {
	return onNewFile(path, func() error { return onThread(func() error { return mountNewNetNS(path) }) })
}

// mountNetNS mounts the namespace at netns on a new file at path.
func mountNetNS(path, netns string) error {
	return onNewFile(path, func() error {
		return wrap("mount "+netns+" on "+path, unix.Mount(netns, path, "none", unix.MS_BIND, ""))
	})
}

// onNewFile makes an empty file at path for mount to mount on.
func onNewFile(path string, mount func() error) error {
	f, err := os.OpenFile(path, os.O_RDONLY|os.O_CREATE|os.O_EXCL, 0)
	if errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("%s: %w", path, ErrExists)
	}
	if err != nil {
		return err
	}
	_ = f.Close()
	if err := mount(); err != nil {
		_ = os.Remove(path)
		return err
	}
	return nil
}

// onThread runs do on a thread that ends with it, so do may leave the thread in
// other namespaces. That is never the main thread: Go cannot end that one, and
// /proc/PID would show the whole process in the namespaces of do.
func onThread(do func() error) error {
	done := make(chan error)
	go func() {
		runtime.LockOSThread()
		if unix.Gettid() == unix.Getpid() {
			// While this goroutine sits on the main thread another one cannot.
			defer runtime.UnlockOSThread()
			done <- onThread(do)
			return
		}
		done <- do() // never unlocked: that is what ends the thread
	}()
	return <-done
}

func mountNewNetNS(path string) error {
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		return fmt.Errorf("make network namespace: %w", err)
	}
	if err := loopbackUp(); err != nil {
		return err
	}
	return wrap("mount "+path, unix.Mount(threadNetNS, path, "none", unix.MS_BIND, ""))
}

// loopbackUp brings lo up in the calling thread's namespace (netdevice(7)).
func loopbackUp() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open socket: %w", err)
	}
	defer func() { _ = unix.Close(fd) }()
	req, err := unix.NewIfreq("lo")
	if err != nil {
		return fmt.Errorf("name lo: %w", err)
	}
	req.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
	return wrap("set lo up", unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, req))
}

// removeNetNS unmounts and removes a named namespace. One that is gone is
// success.
func removeNetNS(path string) error {
	err := unix.Unmount(path, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW)
	if err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOENT) { // EINVAL: nothing is mounted there
		return fmt.Errorf("unmount %s: %w", path, err)
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// Remove takes the sandbox away: namespace, files, state. What is not there is
// not missed, so a removal that was interrupted can be repeated. Processes in
// it are not stopped; see [Sandbox.Stop].
func (s Sandbox) Remove() error {
	if err := removeNetNS(s.NetNS()); err != nil {
		return fmt.Errorf("remove sandbox %s: %w", s.Name, err)
	}
	if s.ownsEtc() {
		if err := os.RemoveAll(s.etc()); err != nil {
			return fmt.Errorf("remove sandbox %s: %w", s.Name, err)
		}
	}
	// The state goes last: as long as it is there the name is taken and listed.
	if err := s.removeState(); err != nil {
		return fmt.Errorf("remove sandbox %s: %w", s.Name, err)
	}
	return nil
}

// removeState removes the state's directory from under a name that no sandbox can
// have. Whoever waits for the command may be about to record how it ended: in a
// directory that is being emptied that would leave a file, and keep it; in one that
// has another name it finds nothing to write to.
func (s Sandbox) removeState() error {
	trash := filepath.Join(s.paths.State, ".removed-"+s.Name)
	if err := os.RemoveAll(trash); err != nil {
		return err
	}
	if err := os.Rename(s.dir(), trash); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return os.RemoveAll(trash)
}

func wrap(what string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", what, err)
}
