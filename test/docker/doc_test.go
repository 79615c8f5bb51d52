//go:build docker

// Package docker tests ovl with real Docker engines: one in each host of a lab,
// beside the host's agent, of each version that there is.
//
// It must never leave anything of an engine on the machine: an engine's socket,
// images, containers and mounts are within the namespaces of its host, its shims
// and containers are processes of the lab, and what is left in the machine's
// control groups when a lab is killed is removed by the next run. Its invariant is
// that of labtest: a lab, and all that engines made in it, ends with its test.
//
// It needs root, and what `deploy/need.sh docker` installs: `make test-docker`.
package docker

import (
	"fmt"
	"os"
	"testing"

	"github.com/ovlnet/ovl/internal/lab/labtest"
)

func TestMain(m *testing.M) {
	if code, is := labtest.Program(); is {
		os.Exit(code)
	}
	if name := os.Getenv(floorEnv); name != "" {
		fmt.Fprintln(os.Stderr, serveFloor(name))
		os.Exit(1)
	}
	if os.Geteuid() != 0 {
		_, _ = os.Stderr.WriteString("engines need root: sudo make test-docker\n")
		os.Exit(1)
	}
	sweepGroups() // of a run that was killed
	code := labtest.Code(m)
	sweepGroups()
	os.Exit(code)
}
