// Package containerd runs containerd on hosts of a lab, for tests of what stands
// on it. Its images are made here: no registry is asked for anything.
//
// It must never start anything on the machine itself, nor share a directory
// between two hosts. Its invariant: what it starts ends with the lab.
package containerd

import (
	"errors"
	"os"
	"strings"
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

// Version is a containerd to test with.
type Version struct {
	Name   string
	Status bool   // whether it asks plugins for their STATUS
	dir    string // of its programs; empty: Debian's
}

// dirEnv names the directory of a containerd 2 that is built already: see
// `make containerd2`.
const dirEnv = "OVL_CONTAINERD2_DIR"

// Versions returns those that there are: Debian's first.
func Versions(tb testing.TB) []Version {
	tb.Helper()
	dir := os.Getenv(dirEnv)
	if dir == "" {
		tb.Fatalf("no containerd 2: `make containerd2` builds it, and %s names its directory", dirEnv)
	}
	return []Version{{Name: "1.6"}, {Name: "2", Status: true, dir: dir}}
}

// Daemon is the containerd of a host.
type Daemon struct {
	*labtest.Daemon
	Version
	lab  *labtest.Lab
	host string
}

// program returns a command line that runs one of the version's programs, which finds
// the others.
func (v Version) program(args ...string) []string {
	if v.dir == "" {
		return args
	}
	return append([]string{"env", "PATH=" + v.dir + ":" + os.Getenv("PATH")}, args...)
}

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

// config2 is the same for containerd 2, which brings loopbacks up itself if it is told to,
// and takes the plugin "loopback" otherwise, as its predecessor does.
const config2 = `version = 3
root = "/run/containerd/root"
state = "/run/containerd/state"
[grpc]
  address = "` + Socket + `"
[plugins."io.containerd.cri.v1.images"]
  snapshotter = "overlayfs"
  [plugins."io.containerd.cri.v1.images".pinned_images]
    sandbox = "` + Pause + `"
[plugins."io.containerd.cri.v1.runtime"]
  disable_apparmor = true
  restrict_oom_score_adj = true
  [plugins."io.containerd.cri.v1.runtime".cni]
    bin_dirs = ["/opt/cni/bin"]
    conf_dir = "/etc/cni/net.d"
    use_internal_loopback = true
`

// Directories gives a host some of its own for the plugins and their configuration, in
// which it would see the machine's otherwise: a script, which sh runs.
const Directories = `set -e
mkdir -p /etc/cni
mount -t tmpfs opt /opt
mount -t tmpfs cni /etc/cni
mkdir -p /opt/cni/bin /etc/cni/net.d
`

// prepare lets mounts travel into containers too, as on hosts with systemd.
const prepare = Directories + `mkdir -p /etc/containerd
mount --make-rshared /
cat > /etc/containerd/config.toml`

// loopback gives a host what Debian's containerd does not do itself.
const loopback = "cp /usr/lib/cni/loopback /opt/cni/bin/"

// Start starts containerd on a host, with [Pause] and [Busybox].
func Start(tb testing.TB, l *labtest.Lab, host string, v Version) *Daemon {
	tb.Helper()
	script := prepare + " <<'EOF'\n" + config2 + "EOF"
	if v.dir == "" {
		script = prepare + " <<'EOF'\n" + config + "EOF\n" + loopback
	}
	l.Run(tb, host, "sh", "-c", script)
	d := &Daemon{Version: v, lab: l, host: host, Daemon: l.StartDaemon(tb, host, "containerd", v.program("containerd", "--config", "/etc/containerd/config.toml")...)}
	d.Await(tb)
	for _, archive := range Images(tb) {
		d.Import(tb, archive)
	}
	return d
}

// Ctr runs containerd's client, where the CRI has its containers.
func (d *Daemon) Ctr(tb testing.TB, args ...string) labtest.Result {
	tb.Helper()
	return d.lab.Do(tb, d.host, d.program(append([]string{"ctr", "--namespace", "k8s.io"}, args...)...)...)
}

// Must runs containerd's client, which must succeed, and returns what it printed.
func (d *Daemon) Must(tb testing.TB, args ...string) string {
	tb.Helper()
	r := d.Ctr(tb, args...)
	if r.Code != 0 {
		tb.Fatalf("ctr %s on %s: %s", strings.Join(args, " "), d.host, r.Stderr)
	}
	return r.Stdout
}

// Await returns when containerd answers.
func (d *Daemon) Await(tb testing.TB) {
	tb.Helper()
	labtest.Until(tb, "containerd answers on "+d.host, func() error {
		if r := d.Ctr(tb, "version"); r.Code != 0 {
			return errors.New(r.Stderr)
		}
		return nil
	})
}

// Import gives containerd the images of an archive.
func (d *Daemon) Import(tb testing.TB, archive string) {
	tb.Helper()
	d.Must(tb, "images", "import", archive)
}
