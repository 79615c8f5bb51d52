// Package fault breaks hosts of a lab in every way that is known to hurt, and
// looks whether they come back: by themselves, whole, and without a packet
// lost where none need be.
//
// What is broken is put in place by the agent's next pass; how long that took
// is logged, and measured by test/bench. Here it must only happen.
package fault

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/ovlnet/ovl/internal/lab"
	"github.com/ovlnet/ovl/internal/lab/labtest"
)

func TestMain(m *testing.M) { labtest.Main(m) }

// sessionTTL is how soon a silent host counts as down here: the shortest that
// the agent takes, so that an outage of a few seconds lasts several of them.
const sessionTTL = 2 * time.Second

// outage is how long etcd stays away: ten sessions, or as long as
// OVL_FAULT_OUTAGE says (a minute is a good value, and 36h still works).
func outage(t *testing.T) time.Duration {
	t.Helper()
	s := os.Getenv("OVL_FAULT_OUTAGE")
	if s == "" {
		return 10 * sessionTTL
	}
	d, err := time.ParseDuration(s)
	if err != nil {
		t.Fatalf("OVL_FAULT_OUTAGE: %v", err)
	}
	return d
}

// pairOfHosts is a lab of two hosts with a container of the network blue on
// each, a and b, which reach each other.
func pairOfHosts(t *testing.T) (l *labtest.Lab, a, b labtest.Container) {
	t.Helper()
	l = labtest.Up(t, lab.Config{Hosts: 2, AgentArgs: []string{"--session-ttl", sessionTTL.String()}})
	l.Run(t, "h1", "ovlctl", "network", "create", "blue", "--subnet", "10.64.0.0/16", "--subnet", "fd64::/48")
	a = l.Sandbox(t, "h1", "a", "--network", "blue")
	b = l.Sandbox(t, "h2", "b", "--network", "blue")
	reaches(t, a, b)
	reaches(t, b, a)
	return l, a, b
}

// reaches waits until a reaches all addresses of b.
func reaches(t *testing.T, a, b labtest.Container) {
	t.Helper()
	for _, addr := range b.Addrs(t, "eth0") {
		labtest.Until(t, fmt.Sprintf("%s reaches %s", a, b), func() error { return a.Reaches(t, addr) })
	}
}

// atRest waits until the agents of all members would change nothing.
func atRest(t *testing.T, l *labtest.Lab) {
	t.Helper()
	for _, host := range l.Members() {
		labtest.Until(t, host+" is at rest", func() error { return l.AtRest(t, host) })
	}
}

// ready waits until the controller says that all hosts are.
func ready(t *testing.T, l *labtest.Lab) {
	t.Helper()
	for _, host := range l.Members() {
		hostIs(t, l, host, "ready")
	}
}

// hostIs waits until the controller says that of a host.
func hostIs(t *testing.T, l *labtest.Lab, host, state string) {
	t.Helper()
	labtest.Until(t, host+" is "+state, func() error {
		r := l.Do(t, lab.Control, "ovlctl", "host", "inspect", host, "-o", "json")
		if r.Code != 0 || !strings.Contains(r.Stdout, fmt.Sprintf("%q: %q", "state", state)) {
			return fmt.Errorf("exit code %d: %s%s", r.Code, r.Stdout, r.Stderr)
		}
		return nil
	})
}

// must stops the test on an error of the lab itself.
func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
