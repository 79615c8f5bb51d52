//go:build kubernetes

// Package kubernetes_test runs a real Kubernetes on hosts of a lab: kube-apiserver
// with etcd, scheduler and controllers on the lab's control, kubelet, kube-proxy
// and containerd on each member. They are built from their Go modules
// (test/kubernetes/kube), and ovl is what connects their pods. Needs root:
// `make test-kubernetes`.
package kubernetes_test

import (
	"fmt"
	"os"
	"testing"

	"github.com/ovlnet/ovl/internal/lab/labtest"
)

// kubeEnv names the program that test/kubernetes/kube is built to.
const kubeEnv = "OVL_KUBE"

func TestMain(m *testing.M) {
	if os.Getenv(kubeEnv) == "" || os.Geteuid() != 0 {
		fmt.Fprintln(os.Stderr, "run this with `make test-kubernetes`, as root: it builds Kubernetes and names it in "+kubeEnv)
		os.Exit(1)
	}
	labtest.Main(m)
}
