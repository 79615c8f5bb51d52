// Package nsexec runs a package's tests in namespaces of their own: [Main]
// starts the test binary once more in a private user (unless it is root
// already), network, mount and UTS namespace, so that a test may do whatever
// root may, needs none, leaves nothing behind and cannot reach the machine's
// own network.
//
// It must never run a test in the namespaces that it was started in. Its
// invariant: inside [Main] the tests see a network with nothing but a loopback
// that is up, and an empty /run of their own.
package nsexec

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// inside marks the second start of the test binary. Its value is the inode of
// the network namespace outside, so that a variable that leaked into the
// environment cannot make tests run in the open.
const inside = "OVL_NSEXEC_OUTSIDE"

// Main runs m's tests in private namespaces and exits with their code. It is
// all that a TestMain needs to do; before, if given, runs inside the
// namespaces ahead of the tests.
//
// Where the kernel forbids user namespaces the tests are skipped, saying why;
// with CI=true in the environment that is a failure.
func Main(m *testing.M, before ...func() error) {
	if Inside() {
		os.Exit(runInside(m, before))
	}
	os.Exit(again(0))
}

// MainPID is [Main] with a PID namespace besides: whatever the tests start and
// leave behind ends with them, however they end. They are its process 1, and its
// /proc is theirs.
func MainPID(m *testing.M, before ...func() error) {
	if Inside() {
		os.Exit(runInside(m, append([]func() error{mountProc}, before...)))
	}
	os.Exit(again(unix.CLONE_NEWPID))
}

func mountProc() error {
	if err := unix.Mount("proc", "/proc", "proc", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""); err != nil {
		return fmt.Errorf("mount /proc: %w", err)
	}
	return nil
}

// Inside reports whether the process runs in the private namespaces.
func Inside() bool {
	outside := os.Getenv(inside)
	return outside != "" && outside != netNamespace()
}

// Rootless reports whether the process's root is nobody but the ordinary user who
// made its user namespace. There setgroups(2) is forbidden (user_namespaces(7)),
// so programs that drop their privileges, such as tcpdump, do not start.
func Rootless() bool {
	b, err := os.ReadFile("/proc/self/setgroups")
	return err == nil && strings.TrimSpace(string(b)) == "deny"
}

// netNamespace returns the identity of the network namespace that the process
// is in.
func netNamespace() string {
	s, err := os.Readlink("/proc/self/ns/net")
	if err != nil {
		return "unknown"
	}
	return s
}

// again starts this binary with the same arguments in new namespaces, those of
// more included, and returns its exit code.
func again(more uintptr) int {
	runtime.LockOSThread()                                // Pdeathsig is the death of the forking thread
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...) //nolint:noctx // it is the tests, which know their own end
	cmd.Args[0] = os.Args[0]
	cmd.Env = append(os.Environ(), inside+"="+netNamespace())
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = attributes(os.Geteuid(), os.Getegid())
	cmd.SysProcAttr.Cloneflags |= more

	if err := cmd.Start(); err != nil {
		return skip(fmt.Errorf("start tests in private namespaces: %w", err))
	}
	// go test interrupts on its time limit: the tests inside print their stacks.
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, unix.SIGINT, unix.SIGTERM, unix.SIGQUIT, unix.SIGHUP)
	go func() {
		for s := range signals {
			_ = cmd.Process.Signal(s) // it may have just ended
		}
	}()
	err := cmd.Wait()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		if exit.ExitCode() >= 0 {
			return exit.ExitCode()
		}
		fmt.Fprintf(os.Stderr, "nsexec: tests ended: %v\n", exit)
		return 1
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "nsexec: wait for tests: %v\n", err)
		return 1
	}
	return 0
}

// attributes are those of a child in namespaces of its own, root within.
func attributes(uid, gid int) *syscall.SysProcAttr {
	a := &syscall.SysProcAttr{
		Cloneflags: unix.CLONE_NEWNET | unix.CLONE_NEWNS | unix.CLONE_NEWUTS,
		Pdeathsig:  unix.SIGKILL,
	}
	if uid != 0 {
		a.Cloneflags |= unix.CLONE_NEWUSER
		a.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: uid, Size: 1}}
		a.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: gid, Size: 1}}
	}
	return a
}

// runInside prepares the namespaces and runs the tests.
func runInside(m *testing.M, before []func() error) int {
	if err := prepare(); err != nil {
		return skip(err)
	}
	for _, f := range before {
		if err := f(); err != nil {
			fmt.Fprintf(os.Stderr, "nsexec: %v\n", err)
			return 1
		}
	}
	return m.Run()
}

// prepare makes /run private and empty (xtables' lock and named namespaces
// live there) and brings the loopback up.
func prepare() error {
	if err := unix.Mount("none", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make mounts private: %w", err)
	}
	if err := unix.Mount("tmpfs", "/run", "tmpfs", 0, "mode=755"); err != nil {
		return fmt.Errorf("mount /run: %w", err)
	}
	return loopbackUp()
}

// loopbackUp sets IFF_UP on lo (netdevice(7)).
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
	if err := unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, req); err != nil {
		return fmt.Errorf("set lo up: %w", err)
	}
	return nil
}

// skip says why no test ran. It is a success, except in CI.
func skip(why error) int {
	fmt.Fprintf(os.Stderr, "nsexec: skipped all tests of this package: %v\n", why)
	if os.Getenv("CI") == "true" {
		fmt.Fprintln(os.Stderr, "nsexec: CI=true makes that a failure: allow user namespaces (sysctl kernel.unprivileged_userns_clone, user.max_user_namespaces) or run as root")
		return 1
	}
	return 0
}
