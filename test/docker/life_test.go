//go:build docker

package docker

import (
	"errors"
	"testing"

	"github.com/ovlnet/ovl/internal/lab"
	"github.com/ovlnet/ovl/internal/lab/labtest"
)

// webAndDB starts web on h1 and db on h2, on network blue, and waits until they know each
// other.
func webAndDB(t *testing.T, l *labtest.Lab, one, two *engine, more ...string) {
	t.Helper()
	l.Run(t, "control", "ovlctl", "network", "create", "blue")
	one.network(t, "blue")
	two.network(t, "blue")
	one.run(t, append([]string{"--name", "web", "--network", "blue"}, more...)...)
	two.run(t, append([]string{"--name", "db", "--network", "blue"}, more...)...)
	together(t, one, two)
}

// together waits until web and db reach each other by name.
func together(t *testing.T, one, two *engine) {
	t.Helper()
	for _, from := range []struct {
		*engine
		name, to string
	}{{one, "web", "db"}, {two, "db", "web"}} {
		labtest.Until(t, from.name+" reaches "+from.to, func() error {
			if r := from.try(t, "exec", from.name, "ping", "-c", "1", "-W", "1", from.to); r.Code != 0 {
				return errors.New(r.Stdout + r.Stderr)
			}
			return nil
		})
	}
}

// TestNamesComeBack: whoever restarts, engine or agent, networks stay the same ones and
// containers have their names again.
func TestNamesComeBack(t *testing.T) {
	everyEngine(t, func(t *testing.T, v version) {
		l, one, two := twoEngines(t, v, config{})
		webAndDB(t, l, one, two, "--restart", "always")
		id := one.network(t, "blue").ID
		one.stop(t)
		two.knows(t, "db", "web", "NXDOMAIN")
		one.start(t)
		together(t, one, two)
		if err := l.Kill(t.Context(), "h1", lab.Agent); err != nil {
			t.Fatal(err)
		}
		two.mustReach(t, "db", one.address(t, "web", "blue"))
		if err := l.Start(t.Context(), "h1", lab.Agent); err != nil {
			t.Fatal(err)
		}
		together(t, one, two)
		if now := one.network(t, "blue").ID; now != id {
			t.Errorf("network blue was made again: %s, was %s", now, id)
		}
		healthy(t, l, "h1", "h2")
		one.docker(t, "rm", "-f", "web")
		one.cleared(t)
	})
}

// TestHostReboots: agent first, engine next, and containers that are always restarted
// are there again, by name.
func TestHostReboots(t *testing.T) {
	everyEngine(t, func(t *testing.T, v version) {
		l, one, two := twoEngines(t, v, config{})
		webAndDB(t, l, one, two, "--restart", "always")
		reboot(t, l, one)
		together(t, one, two)
		if got := one.docker(t, "ps", "--format", "{{.Names}}"); got != "web" {
			t.Errorf("running on h1: %q", got)
		}
		healthy(t, l, "h1", "h2")
		one.docker(t, "rm", "-f", "web")
		one.cleared(t)
	})
}

// reboot ends all that runs on an engine's host at once, and all that the kernel and
// /run hold of it, as a power failure does; then agent and engine start, in this order.
func reboot(t *testing.T, l *labtest.Lab, e *engine) {
	t.Helper()
	if err := l.Kill(t.Context(), e.host, lab.Agent); err != nil {
		t.Fatal(err)
	}
	e.kill(t)
	l.Run(t, e.host, "sh", "-c", `
		me=$(readlink /proc/self/ns/mnt)
		for p in /proc/[0-9]*; do
			case "$(cat $p/comm 2>/dev/null)" in containerd*|docker*)
				[ "$(readlink $p/ns/mnt)" = "$me" ] && kill -9 ${p#/proc/} ;;
			esac
		done
		for c in /run/docker/containerd/daemon/io.containerd.runtime.v2.task/moby/*/init.pid; do
			[ -e "$c" ] && kill -9 $(cat $c)
		done
		grep -o ' /run/docker[^ ]*' /proc/self/mounts | sort -r | xargs -r umount -l
		grep -o ' /run/engine[^ ]*' /proc/self/mounts | sort -r | xargs -r umount -l
		rm -rf /run/docker /run/docker.* /run/ovl/agent.sock
		for l in $(ip -o link | grep -oE ': (ov|docker|br-|veth)[^@:]*' | cut -c3-); do ip link del $l 2>/dev/null; done
		iptables -F; iptables -X; iptables -t nat -F; iptables -t nat -X; iptables -t raw -F; iptables -t raw -X
		nft flush ruleset
		true`)
	if err := l.Start(t.Context(), e.host, lab.Agent); err != nil {
		t.Fatal(err)
	}
	e.start(t)
}
