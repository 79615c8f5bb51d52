package lab

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// hostSpec is what the process that holds a host's namespaces needs to know.
type hostSpec struct {
	Config  Config `json:"config"`
	Name    string `json:"name"`
	Address string `json:"address"`
}

// hostReadyFD is the pipe on which such a process says that it is ready.
const hostReadyFD = 3

const hostReady = "ready"

// startHost starts the process that holds a host's namespaces and waits until
// its mounts are made.
func startHost(c *children, s hostSpec) (*child, error) {
	spec, err := json.Marshal(s)
	if err != nil {
		return nil, fmt.Errorf("encode host: %w", err)
	}
	r, w, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("make pipe: %w", err)
	}
	defer r.Close()
	self := filepath.Join(s.Config.BinDir, keeperBinary)
	p, err := c.start([]string{self, "lab", HostCommand, string(spec)}, &syscall.ProcAttr{
		Dir:   "/",
		Env:   os.Environ(),
		Files: []uintptr{0, 1, 2, w.Fd()},
		Sys:   &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNET | unix.CLONE_NEWNS | unix.CLONE_NEWUTS, Setsid: true},
	})
	_ = w.Close()
	if err != nil {
		return nil, err
	}
	said, err := bufio.NewReader(r).ReadString('\n')
	if said = strings.TrimSpace(said); said == hostReady {
		return p, nil
	}
	if said == "" {
		return nil, fmt.Errorf("start its process: it ended: %w", err)
	}
	return nil, errors.New(said)
}

// HoldHost is the main function of the process that holds a host's namespaces:
// it makes the host's mounts and then only waits to be killed. On [Outside] it
// also answers on [EchoPort].
func HoldHost(spec string) error {
	if _, err := unix.FcntlInt(hostReadyFD, unix.F_GETFD, 0); err != nil {
		return errors.New("hold a host of a lab: this is not started by a keeper; use `ovlctl lab up`")
	}
	ready := os.NewFile(hostReadyFD, "ready")
	s, err := prepareHost(spec)
	if err != nil {
		fmt.Fprintln(ready, strings.ReplaceAll(err.Error(), "\n", "; "))
		return err
	}
	if s.Name == Outside {
		l, err := listenEcho(context.Background(), fmt.Sprintf(":%d", EchoPort))
		if err != nil {
			fmt.Fprintln(ready, err)
			return err
		}
		go func() { _ = serveEcho(l) }() // until this process ends
	}
	fmt.Fprintln(ready, hostReady)
	_ = ready.Close()
	for {
		_ = unix.Pause()
	}
}

func prepareHost(spec string) (hostSpec, error) {
	var s hostSpec
	if err := json.Unmarshal([]byte(spec), &s); err != nil {
		return s, fmt.Errorf("decode host: %w", err)
	}
	if err := unix.Sethostname([]byte(s.Name)); err != nil {
		return s, fmt.Errorf("set hostname: %w", err)
	}
	return s, hostMounts(s)
}

// hostFiles are the files that a host has of its own.
func hostFiles(s hostSpec) map[string]string {
	var hosts strings.Builder
	hosts.WriteString("127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n")
	for i, name := range s.Config.names() {
		fmt.Fprintf(&hosts, "%s %s\n", s.Config.address(part(i)).Addr(), name)
	}
	files := map[string]string{
		"/etc/hostname":    s.Name + "\n",
		"/etc/hosts":       hosts.String(),
		"/etc/resolv.conf": "# A lab has no resolver of its own; its hosts are in /etc/hosts.\noptions timeout:1 attempts:1\n",
	}
	if s.Config.Steady {
		sum := sha256.Sum256([]byte("lab " + s.Name))
		files["/var/lib/ovl/host-id"] = hex.EncodeToString(sum[:16]) + "\n"
	}
	return files
}
