package lab

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// Enter replaces this process by a command on a host of the lab; it returns
// only if that fails. Terminal, signals and exit code are the command's own.
func (l *Lab) Enter(host string, args ...string) error {
	argv, env, err := l.enter(host, args)
	if err != nil {
		return err
	}
	return fmt.Errorf("start %s: %w", argv[0], syscall.Exec(argv[0], argv, env))
}

// Command returns a command on a host of the lab, to be started by the caller.
// When ctx ends it is interrupted with all that it started.
func (l *Lab) Command(ctx context.Context, host string, args ...string) (*exec.Cmd, error) {
	argv, env, err := l.enter(host, args)
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Env = env
	// nsenter waits for the command outside the lab's PID namespace; to signal
	// both needs their process group.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return unix.Kill(-cmd.Process.Pid, unix.SIGKILL) }
	return cmd, nil
}

// Interrupt sends SIGINT to a command of [Lab.Command] that runs.
func Interrupt(cmd *exec.Cmd) error {
	if err := unix.Kill(-cmd.Process.Pid, unix.SIGINT); err != nil {
		return fmt.Errorf("interrupt %s: %w", cmd.Path, err)
	}
	return nil
}

// Exec runs a command on a host and returns what it wrote to stdout. The error
// of a command that failed wraps [*exec.ExitError] and quotes its stderr.
func (l *Lab) Exec(ctx context.Context, host string, args ...string) (string, error) {
	cmd, err := l.Command(ctx, host, args...)
	if err != nil {
		return "", err
	}
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return stdout.String(), fmt.Errorf("run %s on %s: %w: %s",
			strings.Join(args, " "), host, err, strings.TrimSpace(stderr.String()))
	}
	return stdout.String(), nil
}

// enter returns the command line and the environment of a command on a host.
//
// It goes in two steps: to the keeper's namespaces first, since the PIDs of
// the hosts are known in the lab's PID namespace only, then to the host's.
// nsenter does it since a Go program cannot: setns(2) refuses a process with
// several threads a user or mount namespace.
func (l *Lab) enter(host string, args []string) (argv, env []string, err error) {
	if len(args) == 0 {
		return nil, nil, errors.New("run a command: none given")
	}
	h, err := l.Host(host)
	if err != nil {
		return nil, nil, err
	}
	if !l.Alive() {
		return nil, nil, fmt.Errorf("enter lab %s: it has crashed; remove it with `ovlctl lab down --name %s`", l.Name(), l.Name())
	}
	nsenter, err := lookPath("nsenter")
	if err != nil {
		return nil, nil, missingTools()
	}
	argv = []string{nsenter, "-t", strconv.Itoa(l.record.Keeper)}
	if l.record.User {
		argv = append(argv, "-U", "--preserve-credentials")
	}
	argv = append(argv, "-p", "-m", "--", nsenter, "-t", strconv.Itoa(h.PID), "-m", "-n", "-u", "--")
	return append(argv, args...), environment(os.Environ(), l.record.Config), nil
}

// environment returns env as it is on a host: the lab's binaries first in
// PATH, the lab's controller and its admin, and nothing that names another.
func environment(env []string, c Config) []string {
	path := sbin
	env = slices.DeleteFunc(slices.Clone(env), func(kv string) bool {
		name, value, _ := strings.Cut(kv, "=")
		if name == "PATH" && value != "" {
			path = value + ":" + sbin
		}
		return name == "PATH" || strings.HasPrefix(name, "OVL_") && !strings.HasPrefix(name, "OVL_LOG_")
	})
	return append(env, "PATH="+c.BinDir+":"+path, "OVL_CONTROLLER="+c.controller(), "OVL_CA="+copyCA, "OVL_CERT="+copyAdmin, "OVL_LAB="+c.Name)
}
