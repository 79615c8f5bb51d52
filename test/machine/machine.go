// Package machine boots systemd on hosts of a lab, by systemd-nspawn: what the units of
// deploy/ say is obeyed by nobody else. A machine is the host that it runs on, with an
// init of its own: it has the host's network, or a namespace that somebody else made.
//
// It must never start a unit of the machine that the tests run on: the tree that it boots
// is that machine's root, but with no unit enabled that a test has not enabled. Its
// invariant: what it starts ends with the lab, and what is written in its tree goes with it.
package machine

import (
	"context"
	"errors"
	"os/exec"
	"strings"
	"testing"

	"github.com/ovlnet/ovl/internal/lab/labtest"
)

// Config says how a machine boots.
type Config struct {
	// Group is the control group below which all of it is, such as "/ovl-lab".
	Group string
	// Netns is the path of the network namespace that it is in; empty: the host's own.
	Netns string
	// Args are further ones of systemd-nspawn, such as --bind=FROM:TO.
	Args []string
}

// Machine is systemd on a host of a lab.
type Machine struct {
	*labtest.Lab
	host, name string
	conf       Config
	nspawn     *exec.Cmd
}

// plant makes a machine's tree of the one that the tests run on, which stays as it is. Of
// that one's units none is started, and nothing of it is mounted.
const plant = `set -e
d=/run/machine/$1
mkdir -p $d
mount -t tmpfs machine $d
mkdir $d/up $d/work $d/root
mount -t overlay -o lowerdir=/,upperdir=$d/up,workdir=$d/work machine $d/root
cd $d/root
rm -rf etc/systemd/system etc/fstab etc/cni etc/docker etc/default/docker var/lib/ovl var/lib/docker
mkdir -p etc/systemd/system
ln -s /lib/systemd/system/multi-user.target etc/systemd/system/default.target
for unit in getty.target systemd-timesyncd.service networking.service systemd-networkd.service systemd-resolved.service; do
	ln -s /dev/null etc/systemd/system/$unit
done
# Engines make control groups, which systemd-nspawn leaves to be read.
cat >etc/systemd/system/groups.service <<'END'
[Unit]
DefaultDependencies=no
Before=sysinit.target
[Service]
Type=oneshot
ExecStart=/bin/sh -c 'for d in /sys/fs/cgroup/*; do mount -o remount,bind,rw $d || true; done'
END
mkdir etc/systemd/system/sysinit.target.wants
ln -s ../groups.service etc/systemd/system/sysinit.target.wants/
# Without an ID it would be the first boot, which enables all units.
tr -d - </proc/sys/kernel/random/uuid >etc/machine-id
echo "$1" >etc/hostname
`

// boot replaces itself by a machine. The API of the kernel is writable within, as on a
// real one. Its control groups are apart from those of others that boot meanwhile.
const boot = `set -e
name=$1 group=$2
shift 2
for hierarchy in systemd unified .; do # the last: where there is but one
	[ -e /sys/fs/cgroup/$hierarchy/cgroup.procs ] || continue
	mkdir -p /sys/fs/cgroup/$hierarchy$group/$name
	echo $$ >/sys/fs/cgroup/$hierarchy$group/$name/cgroup.procs
done
echo $$ >/run/machine/$name.pid
export SYSTEMD_NSPAWN_API_VFS_WRITABLE=yes SYSTEMD_NSPAWN_LOCK=0
exec systemd-nspawn --quiet --directory=/run/machine/$name/root --machine=$name --register=no --keep-unit --console=pipe \
	--capability=all --system-call-filter='add_key keyctl bpf' --resolv-conf=off --timezone=off --link-journal=no "$@" --boot </dev/null >>/var/log/ovl/$name.log 2>&1
`

// Plant makes a machine's tree on a host, in which files may be put before it boots.
func Plant(tb testing.TB, l *labtest.Lab, host, name string, c Config) *Machine {
	tb.Helper()
	m := &Machine{Lab: l, host: host, name: name, conf: c}
	l.Run(tb, host, "sh", "-c", plant, "sh", name)
	tb.Cleanup(func() {
		if tb.Failed() {
			cmd, err := m.Command(context.WithoutCancel(tb.Context()), host, m.within("journalctl", "--no-pager", "--boot", "--lines=80")...)
			if err == nil {
				out, _ := cmd.CombinedOutput() // for people
				tb.Logf("the journal of %s:\n%s", name, out)
			}
		}
	})
	return m
}

// Root is the machine's tree, as its host sees it.
func (m *Machine) Root() string { return "/run/machine/" + m.name + "/root" }

// Boot boots the machine and returns when it is up.
func (m *Machine) Boot(tb testing.TB) {
	tb.Helper()
	args := append([]string{"setsid", "-w", "sh", "-c", boot, "sh", m.name, m.conf.Group}, m.conf.Args...)
	if m.conf.Netns != "" {
		args = append(args, "--network-namespace-path="+m.conf.Netns)
	}
	cmd, err := m.Command(tb.Context(), m.host, args...)
	if err != nil {
		tb.Fatal(err)
	}
	cmd.Cancel = func() error { return nil } // the context of a test ends before its cleanups: the lab ends the machine
	if err := cmd.Start(); err != nil {
		tb.Fatal(err)
	}
	m.nspawn = cmd
	labtest.Until(tb, "systemd of "+m.name+" answers", func() error {
		if r := m.Do(tb, "systemctl", "show", "--property=Version"); r.Code != 0 {
			return errors.New(r.Stderr)
		}
		return nil
	})
	// It waits for what starts at boot. What else the tree has may fail there, where it has
	// neither devices nor a clock of its own: degraded.
	switch state := strings.TrimSpace(m.Do(tb, "systemctl", "is-system-running", "--wait").Stdout); state {
	case "running":
	case "degraded":
		tb.Logf("%s is %s: %s", m.name, state, m.Do(tb, "systemctl", "--failed", "--no-legend").Stdout)
	default:
		tb.Fatalf("%s is %s", m.name, state)
	}
}

// within returns the command line by which its host runs a command on the machine.
func (m *Machine) within(args ...string) []string {
	// The first process of the machine is the one child of systemd-nspawn.
	return append([]string{"sh", "-c", `
		init=$(pgrep -P "$(cat "/run/machine/$1.pid")") || { echo "machine $1 does not run" >&2; exit 1; }
		shift
		exec nsenter -t "$init" -m -u -i -n -p -C -r -w \
			env -i HOME=/root PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin "$@"`, "sh", m.name}, args...)
}

// Do runs a command on the machine.
func (m *Machine) Do(tb testing.TB, args ...string) labtest.Result {
	tb.Helper()
	return m.Lab.Do(tb, m.host, m.within(args...)...)
}

// Run runs a command on the machine, which must succeed, and returns what it printed.
func (m *Machine) Run(tb testing.TB, args ...string) string {
	tb.Helper()
	r := m.Do(tb, args...)
	if r.Code != 0 {
		tb.Fatalf("%s on %s: exit code %d: %s%s", strings.Join(args, " "), m.name, r.Code, r.Stdout, r.Stderr)
	}
	return strings.TrimSpace(r.Stdout)
}

// Show returns a property of a unit.
func (m *Machine) Show(tb testing.TB, unit, property string) string {
	tb.Helper()
	return m.Run(tb, "systemctl", "show", "--property="+property, "--value", unit)
}

// PowerOff shuts the machine down, as its user does.
func (m *Machine) PowerOff(tb testing.TB) {
	tb.Helper()
	m.Run(tb, "systemctl", "poweroff")
	_ = m.nspawn.Wait() // how systemd-nspawn ends is its own affair
}

// Kill ends all that runs on the machine at once, as a power cut does.
func (m *Machine) Kill(tb testing.TB) {
	tb.Helper()
	m.Lab.Run(tb, m.host, "sh", "-c", `kill -9 "$(pgrep -P "$(cat "/run/machine/$1.pid")")"`, "sh", m.name)
	_ = m.nspawn.Wait() // as above
}
