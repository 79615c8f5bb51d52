//go:build docker

package docker

import (
	"errors"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/ovlnet/ovl/internal/lab"
	"github.com/ovlnet/ovl/internal/lab/labtest"
	"github.com/ovlnet/ovl/test/machine"
)

// install puts ovl and its units into a machine's tree, as docs/guide/quickstart.md does,
// and the settings of a controller that listens on this host, which only one starts.
const install = `set -e
root=$1 bin=$2 deploy=$3 address=$4
cp "$bin/ovl-agent" "$bin/ovlctl" "$bin/ovl-controller" "$root/usr/local/bin/"
cp "$deploy"/systemd/*.service "$root/etc/systemd/system/"
mkdir -p "$root/etc/ovl" "$root/etc/iproute2/rt_protos.d" "$root/etc/docker"
cp "$deploy/rt_protos.d/ovl.conf" "$root/etc/iproute2/rt_protos.d/"
printf '%s\n' "OVL_LISTEN=$address:6790" "OVL_ETCD_LISTEN=$address:6779" >"$root/etc/ovl/controller.env"
mkdir -p /run/engine
cat >"$root/etc/docker/daemon.json" `

// forget takes away what the kernel holds of a host's networks, as its boot does.
const forget = `
for l in $(ip -o link | grep -oE ': (ov|docker|br-|veth)[^@:]*' | cut -c3-); do ip link del $l 2>/dev/null; done
nft flush ruleset`

// booted is a machine with systemd, on which ovl and Docker are installed.
type booted struct{ *machine.Machine }

// boot boots such a machine on a host of a lab.
func boot(t *testing.T, l *labtest.Lab, host string) booted {
	t.Helper()
	deploy, err := filepath.Abs("../../deploy")
	if err != nil {
		t.Fatal(err)
	}
	h, err := l.Host(host)
	if err != nil {
		t.Fatal(err)
	}
	// An overlay is no upper layer of the engine's own.
	m := booted{machine.Plant(t, l, host, "m"+host, machine.Config{Group: groupParent, Args: []string{"--bind=/run/engine:/var/lib/docker"}})}
	settings := strings.Replace((&engine{}).settings(), root, "/var/lib/docker", 1)
	l.Run(t, host, "sh", "-c", install+"<<'END'\n"+settings+"\nEND", "sh", m.Root(), filepath.Dir(labtest.Binary("ovl-agent")), deploy, h.Address)
	m.Boot(t)
	return m
}

// join has the machine join the cluster, which starts the agent's service and has it
// started at boot.
func (m booted) join(t *testing.T, controller, token string) {
	t.Helper()
	m.Run(t, "ovl-agent", "join", "--controller", controller, "--token", token)
}

// monotonic returns when a unit was at a point of its life, in µs since boot.
func (m booted) monotonic(t *testing.T, unit, property string) int {
	t.Helper()
	text := m.Show(t, unit, property)
	at, err := strconv.Atoi(text)
	if err != nil || at == 0 {
		t.Fatalf("%s of %s: %q", property, unit, text)
	}
	return at
}

// refused lists what the kernel has refused a service of the machine, for want of a
// capability that its unit takes away.
func (m booted) refused(t *testing.T, unit string) string {
	t.Helper()
	return m.Do(t, "journalctl", "--quiet", "--no-pager", "--boot", "--unit="+unit, "--grep=not permitted|permission denied").Stdout
}

// TestUnits: what deploy/systemd says is obeyed by a real systemd, on two machines that are
// made as docs/guide/quickstart.md has it. The agent starts before Docker, so that containers
// which are always restarted are there after a boot; and nothing that the units forbid is
// needed.
func TestUnits(t *testing.T) {
	l := labtest.Up(t, lab.Config{Hosts: 2, Bare: true})
	m, far := boot(t, l, "h1"), boot(t, l, "h2")
	m.Run(t, "systemctl", "enable", "--now", "ovl-controller.service")
	h1, err := l.Host("h1")
	if err != nil {
		t.Fatal(err)
	}
	var token string
	labtest.Until(t, "the controller has left a token", func() error {
		r := m.Do(t, "cat", "/var/lib/ovl-controller/identity/join-token")
		if token = strings.TrimSpace(r.Stdout); r.Code != 0 {
			return errors.New(r.Stderr)
		}
		return nil
	})
	m.join(t, h1.Address+":6790", token)
	far.join(t, h1.Address+":6790", token)
	m.Run(t, "systemctl", "enable", "--now", "docker.service")
	m.Run(t, "sh", "-c", importImage)
	m.Run(t, "ovlctl", "network", "create", "blue", "--subnet", "10.64.0.0/16", "--subnet", "fd64::/48")
	labtest.Until(t, "Docker has network blue", func() error {
		if r := m.Do(t, "docker", "network", "inspect", "blue"); r.Code != 0 {
			return errors.New(r.Stderr)
		}
		return nil
	})
	m.Run(t, "docker", "run", "-d", "--stop-signal", "KILL", "--name", "web", "--network", "blue", "--restart", "always", "-p", "8080:80", image, "httpd", "-f", "-p", "80", "-h", "/etc")
	far.Run(t, "ovlctl", "run", "-d", "--name", "db", "--network", "blue")
	together := func(t *testing.T) {
		t.Helper()
		labtest.Until(t, "web reaches db", func() error {
			if r := m.Do(t, "docker", "exec", "web", "ping", "-c", "1", "-W", "1", "db"); r.Code != 0 {
				return errors.New(r.Stdout + r.Stderr)
			}
			return nil
		})
		for _, from := range [][]string{{"ovlctl", "exec", "db", "--", "curl", "-sS", "-m", "2", "http://web/hostname"}, {"curl", "-sS", "-m", "2", "http://" + h1.Address + ":8080/hostname"}} {
			labtest.Until(t, strings.Join(from, " ")+" answers", func() error {
				if r := far.Do(t, from...); r.Code != 0 {
					return errors.New(r.Stderr)
				}
				return nil
			})
		}
	}
	together(t)

	for name, end := range map[string]func(testing.TB){"it is shut down": m.PowerOff, "its power is cut": m.Kill} {
		if !t.Run(name, func(t *testing.T) {
			end(t)
			l.Run(t, "h1", "sh", "-c", forget)
			m.Boot(t)
			agent, engine := m.monotonic(t, "ovl-agent.service", "ActiveEnterTimestampMonotonic"), m.monotonic(t, "docker.service", "ExecMainStartTimestampMonotonic")
			if agent > engine {
				t.Errorf("the agent was ready at %d µs, after Docker was started, at %d", agent, engine)
			}
			if got := m.Run(t, "docker", "ps", "--format", "{{.Names}}"); got != "web" {
				t.Fatalf("running: %q, want web", got)
			}
			together(t)
		}) {
			return // as it is: its journal tells
		}
	}
	t.Run("the agent is killed, and is there again", func(t *testing.T) {
		m.Run(t, "systemctl", "kill", "--kill-whom=main", "--signal=KILL", "ovl-agent.service")
		labtest.Until(t, "systemd has started it again", func() error {
			if n, state := m.Show(t, "ovl-agent.service", "NRestarts"), m.Show(t, "ovl-agent.service", "ActiveState"); n != "1" || state != "active" {
				return fmt.Errorf("%s restarts, it is %s", n, state)
			}
			return nil
		})
		together(t)
		m.Run(t, "docker", "run", "--rm", "--network", "blue", image, "ping", "-c", "1", "-W", "5", "db")
	})
	t.Run("a restart of the agent is none of Docker", func(t *testing.T) {
		was := m.Show(t, "docker.service", "MainPID")
		m.Run(t, "systemctl", "restart", "ovl-agent.service")
		if now := m.Show(t, "docker.service", "MainPID"); now != was {
			t.Errorf("Docker has restarted: process %s, was %s", now, was)
		}
		together(t)
	})
	for _, each := range []booted{m, far} {
		if failed := each.Run(t, "systemctl", "list-units", "--failed", "--no-legend", "ovl-*", "docker*", "containerd*"); failed != "" {
			t.Errorf("failed: %s", failed)
		}
		for _, unit := range []string{"ovl-agent.service", "ovl-controller.service"} {
			if why := each.refused(t, unit); why != "" {
				t.Errorf("refused to %s: %s", unit, why)
			}
		}
	}
	m.Run(t, "docker", "rm", "-f", "web")
	m.PowerOff(t)
	far.PowerOff(t)
}
