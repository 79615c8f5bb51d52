package lab

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// KeeperCommand and HostCommand are the two hidden commands below `ovlctl lab`
// that a lab starts of the ovlctl in its directory of binaries, with one
// argument each; see [Keep] and [HoldHost].
const (
	KeeperCommand = "keeper"
	HostCommand   = "host"
)

// The descriptors that a keeper inherits.
const (
	keeperTalkFD   = 3 // a socket to who started it
	keeperListenFD = 4 // where requests arrive
)

// report is what a keeper tells who started it, one JSON object a line.
type report struct {
	Doing string `json:"doing,omitempty"` // progress, for people
	Hosts []Host `json:"hosts,omitempty"` // the lab is ready
	Error string `json:"error,omitempty"` // it will not be
	Perm  bool   `json:"perm,omitempty"`  // the error is a refusal of the kernel
}

// released is what who started the keeper answers to let it stand by itself.
const released = "released\n"

// Up makes a lab and returns when all its hosts are ready, or why they are
// not; then nothing of it is left. progress, which may be nil, is called with
// what is being done.
func Up(ctx context.Context, c Config, progress func(string)) (*Lab, error) {
	c, err := c.withDefaults()
	if err != nil {
		return nil, fmt.Errorf("make lab: %w", err)
	}
	if err := c.preflight(); err != nil {
		return nil, fmt.Errorf("make lab %s: %w", c.Name, err)
	}
	if err := c.claim(ctx); err != nil {
		return nil, err
	}
	l, err := c.start(ctx, progress)
	if err != nil {
		_ = record{Config: c}.remove() // err is what matters
		return nil, fmt.Errorf("make lab %s: %w", c.Name, err)
	}
	return l, nil
}

// claim makes the lab's directory, or takes that of a lab that crashed.
func (c Config) claim(ctx context.Context) error {
	if err := makeRoot(c.Root); err != nil {
		return err
	}
	err := os.Mkdir(c.dir(), 0o700)
	if err == nil {
		return nil
	}
	if !errors.Is(err, os.ErrExist) {
		return fmt.Errorf("make directory of lab %s: %w", c.Name, err)
	}
	old, err := load(c.Root, c.Name)
	if err != nil && !errors.Is(err, ErrNotFound) {
		return err
	}
	if err == nil && old.alive() {
		return fmt.Errorf("make lab %s: %w; end it with `ovlctl lab down --name %s`", c.Name, ErrExists, c.Name)
	}
	l := &Lab{record: record{Config: c}}
	if err := l.Down(ctx); err != nil {
		return err
	}
	if err := makeRoot(c.Root); err != nil {
		return err
	}
	if err := os.Mkdir(c.dir(), 0o700); err != nil {
		return fmt.Errorf("make directory of lab %s: %w", c.Name, err)
	}
	return nil
}

// start starts the keeper and waits for its verdict. Whatever goes wrong, the
// keeper ends: it reads from the socket that this function closes then.
func (c Config) start(ctx context.Context, progress func(string)) (*Lab, error) {
	ours, theirs, err := socketPair()
	if err != nil {
		return nil, err
	}
	defer theirs.Close()
	l, err := c.startKeeper(theirs)
	if err != nil {
		return nil, errors.Join(err, ours.Close())
	}
	_ = theirs.Close() // so that the end of the keeper is the end of the file
	stop := context.AfterFunc(ctx, func() { _ = unix.Shutdown(int(ours.Fd()), unix.SHUT_RDWR) })
	hosts, err := follow(ours, c, progress)
	if !stop() {
		err = errors.Join(context.Cause(ctx), err)
	}
	if err == nil {
		l.record.Hosts = hosts
		err = l.record.save()
	}
	if err == nil && !c.Tether {
		_, err = io.WriteString(ours, released)
	}
	if err != nil {
		_ = ours.Close()
		return nil, errors.Join(err, l.record.kill(context.WithoutCancel(ctx)))
	}
	if c.Tether {
		l.tether = ours
		return l, nil
	}
	return l, ours.Close()
}

// startKeeper starts the keeper in namespaces of its own.
func (c Config) startKeeper(talk *os.File) (*Lab, error) {
	listener, err := c.listen()
	if err != nil {
		return nil, err
	}
	defer listener.Close()
	log, err := os.OpenFile(filepath.Join(c.dir(), logFile), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open log of keeper: %w", err)
	}
	defer log.Close()
	config, err := json.Marshal(c)
	if err != nil {
		return nil, fmt.Errorf("encode configuration: %w", err)
	}
	user := os.Geteuid() != 0
	self := filepath.Join(c.BinDir, keeperBinary)
	pid, err := syscall.ForkExec(self, []string{self, "lab", KeeperCommand, string(config)}, &syscall.ProcAttr{
		Dir:   "/",
		Env:   environment(os.Environ(), c),
		Files: []uintptr{devNull().Fd(), log.Fd(), log.Fd(), talk.Fd(), listener.Fd()},
		Sys:   keeperNamespaces(user),
	})
	if err != nil {
		return nil, forbidden(fmt.Errorf("start keeper in its own namespaces: %w", err))
	}
	go func() { _, _ = unix.Wait4(pid, nil, 0, nil) }() // no zombie while this process lives
	l := &Lab{record: record{Config: c, Keeper: pid, User: user}}
	if l.record.Started, err = startTime(pid); err != nil {
		return nil, fmt.Errorf("start keeper: %w", err)
	}
	return l, nil
}

// keeperNamespaces are those in which the keeper starts. An ordinary user's
// keeper is root in a user namespace in which there is nobody else.
func keeperNamespaces(user bool) *syscall.SysProcAttr {
	a := &syscall.SysProcAttr{
		Cloneflags: unix.CLONE_NEWPID | unix.CLONE_NEWNS | unix.CLONE_NEWNET | unix.CLONE_NEWUTS | unix.CLONE_NEWIPC,
		Setsid:     true,
	}
	if user {
		a.Cloneflags |= unix.CLONE_NEWUSER
		a.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Geteuid(), Size: 1}}
		a.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getegid(), Size: 1}}
	}
	return a
}

// listen opens the socket on which the keeper will serve.
func (c Config) listen() (*os.File, error) {
	path := filepath.Join(c.dir(), socketFile)
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return nil, fmt.Errorf("listen for requests: %w", err)
	}
	l.SetUnlinkOnClose(false)
	defer l.Close()
	f, err := l.File()
	if err != nil {
		return nil, fmt.Errorf("listen for requests: %w", err)
	}
	return f, nil
}

// follow reads the keeper's reports until the lab is ready.
func follow(talk io.Reader, c Config, progress func(string)) ([]Host, error) {
	lines := bufio.NewScanner(talk)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var r report
		if err := json.Unmarshal(lines.Bytes(), &r); err != nil {
			return nil, fmt.Errorf("read report of keeper: %w", err)
		}
		switch {
		case r.Error != "" && r.Perm:
			return nil, forbidden(errors.New(r.Error))
		case r.Error != "":
			return nil, errors.New(r.Error)
		case r.Hosts != nil:
			return r.Hosts, nil
		case progress != nil:
			progress(r.Doing)
		}
	}
	log, err := os.ReadFile(filepath.Join(c.dir(), logFile))
	if err != nil {
		return nil, fmt.Errorf("start keeper: it ended, and so did its log: %w", err)
	}
	return nil, fmt.Errorf("start keeper: it ended, saying: %s", lastLines(string(log), 5))
}

// lastLines returns the last n lines of text, in one.
func lastLines(text string, n int) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "; ")
}

// socketPair returns two connected sockets, closed on exec.
func socketPair() (a, b *os.File, err error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("make socket pair: %w", err)
	}
	return os.NewFile(uintptr(fds[0]), "keeper"), os.NewFile(uintptr(fds[1]), "starter"), nil
}

// devNull returns the null device, which is always there.
func devNull() *os.File {
	f, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return os.Stdin
	}
	return f
}
