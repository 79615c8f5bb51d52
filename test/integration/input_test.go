package integration

import (
	"strings"
	"testing"

	"github.com/ovlnet/ovl/internal/lab"
	"github.com/ovlnet/ovl/internal/lab/labtest"
)

// The exit codes of ovlctl.
const (
	failed      = 1
	usage       = 2
	notFound    = 3
	conflict    = 4
	unreachable = 6
)

// TestBadInput is the list of what people get wrong: each ends with one clear
// line and the right exit code, and nothing half-made.
func TestBadInput(t *testing.T) {
	t.Parallel()
	l := labtest.Up(t, lab.Config{Hosts: 1})
	l.Run(t, "h1", "ovlctl", "network", "create", "blue", "--subnet", "10.64.0.0/16", "--vni", "4097")
	l.Sandbox(t, "h1", "web", "--network", "blue")
	before := l.Dump(t, "h1")
	networks := l.Run(t, "h1", "ovlctl", "network", "ls", "-o", "json")
	subnets := l.Run(t, "h1", "ovlctl", "subnet", "ls", "-o", "json")
	for _, c := range []struct {
		args string
		code int
		says string // a word of the explanation
	}{
		{"network create x --subnet 10.64.4.0/22", conflict, "blue"},
		{"network create x --subnet 10.0.0.0/8", conflict, "blue"},
		{"network create x --subnet 192.168.77.0/24 --host-prefix 27", conflict, "h1"},
		{"network create x --subnet 10.70.0.1/16", usage, "10.70.0.0/16"},
		{"network create x --subnet 10.70.0.0/31", usage, "10.70.0.0/31"},
		{"network create x --subnet 10.70.0.0", usage, "10.70.0.0"},
		{"network create x --subnet 10.70.0.0/16 --host-prefix 15", usage, "15"},
		{"network create x --subnet 10.70.0.0/16 --host-prefix 31", usage, "31"},
		{"network create x --subnet 224.0.0.0/8", usage, "224"},
		{"network create x --subnet 127.0.0.0/8", usage, "127"},
		{"network create x --subnet 10.70.0.0/16 --vni 16777216", usage, "16777215"},
		{"network create x --subnet 10.70.0.0/16 --vni 4097", conflict, "4097"},
		{"network create x --subnet 10.70.0.0/16 --mtu 1", usage, "mtu"},
		{"network create x --subnet 10.70.0.0/16 --driver teleport", usage, "teleport"},
		{"network create Blue_Sky", usage, "Blue_Sky"},
		{"network create blue --subnet 10.71.0.0/16", conflict, "blue"},
		{"network create", usage, "NAME"},
		{"network inspect nope", notFound, "nope"},
		{"network rm nope --yes", notFound, "nope"},
		{"network rm blue --yes", conflict, "blue"},
		{"network rm blue", usage, "--yes"},
		{"network frobnicate", usage, "frobnicate"},
		{"network ls --no-such-flag", usage, "no-such-flag"},
		{"network ls -o xml", usage, "xml"},
		{"host inspect nope", notFound, "nope"},
		{"host rm h1 --yes", conflict, "h1"},
		{"endpoint inspect 10.64.255.1", notFound, "10.64.255.1"},
		{"run -d --name x --network nope", notFound, "nope"},
		{"run -d --name web --network blue --hostname y", conflict, "web"},
		{"run -d --name Not_A_Label --network blue", usage, "Not_A_Label"},
		{"run -d --name x --network blue --ip 10.9.9.9", usage, "10.9.9.9"},
		{"run -d --name x --network blue --mac 01:00:00:00:00:01", usage, "01:00:00:00:00:01"},
		{"exec nope -- true", notFound, "nope"},
		{"rm nope", notFound, "nope"},
		{"whois 10.99.99.99", notFound, "10.99.99.99"},
		{"network ls --controller 127.0.0.1:1 --timeout 2s", unreachable, "127.0.0.1:1"},
		{"network ls --controller no-such-host --timeout 5s", unreachable, "no-such-host"},
		{"agent status --socket /run/no-such.sock --timeout 2s", unreachable, "/run/no-such.sock"},
	} {
		t.Run(c.args, func(t *testing.T) {
			refused(t, l.Do(t, "h1", append([]string{"ovlctl"}, strings.Fields(c.args)...)...), c.code, c.says)
		})
	}
	if got := l.Run(t, "h1", "ovlctl", "network", "ls", "-o", "json"); got != networks {
		t.Errorf("networks afterwards: %s, want %s", got, networks)
	}
	if got := l.Run(t, "h1", "ovlctl", "subnet", "ls", "-o", "json"); got != subnets {
		t.Errorf("subnets afterwards: %s, want %s", got, subnets)
	}
	if after := l.Dump(t, "h1"); after != before {
		t.Errorf("the host is not as before: %s", labtest.Difference(before, after))
	}
	if out := l.Run(t, "h1", "ip", "netns"); strings.Contains(out, "x") {
		t.Errorf("namespaces afterwards: %s", out)
	}
}

func TestBadInputOfTheAgent(t *testing.T) {
	t.Parallel()
	l := labtest.Up(t, lab.Config{Hosts: 1, Bare: true})
	for _, c := range []struct {
		args string
		code int
		says string
	}{
		{"--etcd ftp://x", usage, "ftp://x"},
		{"--vxlan-port 0", usage, "vxlan-port"},
		{"--underlay-address 10.9.9.9", failed, "10.9.9.9"},
		{"--underlay-address 127.0.0.1", usage, "127.0.0.1"},
		{"--underlay-interface eth9", failed, "eth9"},
		{"--name Not_A_Label", usage, "Not_A_Label"},
		{"--no-such-flag", usage, "no-such-flag"},
		{"--config /no/such.yaml", usage, "/no/such.yaml"},
		{"teleport", usage, "teleport"},
	} {
		t.Run(c.args, func(t *testing.T) {
			refused(t, l.Do(t, "h1", append([]string{"timeout", "20", "ovl-agent"}, strings.Fields(c.args)...)...), c.code, c.says)
		})
	}
}

// refused checks that a command failed as it should: the code, nothing on
// stdout, and one line that says what is wrong.
func refused(t *testing.T, r labtest.Result, code int, says string) {
	t.Helper()
	if r.Code != code {
		t.Errorf("exit code %d, want %d; it says %s", r.Code, code, r.Stderr)
	}
	if r.Stdout != "" {
		t.Errorf("it writes to stdout: %s", r.Stdout)
	}
	if lines := strings.Count(r.Stderr, "\n"); lines != 1 {
		t.Errorf("the explanation has %d lines, want one: %s", lines, r.Stderr)
	}
	if !strings.Contains(r.Stderr, says) {
		t.Errorf("the explanation is %q, want it to say %s", r.Stderr, says)
	}
}
