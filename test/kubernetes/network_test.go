//go:build kubernetes

package kubernetes_test

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/ovlnet/ovl/internal/lab"
)

// join makes the network of the pods, installs the plugin and starts kubelets and
// agents. A node is not ready before ovl is.
func (k *kubernetes) join(t *testing.T) {
	t.Helper()
	k.Run(t, lab.Control, "ovlctl", "network", "create", "pods", "--subnet", podRange, "--subnet", podRange6, "--services")
	for _, h := range k.Members() {
		k.Run(t, h, "cp", filepath.Join(k.Config().BinDir, "ovl-cni"), "/opt/cni/bin/ovl")
		k.node(t, h)
	}
	k.wait(t, "condition=Ready=false", "node/h1", "node/h2")
	if why := k.do(t, "get", "node", "h1", "-o", `jsonpath={.status.conditions[?(@.type=="Ready")].message}`); !strings.Contains(why, "NetworkReady=false") {
		t.Errorf("the node is not ready, and says %q, want that the network is not", why)
	}
	for _, h := range k.Members() {
		must(t, k.Start(t.Context(), h, ""))
	}
	k.wait(t, "condition=Ready", "node/h1", "node/h2")
}

// TestPods runs its parts one after the other in one cluster.
func TestPods(t *testing.T) {
	t.Parallel()
	k := up(t, "kube-pods")
	k.join(t)
	before := map[string]string{"h1": k.Dump(t, "h1"), "h2": k.Dump(t, "h2")}

	t.Run("reach", k.testReach)
	t.Run("names", k.testNames)
	t.Run("host port", k.testHostPort)
	t.Run("restarts", k.testRestarts)
	t.Run("leave nothing", func(t *testing.T) { k.testLeave(t, before) })
	t.Run("services", k.testServices) // kube-proxy leaves what it wrote behind
}
