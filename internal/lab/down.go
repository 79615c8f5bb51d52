package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// Down ends the lab and removes what it left. It is done when every process
// of the lab has ended; a lab that crashed goes the same way.
func (l *Lab) Down(ctx context.Context) error {
	if err := l.record.kill(ctx); err != nil {
		return fmt.Errorf("end lab %s: %w", l.Name(), err)
	}
	if l.tether != nil {
		_ = l.tether.Close() // nobody is at the other end
	}
	return l.record.remove()
}

// kill ends the keeper and waits for it. It is process 1 of its PID namespace,
// so the kernel kills all others there first and reaps them before the keeper
// itself is gone: zap_pid_ns_processes in kernel/pid_namespace.c.
func (r record) kill(ctx context.Context) error {
	pidfd, ok := r.keeper()
	if !ok {
		return nil
	}
	defer unix.Close(pidfd)
	err := unix.PidfdSendSignal(pidfd, unix.SIGKILL, nil, 0)
	if errors.Is(err, unix.ESRCH) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("kill process %d: %w", r.Keeper, err)
	}
	return awaitExit(ctx, pidfd)
}

// awaitExit waits until the process ends: its descriptor becomes readable.
func awaitExit(ctx context.Context, pidfd int) error {
	fds := []unix.PollFd{{Fd: int32(pidfd), Events: unix.POLLIN}}
	for {
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("wait for its processes: %w", err)
		}
		n, err := unix.Poll(fds, int((100 * time.Millisecond).Milliseconds()))
		if err != nil && !errors.Is(err, unix.EINTR) {
			return fmt.Errorf("wait for its processes: %w", err)
		}
		if n > 0 {
			return nil
		}
	}
}

// remove deletes the lab's directory: its files by name, so that a wrong
// record cannot lead elsewhere, and then the directories if they are empty.
func (r record) remove() error {
	dir := r.Config.dir()
	for _, f := range []string{socketFile, logFile, recordFile + ".new", recordFile} {
		if err := os.Remove(filepath.Join(dir, f)); err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("remove lab %s: %w", r.Config.Name, err)
		}
	}
	if err := os.Remove(dir); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("remove lab %s: %w", r.Config.Name, err)
	}
	_ = os.Remove(r.Config.Root) // fails while it holds other labs
	return nil
}
