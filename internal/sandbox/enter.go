package sandbox

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"
)

// Enter moves the calling thread into the sandbox: its network namespace, and
// mount and UTS namespaces like those that ip netns exec makes. The goroutine
// stays on that thread, which is of no use for anything else afterwards: call
// [Exec] or end. The error wraps [ErrMissing] if there is no such sandbox.
func (s Sandbox) Enter() error {
	runtime.LockOSThread()
	if err := s.enterNetNS(); err != nil {
		return fmt.Errorf("enter sandbox %s: %w", s.Name, err)
	}
	// Unshare works in a process of many threads: a new mount namespace only
	// stops this one from sharing its working directory and root (CLONE_FS).
	if err := unix.Unshare(unix.CLONE_NEWNS | unix.CLONE_NEWUTS); err != nil {
		return fmt.Errorf("enter sandbox %s: make namespaces: %w", s.Name, err)
	}
	// Slave, not private: nothing gets out, but what the host unmounts, such as
	// the namespace of another sandbox, does not live on in here.
	if err := unix.Mount("", "/", "none", unix.MS_SLAVE|unix.MS_REC, ""); err != nil {
		return fmt.Errorf("enter sandbox %s: set mount propagation: %w", s.Name, err)
	}
	mountSys()
	if err := s.bindFiles(); err != nil {
		return fmt.Errorf("enter sandbox %s: %w", s.Name, err)
	}
	return wrap("enter sandbox "+s.Name, s.setHostname())
}

func (s Sandbox) enterNetNS() error {
	fd, err := unix.Open(s.NetNS(), unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return ErrMissing
	}
	if err != nil {
		return fmt.Errorf("open %s: %w", s.NetNS(), err)
	}
	defer func() { _ = unix.Close(fd) }()
	err = unix.Setns(fd, unix.CLONE_NEWNET)
	if errors.Is(err, unix.EINVAL) {
		return fmt.Errorf("%s: the namespace is gone: no network namespace is mounted there", s.NetNS())
	}
	return wrap("set network namespace", err)
}

// mountSys mounts a fresh /sys, since the host's shows the host's network in
// /sys/class/net, and keeps the cgroups visible in it, which ip netns exec
// loses. Without the right to, the command sees the host's /sys, no more.
func mountSys() {
	const cgroups = "/sys/fs/cgroup"
	fd, err := unix.OpenTree(unix.AT_FDCWD, cgroups, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_RECURSIVE)
	if err == nil {
		defer func() { _ = unix.Close(fd) }()
	}
	if unix.Mount("sysfs", "/sys", "sysfs", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, "") != nil || err != nil {
		return
	}
	_ = unix.MoveMount(fd, "", unix.AT_FDCWD, cgroups, unix.MOVE_MOUNT_F_EMPTY_PATH)
}

// bindFiles binds every file of the sandbox over the one of that name in /etc.
// What /etc lacks cannot be bound over, and is not made: /etc is the host's.
func (s Sandbox) bindFiles() error {
	entries, err := os.ReadDir(s.etc())
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, e := range entries {
		target := filepath.Join("/etc", e.Name())
		err := unix.Mount(filepath.Join(s.etc(), e.Name()), target, "none", unix.MS_BIND, "")
		if err != nil && !errors.Is(err, unix.ENOENT) {
			return fmt.Errorf("mount %s: %w", target, err)
		}
	}
	return nil
}

func (s Sandbox) setHostname() error {
	b, err := readBounded(filepath.Join(s.etc(), "hostname"), 256)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return wrap("set hostname", unix.Sethostname([]byte(strings.TrimSpace(string(b)))))
}
