//go:build runtimes

package runtimes

import (
	"errors"
	"testing"

	"github.com/ovlnet/ovl/internal/lab/labtest"
	"github.com/ovlnet/ovl/test/containerd"
	"github.com/ovlnet/ovl/test/machine"
)

// webUnit answers who asks for its name.
const webUnit = `set -e
cat >$1/etc/systemd/system/web.service <<'END'
[Unit]
After=network.target
[Service]
ExecStart=/usr/bin/busybox httpd -f -p 80 -h /etc
[Install]
WantedBy=multi-user.target
END
systemctl --root=$1 enable web.service
`

// TestNspawnBoots: systemd-nspawn boots a whole system in a namespace that is attached.
func TestNspawnBoots(t *testing.T) {
	l := up(t, func(l *labtest.Lab, host string) { l.Run(t, host, "sh", "-c", containerd.Directories) })
	before := bareHosts(t, l)
	l.Sandbox(t, "h2", "db", "--network", "blue")
	l.Run(t, "h1", "sh", "-c", "ip netns add box && ovlctl attach --netns box --name box --network blue --resolv-conf /run/box.resolv")
	m := machine.Plant(t, l, "h1", "box", machine.Config{Group: groupParent, Netns: "/run/netns/box", Args: []string{"--bind-ro=/run/box.resolv:/etc/resolv.conf"}})
	l.Run(t, "h1", "sh", "-c", webUnit, "sh", m.Root())
	m.Boot(t)
	together := func(t *testing.T) {
		t.Helper()
		labtest.Until(t, "box reaches db", func() error {
			if r := m.Do(t, "ping", "-n", "-c", "1", "-W", "2", "db"); r.Code != 0 {
				return errors.New(r.Stdout + r.Stderr)
			}
			return nil
		})
		reach(t, l, "h2", "ovlctl", "exec", "db", "--", "curl", "-sS", "-m", "2", "http://box/hostname")
	}
	together(t)
	t.Run("it boots again", func(t *testing.T) {
		m.PowerOff(t)
		m.Boot(t)
		together(t)
	})
	t.Run("its power is cut", func(t *testing.T) {
		m.Kill(t)
		m.Boot(t)
		together(t)
	})
	m.PowerOff(t)
	l.Run(t, "h1", "sh", "-c", "ovlctl detach box && ip netns delete box")
	l.Run(t, "h2", "ovlctl", "rm", "-f", "db")
	before.again(t, l)
}
