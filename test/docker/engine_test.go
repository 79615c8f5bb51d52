//go:build docker

package docker

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/ovlnet/ovl/internal/lab/labtest"
)

// engine29Env names the directory of an engine 29 that is built already: see
// `make engine29`.
const engine29Env = "OVL_ENGINE29_DIR"

// version is an engine to test with.
type version struct {
	name string
	dir  string // of its binaries; empty: Debian's
}

// versions returns the engines that there are.
func versions(tb testing.TB) []version {
	tb.Helper()
	all := []version{{name: "20.10"}}
	if dir := os.Getenv(engine29Env); dir != "" {
		all = append(all, version{name: "29", dir: dir})
	}
	return all
}

// everyEngine runs a test with each version.
func everyEngine(t *testing.T, test func(*testing.T, version)) {
	t.Helper()
	for _, v := range versions(t) {
		t.Run(v.name, func(t *testing.T) { test(t, v) })
	}
}

// engine is a Docker engine on a host of a lab.
type engine struct {
	*labtest.Lab
	host string
	v    version
	conf config
	runs *exec.Cmd
}

// config is an engine's daemon.json, as far as tests differ in it.
type config struct {
	noNames     bool // without the line that the guide asks for
	liveRestore bool
}

// stubAddress is where daemon.json says that names are answered.
const stubAddress = "169.254.53.53"

// image is the one that every engine has.
const image = "box:1"

// root is where an engine keeps its data: on the host's own /run, whose upper
// layers overlay2 can use, and which ends with the lab.
const root = "/run/engine"

// startEngine starts an engine on a host and imports the image.
func startEngine(tb testing.TB, l *labtest.Lab, host string, v version, c config) *engine {
	tb.Helper()
	e := &engine{Lab: l, host: host, v: v, conf: c}
	e.start(tb)
	e.Run(tb, host, "sh", "-c", importImage)
	return e
}

// importImage makes an image of busybox.
const importImage = `set -e
d=$(mktemp -d)
mkdir -p $d/bin $d/etc $d/www
cp "$(command -v busybox)" $d/bin/busybox
for a in $($d/bin/busybox --list); do [ $a = busybox ] || ln -s busybox $d/bin/$a; done
tar -C $d -c . | docker import -c 'CMD ["sleep","100000"]' - ` + image + ` >/dev/null
rm -r $d`

// settings returns the engine's daemon.json.
func (e *engine) settings() string {
	j := map[string]any{
		"data-root": root, "storage-driver": "overlay2", "cgroup-parent": groupParent, "live-restore": e.conf.liveRestore,
		"max-concurrent-downloads": 1,
	}
	if !e.conf.noNames {
		j["dns"] = []string{stubAddress}
	}
	if e.v.dir != "" {
		j["features"] = map[string]bool{"containerd-snapshotter": false}
		j["min-api-version"] = "1.41"       // Debian's docker(1) speaks that
		j["seccomp-profile"] = "unconfined" // our runc is built without libseccomp
	}
	b, err := json.MarshalIndent(j, "", "  ")
	if err != nil {
		panic(err) // of strings and booleans
	}
	return string(b)
}

// path returns a PATH with the engine's binaries first, Debian's next: what else
// the machine may have under these names comes last.
func (e *engine) path() string {
	path := "/usr/sbin:/usr/bin:/sbin:/bin:" + os.Getenv("PATH")
	if e.v.dir != "" {
		path = e.v.dir + ":" + path
	}
	return path
}

// start starts the engine and waits until it answers.
func (e *engine) start(tb testing.TB) {
	tb.Helper()
	e.launch(tb)
	e.await(tb)
}

// launch starts the engine.
func (e *engine) launch(tb testing.TB) {
	tb.Helper()
	e.Run(tb, e.host, "sh", "-c", fmt.Sprintf("mkdir -p /etc/docker && cat >/etc/docker/daemon.json <<'END'\n%s\nEND", e.settings()))
	// Of a session of its own, as a service manager would have it; its log is the
	// host's. The context of a test ends before its cleanups: the lab ends the engine.
	cmd, err := e.Command(tb.Context(), e.host, "env", "PATH="+e.path(), "setsid", "-w", "sh", "-c", "echo $$ >/run/engine.pid; exec dockerd >>/var/log/ovl/dockerd.log 2>&1")
	if err != nil {
		tb.Fatal(err)
	}
	cmd.Cancel = func() error { return nil }
	if err := cmd.Start(); err != nil {
		tb.Fatal(err)
	}
	e.runs = cmd
}

// await waits until the engine answers.
func (e *engine) await(tb testing.TB) {
	tb.Helper()
	labtest.Until(tb, "the engine on "+e.host+" answers", func() error {
		r := e.Do(tb, e.host, "env", "PATH="+e.path(), "docker", "version")
		if r.Code != 0 {
			return errors.New(strings.TrimSpace(r.Stderr))
		}
		return nil
	})
}

// signal sends the engine a signal.
func (e *engine) signal(tb testing.TB, s unix.Signal) {
	tb.Helper()
	e.Run(tb, e.host, "sh", "-c", fmt.Sprintf("kill -%d $(cat /run/engine.pid)", int(s)))
}

// stop ends the engine and waits until it has ended.
func (e *engine) stop(tb testing.TB) {
	tb.Helper()
	e.signal(tb, unix.SIGTERM)
	_ = e.runs.Wait() // how it ends is its own affair
}

// kill ends the engine as a crash does: its containerd and shims go on.
func (e *engine) kill(tb testing.TB) {
	tb.Helper()
	e.signal(tb, unix.SIGKILL)
	_ = e.runs.Wait()
}

// docker runs docker(1), which must succeed.
func (e *engine) docker(tb testing.TB, args ...string) string {
	tb.Helper()
	return e.Run(tb, e.host, append([]string{"env", "PATH=" + e.path(), "docker"}, args...)...)
}

// try runs docker(1).
func (e *engine) try(tb testing.TB, args ...string) labtest.Result {
	tb.Helper()
	return e.Do(tb, e.host, append([]string{"env", "PATH=" + e.path(), "docker"}, args...)...)
}

// run starts a container of the image in the background and returns its ID.
func (e *engine) run(tb testing.TB, args ...string) string {
	tb.Helper()
	// Process 1 takes no SIGTERM that it does not ask for, and engines wait 10 s.
	return e.docker(tb, append(append([]string{"run", "-d", "--stop-signal", "KILL"}, args...), image)...)
}

// inspect decodes what `docker KIND inspect NAME` prints of one object.
func (e *engine) inspect(tb testing.TB, v any, kind, name string) {
	tb.Helper()
	var raw []json.RawMessage
	if err := json.Unmarshal([]byte(e.docker(tb, kind, "inspect", name)), &raw); err != nil || len(raw) != 1 {
		tb.Fatalf("inspect %s: %d objects, %v", name, len(raw), err)
	}
	if err := json.Unmarshal(raw[0], v); err != nil {
		tb.Fatal(err)
	}
}
