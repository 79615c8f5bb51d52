package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"
)

// process is a process of somebody else's: it, and not a later one of that number.
// The zero process never ends.
type process struct{ fd int }

// watchProcess opens a process; 0 is none.
func watchProcess(pid int) (process, error) {
	if pid == 0 {
		return process{}, nil
	}
	fd, err := unix.PidfdOpen(pid, 0)
	switch {
	case errors.Is(err, unix.ESRCH):
		return process{}, fmt.Errorf("there is no process %d", pid)
	case errors.Is(err, unix.EINVAL), errors.Is(err, unix.ENOENT): // a thread (pidfd_open(2); the latter since Linux 6.15)
		return process{}, fmt.Errorf("%d is not a process but a thread of one", pid)
	case errors.Is(err, unix.ENOSYS): // before Linux 5.3
		return process{}, nil
	case err != nil:
		return process{}, fmt.Errorf("open process %d: %w", pid, err)
	}
	return process{fd}, nil
}

// ended reports whether the process has ended.
func (p process) ended() bool {
	if p.fd == 0 {
		return false
	}
	n, err := unix.Poll([]unix.PollFd{{Fd: int32(p.fd), Events: unix.POLLIN}}, 0)
	return err == nil && n > 0
}

func (p process) close() {
	if p.fd != 0 {
		_ = unix.Close(p.fd)
	}
}

// isThere reports whether there is something at a path, or may be: only what is
// surely not there is not.
func isThere(path string) bool {
	_, err := os.Stat(path)
	return !errors.Is(err, fs.ErrNotExist)
}
