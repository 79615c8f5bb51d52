package lab

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// The ports of the controller and of its embedded etcd.
const (
	controllerPort = "6790"
	etcdPort       = "6779"
)

// controller returns the address of the lab's controller.
func (c Config) controller() string {
	return net.JoinHostPort(c.address(partControl).Addr().String(), controllerPort)
}

// daemon returns what the host is for.
func (h *keptHost) daemon() string {
	switch h.Name {
	case Control:
		return Controller
	case Outside:
		return ""
	default:
		return Agent
	}
}

// runsWhat checks that what can run on the host.
func (h *keptHost) runsWhat(what string) error {
	daemon := h.daemon()
	switch {
	case daemon == "":
		return fmt.Errorf("find what runs on %s: nothing does", h.Name)
	case what == "" || what == daemon || (what == Etcd && daemon == Controller):
		return nil
	default:
		return fmt.Errorf("find %s on %s: %w; the %s runs there", what, h.Name, ErrNotFound, daemon)
	}
}

// command returns the command line of the host's daemon.
func (c Config) command(h *keptHost) []string {
	if h.Name == Control {
		etcd := []string{"--etcd-listen", net.JoinHostPort(c.address(partControl).Addr().String(), etcdPort)}
		if len(c.Etcd) > 0 {
			etcd = []string{"--etcd", strings.Join(c.Etcd, ",")}
		}
		return slices.Concat([]string{
			filepath.Join(c.BinDir, controllerBinary),
			"--listen", net.JoinHostPort(c.address(partControl).Addr().String(), controllerPort),
			"--data-dir", dataDir,
		}, etcd, c.ControllerArgs)
	}
	argv := []string{filepath.Join(c.BinDir, agentBinary)}
	if !h.joined() {
		argv = append(argv, "join", "--controller", c.controller(), "--name", h.Name)
	}
	return append(argv, c.AgentArgs...)
}

// path returns where the keeper sees a file of the host's mount namespace.
func (h *keptHost) path(p string) string { return fmt.Sprintf("/proc/%d/root%s", h.PID, p) }

func (h *keptHost) pidFile() string { return h.path("/run/ovl/" + h.daemon() + ".pid") }

func (h *keptHost) logFile() string { return h.path("/var/log/ovl/" + h.daemon() + ".log") }

// running reports whether the daemon has been started and not ended.
func (h *keptHost) running() bool {
	if h.runs == nil {
		return false
	}
	select {
	case <-h.runs.done:
		return false
	default:
		return true
	}
}

// launch starts the host's daemon: nsenter enters the host's namespaces and
// becomes it, so the PID is the daemon's. An agent that has to join does so with
// the token, which is in its environment: arguments are for everybody to see.
func (k *keeper) launch(h *keptHost, token string) error {
	if h.running() {
		return nil
	}
	log, err := os.OpenFile(h.logFile(), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return fmt.Errorf("open log of %s on %s: %w", h.daemon(), h.Name, err)
	}
	defer log.Close()
	nsenter, err := lookPath("nsenter")
	if err != nil {
		return fmt.Errorf("find nsenter: %w", err)
	}
	argv := append([]string{nsenter, "-t", strconv.Itoa(h.PID), "-m", "-n", "-u", "--"}, k.config.command(h)...)
	h.runs, err = k.children.start(argv, &syscall.ProcAttr{
		Dir:   "/",
		Env:   append(os.Environ(), "OVL_TOKEN="+token),
		Files: []uintptr{0, log.Fd(), log.Fd()},
		Sys:   &syscall.SysProcAttr{Setsid: true},
	})
	if err != nil {
		return err
	}
	if err := os.WriteFile(h.pidFile(), []byte(strconv.Itoa(h.runs.pid)+"\n"), 0o600); err != nil {
		return fmt.Errorf("write pid file on %s: %w", h.Name, err)
	}
	go h.forget(h.runs)
	return nil
}

// forget removes the pid file of a daemon that ended, unless a new one has
// written its own.
func (h *keptHost) forget(ended *child) {
	<-ended.done
	if pid, err := os.ReadFile(h.pidFile()); err == nil && string(pid) == strconv.Itoa(ended.pid)+"\n" {
		_ = os.Remove(h.pidFile())
	}
}

// end sends a signal to the host's daemon and waits until it has ended.
func (h *keptHost) end(ctx context.Context, signal unix.Signal) error {
	if !h.running() {
		return nil
	}
	if err := unix.Kill(h.runs.pid, signal); err != nil && !errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("signal %s: %w", h.daemon(), err)
	}
	select {
	case <-h.runs.done:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("end %s: it still runs; use `ovlctl lab kill`", h.daemon())
	}
}
