//go:build kubernetes

package kubernetes_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ovlnet/ovl/internal/lab"
)

// TestDaemonSet makes a cluster as docs/guide/kubernetes.md does: deploy/kubernetes
// as it ships, but for the controller's address and the image, installs the plugin
// and runs the agents.
func TestDaemonSet(t *testing.T) {
	t.Parallel()
	k := up(t, "kube-daemon")
	archive := k.file("ovl.tar")
	pack := exec.CommandContext(t.Context(), "go", "run", "../../deploy/image", "-bin", k.Config().BinDir, "-name", "registry.example/ovl:dev", "-o", archive)
	if out, err := pack.CombinedOutput(); err != nil {
		t.Fatalf("pack the image: %v: %s", err, out)
	}
	for _, h := range k.Members() {
		k.containerd[h].Import(t, archive)
		k.node(t, h)
	}
	k.Run(t, lab.Control, "ovlctl", "network", "create", "pods", "--subnet", podRange, "--subnet", podRange6, "--services")
	token := k.Run(t, lab.Control, "ovlctl", "token", "create", "--uses", "2", "-o", "name")

	manifests := k.manifests(t)
	k.do(t, "create", "namespace", "ovl")
	k.do(t, "apply", "-k", manifests, "--dry-run=server", "--validate=strict")
	k.do(t, "-n", "ovl", "create", "secret", "generic", "ovl-join", "--from-literal=token="+token)
	k.do(t, "apply", "-k", manifests, "--validate=strict")
	k.do(t, "-n", "ovl", "rollout", "status", "daemonset/ovl-agent", patience)
	k.wait(t, "condition=Ready", "node/h1", "node/h2")

	one, two := k.pod(t, "h1", "one").ready(t), k.pod(t, "h2", "two").ready(t)
	got, err := one.asks(t, two.at(t))
	hears(t, "pod one asks pod two", "two", one.addr(t).String(), got, err)

	// An update of the agents loses no packet.
	ping := k.StartPing(t, "h1", one.namespace(t), two.addr(t))
	k.do(t, "-n", "ovl", "rollout", "restart", "daemonset/ovl-agent")
	k.do(t, "-n", "ovl", "rollout", "status", "daemonset/ovl-agent", patience)
	ping.NoneLost(t)
	if unready := k.do(t, "get", "events", "--field-selector", "reason=NodeNotReady", "-o", "jsonpath={.items[*].message}"); unready != "" {
		t.Errorf("the update made nodes unready, and their pods with them: %s", unready)
	}
	three := k.pod(t, "h2", "three").ready(t)
	got, err = one.asks(t, three.at(t))
	hears(t, "pod one asks pod three, which is new", "three", one.addr(t).String(), got, err)
	for _, h := range k.Members() {
		if err := k.AtRest(t, h); err != nil {
			t.Error(err)
		}
	}
	if got := k.do(t, "-n", "ovl", "exec", "daemonset/ovl-agent", "--", "ovlctl", "ps", "-o", "name"); !strings.Contains(got, "-default") {
		t.Errorf("an agent's pod tells of these pods: %q", got)
	}
	k.remove(t, one, two, three)

	k.do(t, "delete", "-k", manifests)
	for _, h := range k.Members() {
		k.Run(t, h, "ovl-agent", "cleanup", "--cni-conf-dir", "/etc/cni/net.d")
		if links := k.Run(t, h, "ip", "-o", "link"); strings.Contains(links, "ovb") || strings.Contains(links, "ovx") {
			t.Errorf("what is left on %s:\n%s", h, links)
		}
	}
	k.wait(t, "condition=Ready=false", "node/h1", "node/h2")
}

// manifests returns a copy of deploy/kubernetes with the lab's controller in it.
func (k *kubernetes) manifests(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	must(t, os.CopyFS(dir, os.DirFS("../../deploy/kubernetes")))
	path := filepath.Join(dir, "kustomization.yaml")
	text, err := os.ReadFile(path)
	must(t, err)
	control, err := k.Host(lab.Control)
	must(t, err)
	changed := strings.Replace(string(text), "10.0.0.1:6790", control.Address+":6790", 1)
	if changed == string(text) {
		t.Fatalf("%s names no controller at 10.0.0.1:6790", path)
	}
	must(t, os.WriteFile(path, []byte(changed), 0o600))
	return dir
}
