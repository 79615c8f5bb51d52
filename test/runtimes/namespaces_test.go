//go:build runtimes

package runtimes

import (
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"testing"

	"github.com/ovlnet/ovl/internal/lab"
	"github.com/ovlnet/ovl/internal/lab/labtest"
	"github.com/ovlnet/ovl/test/containerd"
)

// tree makes a directory that a container can have as its root.
const tree = `set -e
d=$1
mkdir -p $d/bin $d/etc $d/proc $d/sys $d/dev $d/run $d/tmp $d/usr
cp "$(command -v busybox)" $d/bin/busybox
for a in $(busybox --list); do [ $a = busybox ] || ln -sf busybox $d/bin/$a; done
echo ID=box >$d/etc/os-release
: >$d/etc/resolv.conf
`

// reach waits until a command line that pings succeeds.
func reach(t *testing.T, l *labtest.Lab, host string, args ...string) {
	t.Helper()
	labtest.Until(t, strings.Join(args, " ")+" on "+host, func() error {
		if r := l.Do(t, host, args...); r.Code != 0 {
			return errors.New(r.Stdout + r.Stderr)
		}
		return nil
	})
}

// TestLXC: a container of LXC is attached by a process in it.
func TestLXC(t *testing.T) {
	l := up(t, func(l *labtest.Lab, host string) { l.Run(t, host, "sh", "-c", containerd.Directories) })
	before := bareHosts(t, l)
	db := l.Sandbox(t, "h2", "db", "--network", "blue")
	l.Run(t, "h1", "sh", "-c", tree, "sh", "/run/box")
	l.Run(t, "h1", "sh", "-c", `set -e
mkdir -p /var/lib/lxc/box
: >/run/box.resolv
cat >/var/lib/lxc/box/config <<'END'
lxc.rootfs.path = dir:/run/box
lxc.uts.name = box
lxc.net.0.type = empty
lxc.mount.auto = proc:mixed sys:ro
lxc.mount.entry = /run/box.resolv etc/resolv.conf none bind,ro 0 0
lxc.init.cmd = /bin/busybox sleep 100000
lxc.apparmor.profile = unconfined
lxc.cgroup.dir = `+groupParent[1:]+`/box
END`)
	start := func() {
		t.Helper()
		l.Run(t, "h1", "sh", "-c", "lxc-start -n box -o /run/lxc.log -l INFO || { cat /run/lxc.log >&2; false; }")
		l.Run(t, "h1", "sh", "-c", `ovlctl attach --pid "$(lxc-info -pH -n box)" --name box --network blue --resolv-conf /run/box.resolv`)
	}
	start()
	inside := func(args ...string) []string {
		return append([]string{"lxc-attach", "-n", "box", "--", "/bin/busybox"}, args...)
	}
	reach(t, l, "h1", inside("ping", "-c", "1", "-W", "2", "db")...)
	reach(t, l, "h2", "ovlctl", "exec", "db", "--", "ping", "-n", "-c1", "-W2", "box")
	t.Run("the agent may be killed", func(t *testing.T) {
		if err := l.Kill(t.Context(), "h1", "agent"); err != nil {
			t.Fatal(err)
		}
		reach(t, l, "h1", inside("ping", "-c", "1", "-W", "2", db.Addr(t).String())...)
		if err := l.Start(t.Context(), "h1", "agent"); err != nil {
			t.Fatal(err)
		}
		reach(t, l, "h1", inside("ping", "-c", "1", "-W", "2", "db")...)
	})
	t.Run("a container that has stopped is forgotten, and may be attached again", func(t *testing.T) {
		l.Run(t, "h1", "lxc-stop", "-k", "-n", "box")
		labtest.Until(t, "box is forgotten", func() error {
			if out := l.Run(t, "h1", "ovlctl", "ps", "-o", "name"); out != "" {
				return fmt.Errorf("still there: %s", out)
			}
			return nil
		})
		start()
		reach(t, l, "h1", inside("ping", "-c", "1", "-W", "2", "db")...)
	})
	l.Run(t, "h1", "ovlctl", "detach", "box")
	l.Run(t, "h1", "lxc-stop", "-k", "-n", "box")
	l.Run(t, "h2", "ovlctl", "rm", "-f", "db")
	before.again(t, l)
}

// TestNspawn: systemd-nspawn runs a container in a namespace that is attached.
func TestNspawn(t *testing.T) {
	l := up(t, func(l *labtest.Lab, host string) { l.Run(t, host, "sh", "-c", containerd.Directories) })
	before := bareHosts(t, l)
	l.Sandbox(t, "h2", "db", "--network", "blue")
	l.Run(t, "h1", "sh", "-c", tree, "sh", "/run/box")
	l.Run(t, "h1", "sh", "-c", "ip netns add box && ovlctl attach --netns box --name box --network blue --resolv-conf /run/box.resolv")
	spawn := func(args ...string) *exec.Cmd {
		t.Helper()
		cmd, err := l.Command(t.Context(), "h1", append([]string{
			"systemd-nspawn", "--quiet", "--directory=/run/box", "--register=no", "--keep-unit", "--console=pipe", "--as-pid2",
			"--network-namespace-path=/run/netns/box", "--resolv-conf=off", "--bind-ro=/run/box.resolv:/etc/resolv.conf", "/bin/busybox",
		}, args...)...)
		if err != nil {
			t.Fatal(err)
		}
		return cmd
	}
	labtest.Until(t, "box reaches db", func() error {
		out, err := spawn("ping", "-c", "1", "-W", "2", "db").CombinedOutput()
		if err != nil {
			return fmt.Errorf("%w: %s", err, out)
		}
		return nil
	})
	running := spawn("httpd", "-f", "-p", "80", "-h", "/etc")
	if err := running.Start(); err != nil {
		t.Fatal(err)
	}
	reach(t, l, "h2", "ovlctl", "exec", "db", "--", "curl", "-sS", "-m", "2", "http://box/os-release")
	if err := lab.Interrupt(running); err != nil {
		t.Fatal(err)
	}
	_ = running.Wait() // ended by a signal
	l.Run(t, "h1", "sh", "-c", "ovlctl detach box && ip netns delete box")
	l.Run(t, "h2", "ovlctl", "rm", "-f", "db")
	before.again(t, l)
}
