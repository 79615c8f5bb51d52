//go:build runtimes

// Package runtimes tests ovl with real container runtimes, on hosts of a lab:
// containerd by its CRI and by ctr, Podman with its CNI back end, LXC and
// systemd-nspawn. Docker has its own, test/docker, and so has Kubernetes.
//
// It must never leave anything of a runtime on the machine: sockets, images, and
// mounts are within the namespaces of a host, and what is left in the machine's control
// groups when a lab is killed is removed by the next run. Its invariant is that of
// labtest: a lab, and all that runtimes made in it, ends with its test.
//
// It needs root, and what `deploy/need.sh runtimes` installs: `make test-runtimes`.
package runtimes

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/ovlnet/ovl/internal/lab/labtest"
)

// groupParent is the control group below which containers have theirs.
const groupParent = "/ovl-lab"

// criEnv names the program that test/runtimes/cri is built to.
const criEnv = "OVL_CRI"

func TestMain(m *testing.M) {
	code, err := run(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

func run(m *testing.M) (code int, err error) {
	if os.Geteuid() != 0 {
		return 0, errors.New("runtimes need root: sudo make test-runtimes")
	}
	dir, err := os.MkdirTemp("", "ovl-cri")
	if err != nil {
		return 0, err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	cri := filepath.Join(dir, "cri")
	build := exec.CommandContext(context.Background(), "go", "build", "-C", "cri", "-o", cri, ".")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return 0, fmt.Errorf("build the CRI's client: %w: %s", err, out)
	}
	if err := os.Setenv(criEnv, cri); err != nil {
		return 0, err
	}
	sweep() // what a run that was killed has left
	defer sweep()
	return labtest.Code(m), nil
}

// sweep removes the control groups of containers that are no more, and those that
// LXC and Podman keep at the root for processes on their way elsewhere.
func sweep() {
	for _, group := range []string{groupParent, "/lxc.pivot", "/libpod_parent"} {
		labtest.SweepGroups(group)
	}
}
