package sandbox

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// pollTick is how often a wait for a process looks at its context.
const pollTick = 100 * time.Millisecond

// Stop kills everything that runs in the sandbox and returns when it has ended.
func (s Sandbox) Stop(ctx context.Context) error {
	m, err := s.membership()
	if err != nil {
		return err
	}
	for { // again, since a process may fork before it dies
		pids, err := s.Processes()
		if err != nil {
			return err
		}
		if len(pids) == 0 {
			return nil
		}
		for _, pid := range pids {
			if err := kill(ctx, m, pid); err != nil {
				return fmt.Errorf("stop sandbox %s: process %d: %w", s.Name, pid, err)
			}
		}
	}
}

// kill ends one process and waits until it has. The descriptor is taken before
// the last look: from then on it is that process or none, however PIDs are
// reused (pidfd_open(2)).
func kill(ctx context.Context, m membership, pid int) error {
	fd, err := unix.PidfdOpen(pid, 0)
	if errors.Is(err, unix.ESRCH) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("open: %w", err)
	}
	defer func() { _ = unix.Close(fd) }()
	if !m.holds(pid) {
		return nil
	}
	if err := unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0); err != nil && !errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("kill: %w", err)
	}
	for {
		fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		n, err := unix.Poll(fds, int(pollTick.Milliseconds()))
		if err != nil && !errors.Is(err, unix.EINTR) {
			return fmt.Errorf("wait: %w", err)
		}
		if n > 0 {
			return nil
		}
		if ctx.Err() != nil {
			return fmt.Errorf("wait: %w", ctx.Err())
		}
	}
}
