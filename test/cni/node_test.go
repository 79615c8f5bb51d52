package cni

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	types100 "github.com/containernetworking/cni/pkg/types/100"

	"github.com/ovlnet/ovl/internal/lab"
	"github.com/ovlnet/ovl/internal/lab/labtest"
)

// confDir is where runtimes look. Each host of a lab has its own, and unlike
// /etc/cni/net.d it holds nothing of the machine's.
const confDir = "/run/cni/net.d"

// node is a host of a lab, with plugins.
type node struct {
	*labtest.Lab
	host string
	path string // CNI_PATH
}

// nodes makes a lab of so many hosts, whose agents tell runtimes of network blue.
func nodes(t testing.TB, hosts int, agentArgs ...string) []node {
	t.Helper()
	l := labtest.Up(t, lab.Config{Hosts: hosts, AgentArgs: append([]string{"--cni-conf-dir", confDir, "--cni-network", "blue"}, agentArgs...)})
	path := t.TempDir()
	if err := os.Symlink(labtest.Binary("ovl-cni"), filepath.Join(path, "ovl")); err != nil {
		t.Fatal(err)
	}
	var all []node
	for _, h := range l.Members() {
		all = append(all, node{Lab: l, host: h, path: path + ":" + os.Getenv(pluginsEnv)})
	}
	return all
}

// run runs a command on the node, which must succeed, and returns its stdout.
func (n node) run(t testing.TB, args ...string) string {
	t.Helper()
	return n.Run(t, n.host, args...)
}

// netns makes a network namespace and returns its path.
func (n node) netns(t testing.TB, name string) string {
	t.Helper()
	n.run(t, "ip", "netns", "add", name)
	n.run(t, "ip", "-n", name, "link", "set", "lo", "up")
	return "/run/netns/" + name
}

// told waits until the agent has told runtimes.
func (n node) told(t testing.TB) {
	t.Helper()
	labtest.Until(t, "runtimes are told", func() error {
		_, err := n.Exec(t.Context(), n.host, "test", "-e", confDir+"/10-ovl.conflist")
		return err
	})
}

// tool runs cnitool: verb, network and namespace, after variables such as
// CAP_ARGS={…}.
func (n node) tool(t testing.TB, args ...string) labtest.Result {
	t.Helper()
	env := []string{"env", "CNI_PATH=" + n.path, "NETCONFPATH=" + confDir}
	i := 0
	for i < len(args) && strings.Contains(args[i], "=") {
		i++
	}
	env = append(env, args[:i]...)
	return n.Do(t, n.host, append(append(env, filepath.Join(os.Getenv(pluginsEnv), "cnitool")), args[i:]...)...)
}

// must runs cnitool, which must succeed, and returns the result that it printed,
// if it printed one.
func (n node) must(t testing.TB, args ...string) types100.Result {
	t.Helper()
	r := n.tool(t, args...)
	if r.Code != 0 {
		t.Fatalf("cnitool %s: %s%s", strings.Join(args, " "), r.Stdout, r.Stderr)
	}
	var res types100.Result
	if out := strings.TrimSpace(r.Stdout); out != "" {
		if err := json.Unmarshal([]byte(out), &res); err != nil {
			t.Fatalf("cnitool %s: %v: %s", strings.Join(args, " "), err, out)
		}
	}
	return res
}
