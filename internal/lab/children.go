package lab

import (
	"errors"
	"fmt"
	"os"
	"os/signal"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// children are the keeper's own child processes. As process 1 it inherits the
// orphans of the lab too and must reap them; waiting for all in one place is
// the only way not to take an exit code from under somebody else's wait.
type children struct {
	mu  sync.Mutex
	own map[int]*child
}

// child is a process that the keeper started.
type child struct {
	pid  int
	done chan struct{} // closed when it has ended
	exit unix.WaitStatus
}

func newChildren() *children { return &children{own: map[int]*child{}} }

// start starts a program. The lock keeps reap from meeting a child that is not
// in the map yet.
func (c *children) start(argv []string, attr *syscall.ProcAttr) (*child, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	pid, err := syscall.ForkExec(argv[0], argv, attr)
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", argv[0], err)
	}
	p := &child{pid: pid, done: make(chan struct{})}
	c.own[pid] = p
	return p, nil
}

// reap collects every child and orphan that ends, for ever.
func (c *children) reap() {
	ended := make(chan os.Signal, 1) // one pending is enough: all are collected
	signal.Notify(ended, unix.SIGCHLD)
	for {
		c.collect()
		<-ended
	}
}

func (c *children) collect() {
	for {
		var status unix.WaitStatus
		pid, err := unix.Wait4(-1, &status, unix.WNOHANG, nil)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil || pid <= 0 {
			return
		}
		c.ended(pid, status)
	}
}

func (c *children) ended(pid int, status unix.WaitStatus) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if p, ok := c.own[pid]; ok {
		p.exit = status
		close(p.done)
		delete(c.own, pid)
	}
}

// String says how the process ended.
func (p *child) String() string {
	switch {
	case p.exit.Signaled():
		return fmt.Sprintf("killed by %v", p.exit.Signal())
	default:
		return fmt.Sprintf("exit code %d", p.exit.ExitStatus())
	}
}
