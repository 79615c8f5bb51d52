//go:build docker

package docker

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ovlnet/ovl/internal/lab"
	"github.com/ovlnet/ovl/internal/lab/labtest"
)

// TestEnginesAreApart: engines on two hosts of a lab have their own containers,
// networks and rules, and nothing of them is seen on the machine.
func TestEnginesAreApart(t *testing.T) {
	everyEngine(t, func(t *testing.T, v version) {
		machine := footprint(t)
		l := labtest.Up(t, lab.Config{Hosts: 2, Bare: true})
		one, two := startEngine(t, l, "h1", v, config{}), startEngine(t, l, "h2", v, config{})
		one.run(t, "--name", "web")
		if got := one.docker(t, "ps", "--format", "{{.Names}}"); got != "web" {
			t.Errorf("containers of the first engine: %q", got)
		}
		if got := two.docker(t, "ps", "-aq"); got != "" {
			t.Errorf("the second engine has %q", got)
		}
		if got := one.docker(t, "version", "--format", "{{.Server.Version}}"); !strings.HasPrefix(got, v.name) && v.dir == "" {
			t.Errorf("version %s, want %s", got, v.name)
		}
		if now := footprint(t); now != machine {
			t.Errorf("the machine has changed:\n%s", labtest.Difference(machine, now))
		}
	})
}

// footprint is what an engine would leave on the machine: mounts, sockets, rules.
func footprint(t *testing.T) string {
	t.Helper()
	mounts, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for line := range strings.Lines(string(mounts)) {
		if strings.Contains(line, "docker") || strings.Contains(line, "containerd") || strings.Contains(line, root) {
			all = append(all, line)
		}
	}
	for _, pattern := range []string{"/run/docker*", "/run/containerd*", "/var/lib/docker*", "/var/run/docker*", "/etc/docker*", "/sys/class/net/docker0"} {
		found, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, found...)
	}
	return strings.Join(all, "\n")
}
