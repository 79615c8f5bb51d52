// Package containerd runs containerd on hosts of a lab, for tests of what stands
// on it. Its images are made here: no registry is asked for anything.
//
// It must never start anything on the machine itself, nor share a directory
// between two hosts. Its invariant: what it starts ends with the lab.
package containerd

import (
	"testing"

	"github.com/ovlnet/ovl/internal/lab/labtest"
)

// Socket is where containerd listens, on each host.
const Socket = "/run/containerd/containerd.sock"

// The images that each host has: one whose container only waits, and one with
// the programs of busybox and test/containerd/peer.
const (
	Pause   = "ovl.test/pause:1"
	Busybox = "ovl.test/busybox:1"
)

// config is a containerd without what a lab's host has not: profiles of
// AppArmor, and leave to lower oom_score_adj. Its directories are on /run, since an
// overlay cannot have its upper layer on another one, as which a lab's host has
// /var/lib.
const config = `version = 2
root = "/run/containerd/root"
state = "/run/containerd/state"
[grpc]
  address = "` + Socket + `"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "` + Pause + `"
  disable_apparmor = true
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "overlayfs"
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/opt/cni/bin"
    conf_dir = "/etc/cni/net.d"
`

// prepare gives a host directories of its own for the plugins and their
// configuration, in which it would see the machine's otherwise, and lets mounts
// travel into containers, as on hosts with systemd.
const prepare = `set -e
mkdir -p /etc/cni /etc/containerd
mount -t tmpfs opt /opt
mount -t tmpfs cni /etc/cni
mkdir -p /opt/cni/bin /etc/cni/net.d
cp /usr/lib/cni/loopback /opt/cni/bin/
mount --make-rshared /
cat > /etc/containerd/config.toml`

// Start starts containerd on a host, with [Pause] and [Busybox].
func Start(tb testing.TB, l *labtest.Lab, host string) *labtest.Daemon {
	tb.Helper()
	l.Run(tb, host, "sh", "-c", prepare+" <<'EOF'\n"+config+"EOF")
	d := l.StartDaemon(tb, host, "containerd", "containerd", "--config", "/etc/containerd/config.toml")
	Await(tb, l, host)
	for _, archive := range Images(tb) {
		Import(tb, l, host, archive)
	}
	return d
}

// Await returns when the containerd of a host answers.
func Await(tb testing.TB, l *labtest.Lab, host string) {
	tb.Helper()
	labtest.Until(tb, "containerd answers on "+host, func() error {
		_, err := l.Exec(tb.Context(), host, "ctr", "version")
		return err
	})
}

// Import gives the containerd of a host the images of an archive.
func Import(tb testing.TB, l *labtest.Lab, host, archive string) {
	tb.Helper()
	l.Run(tb, host, "ctr", "--namespace", "k8s.io", "images", "import", archive)
}
