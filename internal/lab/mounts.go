package lab

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// keeperMounts makes the keeper's mount namespace private and gives it the
// /proc of its PID namespace and an empty /run.
func keeperMounts() error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make mounts private: %w", err)
	}
	if err := unix.Mount("proc", "/proc", "proc", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""); err != nil {
		return fmt.Errorf("mount /proc: %w", err)
	}
	return mountRun()
}

func mountRun() error {
	if err := unix.Mount("run", "/run", "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=755"); err != nil {
		return fmt.Errorf("mount /run: %w", err)
	}
	return nil
}

// scratch is where the layers of a host's own directories are, on its /run.
const scratch = "/run/lab"

// hostMounts gives a host its own /run, /sys, /etc, /var/lib and /var/log. The
// last three are the machine's with a layer on top: what is written there goes
// to memory, so that the directories that ovl needs can be made by a user who
// may not make them on the machine.
func hostMounts(s hostSpec) error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make mounts private: %w", err)
	}
	if err := mountRun(); err != nil {
		return err
	}
	for _, d := range []string{"/run/ovl", "/run/netns", "/run/lock"} {
		if err := os.MkdirAll(d, 0o755); err != nil { //nolint:gosec // as on every host
			return fmt.Errorf("make directory: %w", err)
		}
	}
	files := hostFiles(s)
	for dir, made := range map[string][]string{"/etc": {"netns"}, "/var/lib": {"ovl"}, "/var/log": {"ovl"}} {
		if err := layer(dir, made, files); err != nil {
			return err
		}
	}
	return mountSys()
}

// layer mounts an overlay on dir whose upper layer holds the directories made
// and those of files that are in dir or in one of made.
func layer(dir string, made []string, files map[string]string) error {
	upper, work := filepath.Join(scratch, dir), filepath.Join(scratch, "work", dir)
	if err := os.MkdirAll(work, 0o700); err != nil {
		return fmt.Errorf("make layer of %s: %w", dir, err)
	}
	for _, m := range append(made, ".") {
		if err := os.MkdirAll(filepath.Join(upper, m), 0o755); err != nil { //nolint:gosec // it becomes dir itself
			return fmt.Errorf("make layer of %s: %w", dir, err)
		}
	}
	for path, content := range files {
		if !strings.HasPrefix(path, dir+"/") {
			continue
		}
		if err := os.WriteFile(filepath.Join(scratch, path), []byte(content), 0o644); err != nil { //nolint:gosec // everybody reads /etc/hosts
			return fmt.Errorf("make layer of %s: %w", dir, err)
		}
	}
	options := fmt.Sprintf("lowerdir=%s,upperdir=%s,workdir=%s", dir, upper, work)
	err := unix.Mount("overlay", dir, "overlay", 0, options)
	if errors.Is(err, unix.ENODEV) {
		return fmt.Errorf("mount overlay on %s: %w; a lab needs overlayfs, in user namespaces Linux 5.11", dir, err)
	}
	if err != nil {
		return fmt.Errorf("mount overlay on %s: %w", dir, err)
	}
	return nil
}

// mountSys mounts a /sys that shows the host's own network and keeps the
// cgroup mounts, which container runtimes on the host need. A kernel that
// refuses (a container with parts of /sys masked) leaves the machine's.
func mountSys() error {
	const cgroup, aside = "/sys/fs/cgroup", scratch + "/cgroup"
	if err := os.MkdirAll(aside, 0o700); err != nil {
		return fmt.Errorf("make directory: %w", err)
	}
	kept := unix.Mount(cgroup, aside, "", unix.MS_BIND|unix.MS_REC, "") == nil
	err := unix.Mount("sysfs", "/sys", "sysfs", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, "")
	if errors.Is(err, fs.ErrPermission) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("mount /sys: %w", err)
	}
	if kept {
		_ = unix.Mount(aside, cgroup, "", unix.MS_BIND|unix.MS_REC, "") // a kernel without cgroups has no such directory
	}
	return nil
}
