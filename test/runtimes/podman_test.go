//go:build runtimes

package runtimes

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/ovlnet/ovl/internal/lab/labtest"
	"github.com/ovlnet/ovl/test/containerd"
)

// podmanConf makes Podman use CNI, as its guide says; the rest is what a host of a lab
// needs: runc, since crun takes no mixed control groups, and limits that its root may
// set. Its storage is on /run, since the machine's directories are overlays there.
const podmanConf = containerd.Directories + `mkdir -p /etc/containers
cat >/etc/containers/containers.conf <<'END'
[containers]
default_ulimits = ["nofile=16384:16384", "nproc=8192:8192"]
cgroup_parent = "` + groupParent + `"
[engine]
cgroup_manager = "cgroupfs"
runtime = "runc"
events_logger = "file"
[network]
network_backend = "cni"
cni_plugin_dirs = ["/opt/cni/bin", "/usr/lib/cni"]
END
cat >/etc/containers/storage.conf <<'END'
[storage]
driver = "overlay"
graphroot = "/run/podman/graph"
runroot = "/run/podman/run"
END`

// podman is Podman on a host.
type podman struct {
	*labtest.Lab
	host string
}

// podmen makes a lab of two hosts with Podman and the image of busybox.
func podmen(t *testing.T) (l *labtest.Lab, one, two podman) {
	t.Helper()
	images := containerd.Images(t)
	l = up(t, func(l *labtest.Lab, host string) { l.Run(t, host, "sh", "-c", podmanConf) })
	one, two = podman{l, "h1"}, podman{l, "h2"}
	for _, p := range []podman{one, two} {
		p.must(t, "load", "-i", images[1])
	}
	return l, one, two
}

func (p podman) try(t *testing.T, args ...string) labtest.Result {
	t.Helper()
	return p.Do(t, p.host, append([]string{"podman"}, args...)...)
}

func (p podman) must(t *testing.T, args ...string) string {
	t.Helper()
	return p.Run(t, p.host, append([]string{"podman"}, args...)...)
}

// run starts a container that just stays, unless a command follows "--".
func (p podman) run(t *testing.T, name string, args ...string) {
	t.Helper()
	command := []string{"sleep", "100000"}
	for i, a := range args {
		if a == "--" {
			args, command = args[:i], args[i+1:]
			break
		}
	}
	// Without NET_RAW, as Podman has it, nobody pings.
	args = append([]string{"run", "-d", "--cap-add", "NET_RAW", "--name", name, "--entrypoint", command[0]}, args...)
	p.must(t, append(append(args, containerd.Busybox), command[1:]...)...)
}

// addr returns a container's address on a network.
func (p podman) addr(t *testing.T, name, network string) netip.Addr {
	t.Helper()
	var found []struct {
		NetworkSettings struct {
			Networks map[string]struct{ IPAddress netip.Addr }
		}
	}
	if err := json.Unmarshal([]byte(p.must(t, "inspect", name)), &found); err != nil || len(found) != 1 {
		t.Fatalf("inspect %s: %d of them, %v", name, len(found), err)
	}
	return found[0].NetworkSettings.Networks[network].IPAddress
}

func (p podman) reaches(t *testing.T, name, to string) {
	t.Helper()
	reach(t, p.Lab, p.host, "podman", "exec", name, "ping", "-c", "1", "-W", "2", to)
}

// refuses checks that a container is refused, for a reason, and leaves nothing.
func (p podman) refuses(t *testing.T, why string, args ...string) {
	t.Helper()
	before := p.Dump(t, p.host)
	r := p.try(t, append(append([]string{"run", "--rm", "--name", "refused"}, args...), containerd.Busybox, "-c", "true")...)
	if r.Code == 0 || !strings.Contains(r.Stderr, why) {
		t.Errorf("podman run %v: %+v, want it to say %q", args, r, why)
	}
	if r := p.try(t, "container", "exists", "refused"); r.Code == 0 {
		p.must(t, "rm", "-f", "refused") // Podman keeps what it has made but could not start
	}
	if d := labtest.Difference(before, p.Dump(t, p.host)); d != "" {
		t.Errorf("podman run %v leaves something: %s", args, d)
	}
}

// TestPodman: containers of two Podmen with the CNI back end.
func TestPodman(t *testing.T) {
	l, one, two := podmen(t)
	before := bareHosts(t, l)
	if out := one.must(t, "network", "ls", "--format", "{{.Name}} {{.Driver}}"); !strings.Contains(out, "blue ovl") {
		t.Fatalf("networks of Podman: %s", out)
	}
	one.run(t, "web", "--network", "blue", "-p", "8080:80", "--network-alias", "www", "--", "peer", "serve", ":80")
	two.run(t, "Db_1", "--network", "blue", "--mac-address", "02:00:00:00:00:09", "--network-alias", "db") // its name is no DNS label
	t.Run("they reach each other by address and by name", func(t *testing.T) {
		one.reaches(t, "web", two.addr(t, "Db_1", "blue").String())
		two.reaches(t, "Db_1", one.addr(t, "web", "blue").String())
		for _, name := range []string{"web", "www", "web.blue"} {
			two.reaches(t, "Db_1", name)
		}
	})
	t.Run("the port is published", func(t *testing.T) {
		labtest.Until(t, "the port answers", func() error {
			if r := l.Do(t, "h2", "curl", "-sS", "-m", "5", "http://h1:8080/"); r.Code != 0 || !strings.HasSuffix(strings.TrimSpace(r.Stdout), " 192.168.77.2") {
				return fmt.Errorf("%+v", r)
			}
			return nil
		})
	})
	t.Run("address and MAC are those wanted", func(t *testing.T) {
		if got := two.must(t, "exec", "Db_1", "cat", "/sys/class/net/eth0/address"); got != "02:00:00:00:00:09" {
			t.Errorf("MAC %s", got)
		}
		want := one.addr(t, "web", "blue").Next().Next().Next()
		one.run(t, "fixed", "--network", "blue", "--ip", want.String())
		if got := one.addr(t, "fixed", "blue"); got != want {
			t.Errorf("address %s, want %s", got, want)
		}
		one.refuses(t, want.String(), "--network", "blue", "--ip", want.String())
		one.must(t, "rm", "-f", "-t", "0", "fixed")
	})
	t.Run("it is put on one more network, and off it", func(t *testing.T) {
		l.Run(t, "h1", "ovlctl", "network", "create", "red", "--subnet", "10.65.0.0/16")
		l.Run(t, "h1", "sh", "-c", "sed s/blue/red/ /etc/cni/net.d/10-ovl.conflist >/etc/cni/net.d/20-red.conflist")
		l.Sandbox(t, "h2", "far", "--network", "red")
		one.must(t, "network", "connect", "red", "web")
		one.reaches(t, "web", "far.red")
		one.reaches(t, "web", "db")
		one.must(t, "network", "disconnect", "red", "web")
		if out := l.Run(t, "h1", "ovlctl", "endpoint", "ls", "--network", "red", "-o", "name"); out != "far" {
			t.Errorf("still on red: %s", out)
		}
		l.Run(t, "h2", "ovlctl", "rm", "-f", "far")
		l.Run(t, "h1", "rm", "/etc/cni/net.d/20-red.conflist")
		labtest.Until(t, "nobody is on red", func() error {
			_, err := l.Exec(t.Context(), "h1", "ovlctl", "network", "rm", "--yes", "red")
			return err
		})
	})
	t.Run("it comes and goes with its container, whoever was killed", func(t *testing.T) {
		if err := l.Kill(t.Context(), "h1", "agent"); err != nil {
			t.Fatal(err)
		}
		two.reaches(t, "Db_1", one.addr(t, "web", "blue").String())
		one.refuses(t, "agent", "--network", "blue")
		if err := l.Start(t.Context(), "h1", "agent"); err != nil {
			t.Fatal(err)
		}
		one.must(t, "restart", "-t", "0", "web")
		two.reaches(t, "Db_1", "web")
	})
	t.Run("what cannot be is refused, and leaves nothing", func(t *testing.T) {
		one.refuses(t, "8080", "--network", "blue", "-p", "8080:80")
		one.refuses(t, "nowhere", "--network", "nowhere")
		one.refuses(t, "10.99.0.1", "--network", "blue", "--ip", "10.99.0.1")
		l.Run(t, "h1", "sh", "-c", "sed s/blue/green/ /etc/cni/net.d/10-ovl.conflist >/etc/cni/net.d/20-green.conflist")
		one.refuses(t, "there is no network green", "--network", "green")
		l.Run(t, "h1", "rm", "/etc/cni/net.d/20-green.conflist")
	})
	t.Run("a namespace that ovlctl attach has attached", func(t *testing.T) {
		l.Run(t, "h1", "sh", "-c", "ip netns add shared && ovlctl attach --netns shared --name shared --network blue --resolv-conf /run/shared.resolv")
		one.run(t, "inside", "--network", "ns:/run/netns/shared", "-v", "/run/shared.resolv:/etc/resolv.conf:ro")
		one.reaches(t, "inside", "db")
		two.reaches(t, "Db_1", "shared")
		one.must(t, "rm", "-f", "-t", "0", "inside")
		l.Run(t, "h1", "sh", "-c", "ovlctl detach shared && ip netns delete shared")
	})
	one.must(t, "rm", "-f", "-t", "0", "web")
	two.must(t, "rm", "-f", "-t", "0", "Db_1")
	before.again(t, l)
}
