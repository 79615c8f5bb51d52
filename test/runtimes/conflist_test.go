//go:build runtimes

package runtimes

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/ovlnet/ovl/internal/lab/labtest"
	"github.com/ovlnet/ovl/test/containerd"
)

// green is a configuration list with one plugin, of these fields besides its type.
func green(fields string) string {
	return `{"cniVersion": "1.0.0", "name": "green", "plugins": [{"type": "ovl"` + fields + `}]}`
}

// badLists are configurations that people write and that cannot be, with what is to be
// said of them: by the runtime where it is the runtime that reads the file, and by the
// plugin elsewhere. Those of which podman is empty Podman does not take for a network:
// it says that there is none.
var badLists = []struct{ name, text, cri, podman string }{
	{"half of it", `{"cniVersion": "1.0.0", "name": "green", "plugins": [{"type": "ovl"`, "unexpected end of JSON input", ""},
	{"no JSON", "cniVersion: 1.0.0\n", "invalid character", ""},
	{"a list of nothing", `{"cniVersion": "1.0.0", "name": "green", "plugins": []}`, "no plugin", ""},
	{"a version that nobody speaks", strings.Replace(green(""), "1.0.0", "9.9.9", 1), "9.9.9", "9.9.9"},
	{"a plugin that is not there", strings.Replace(green(""), `"ovl"`, `"ovlnet"`, 1), `failed to find plugin "ovlnet"`, ""},
	{"a network that is not there", green(""), "there is no network green", "there is no network green"},
	{"a network of no name", green(`, "network": "Not_A_Name"`), "Not_A_Name", "Not_A_Name"},
	{"a name that is too long", green(`, "network": "` + strings.Repeat("a", 64) + `"`), "63", "63"},
	{"a field of the wrong kind", green(`, "network": ["blue"]`), "conf.network of type string", "conf.network of type string"},
	{"addresses of another plugin's", green(`, "network": "blue", "ipam": {"type": "host-local", "subnet": "10.88.0.0/16"}`), `take "ipam" out`, `take "ipam" out`},
	{"a field that cannot be so", green(`, "network": "blue", "vlan": 7`), "vlan", "vlan"},
	{"a field that contradicts the network", green(`, "network": "blue", "mtu": 9000`), "not 9000", "not 9000"},
	{"nobody at the socket", green(`, "network": "blue", "socket": "/run/nobody.sock"`), "no ovl-agent answers at /run/nobody.sock", "no ovl-agent answers at /run/nobody.sock"},
}

// strange is a configuration with fields that nobody knows, which the specification
// has plugins pass over.
var strange = green(`, "network": "blue", "bogus": {"a": [1, 2]}, "bridge": "cni0", "capabilities": {"portMappings": true, "telepathy": true}`)

// putList gives a host a configuration list that comes before all others.
func putList(t *testing.T, l *labtest.Lab, host, text string) {
	t.Helper()
	l.Run(t, host, "sh", "-c", `printf %s "$1" >/run/list && mv /run/list /etc/cni/net.d/05-green.conflist`, "sh", text)
}

// none returns what ovl has of containers on a host, which should be nothing. The runtime
// may have kept a namespace of its own.
func none(t *testing.T, l *labtest.Lab, host string) error {
	t.Helper()
	for _, args := range [][]string{{"ovlctl", "ps", "-o", "name"}, {"ovlctl", "endpoint", "ls", "-o", "name"}, {"sh", "-c", "ip -br link | grep ^ove || true"}} {
		if out := l.Run(t, host, args...); out != "" {
			return fmt.Errorf("%s: %s", strings.Join(args, " "), out)
		}
	}
	return nil
}

// TestContainerdBadConflists: a configuration that cannot be is an error of one line by the
// CRI, which the kubelet shows, and leaves nothing.
func TestContainerdBadConflists(t *testing.T) {
	withEach(t, testContainerdBadConflists)
}

func testContainerdBadConflists(t *testing.T, v containerd.Version) {
	t.Helper()
	l := up(t, func(l *labtest.Lab, host string) { containerd.Start(t, l, host, v) })
	c := cri{l, "h1"}
	before := bareHosts(t, l)
	// removed removes all pods: by the list of the moment, which may not allow it.
	removed := func() error {
		for _, id := range c.sandboxes(t, "") {
			for _, method := range []string{"StopPodSandbox", "RemovePodSandbox"} {
				if r := c.try(t, method, object{"pod_sandbox_id": id}); r.Code != 0 {
					return errors.New(r.Stderr)
				}
			}
		}
		return nil
	}
	mend := func() {
		l.Run(t, c.host, "rm", "/etc/cni/net.d/05-green.conflist")
		labtest.Until(t, "containerd removes what did not come to be", removed)
		before.again(t, l)
	}
	for _, bad := range badLists {
		t.Run(bad.name, func(t *testing.T) {
			putList(t, l, c.host, bad.text)
			labtest.Until(t, "containerd has read it", func() error {
				var said string
				if err := c.networkReady(t); err != nil {
					said = err.Error() + c.lastLoad(t)
				}
				r := c.try(t, "RunPodSandbox", object{"config": podConfig("refused", nil)})
				if r.Code == 0 {
					if err := removed(); err != nil {
						t.Error(err)
					}
					return errors.New("there is a pod")
				}
				if said += r.Stderr; !strings.Contains(said, bad.cri) {
					return fmt.Errorf("it says %q, want %q", said, bad.cri)
				}
				if strings.Contains(strings.TrimSpace(r.Stderr), "\n") {
					t.Errorf("more than a line: %s", r.Stderr)
				}
				return nil
			})
			if err := none(t, l, c.host); err != nil {
				t.Error(err)
			}
			mend()
		})
	}
	t.Run("fields that nobody knows", func(t *testing.T) {
		putList(t, l, c.host, strange)
		labtest.Until(t, "containerd has read it", func() error {
			if r := c.try(t, "RunPodSandbox", object{"config": podConfig("strange", nil)}); r.Code != 0 {
				return errors.New(r.Stderr)
			}
			return nil
		})
		mend()
	})
}

// TestPodmanBadConflists: the same by Podman, which shows it to who types.
func TestPodmanBadConflists(t *testing.T) {
	l, one, _ := podmen(t)
	before := bareHosts(t, l)
	for _, bad := range badLists {
		t.Run(bad.name, func(t *testing.T) {
			putList(t, l, one.host, bad.text)
			says := bad.podman
			if says == "" {
				says = "network not found"
			}
			one.refuses(t, says, "--network", "green")
			if err := none(t, l, one.host); err != nil {
				t.Error(err)
			}
		})
	}
	t.Run("fields that nobody knows", func(t *testing.T) {
		putList(t, l, one.host, strange)
		one.run(t, "strange", "--network", "green")
		one.must(t, "rm", "-f", "-t", "0", "strange")
	})
	l.Run(t, one.host, "rm", "/etc/cni/net.d/05-green.conflist")
	before.again(t, l)
}
