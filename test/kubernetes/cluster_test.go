//go:build kubernetes

package kubernetes_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ovlnet/ovl/internal/lab"
	"github.com/ovlnet/ovl/internal/lab/labtest"
	"github.com/ovlnet/ovl/test/containerd"
)

// The ranges of the pods, which are those of the network pods, and of the services, in
// both families.
const (
	podRange      = "10.244.0.0/16"
	podRange6     = "fd24::/48"
	serviceRange  = "10.96.0.0/16"
	serviceRange6 = "fd96::/112"
)

// address6 is what a host of the lab has besides its own address.
func (k *kubernetes) address6(tb testing.TB, host string) string {
	tb.Helper()
	h, err := k.Host(host)
	must(tb, err)
	return "fd77::" + h.Address[strings.LastIndex(h.Address, ".")+1:]
}

// programs are those that the one program is.
var programs = []string{"etcd", "kube-apiserver", "kube-controller-manager", "kube-proxy", "kube-scheduler", "kubectl", "kubelet"}

// kubernetes is a cluster whose control plane is on the lab's control and whose
// nodes are the lab's members.
type kubernetes struct {
	*labtest.Lab
	bin   string // directory of the programs
	files string // directory of their files, which all hosts see
	api   string // URL
	// by node
	containerd map[string]*containerd.Daemon
	kubelet    map[string]*labtest.Daemon
}

// up makes a lab with a control plane, and containerd on each member. There are
// no agents and no nodes yet.
func up(t *testing.T, name string) *kubernetes {
	t.Helper()
	leaveNoCgroups(t, name)
	l := labtest.Up(t, lab.Config{Name: name, Hosts: 2, Idle: true, AgentArgs: []string{"--cni-conf-dir", "/etc/cni/net.d", "--cni-network", "pods"}})
	k := &kubernetes{Lab: l, bin: t.TempDir(), files: t.TempDir(), containerd: map[string]*containerd.Daemon{}, kubelet: map[string]*labtest.Daemon{}}
	kube, err := filepath.Abs(os.Getenv(kubeEnv))
	must(t, err)
	for _, p := range programs {
		must(t, os.Symlink(kube, filepath.Join(k.bin, p)))
	}
	for _, h := range append(l.Members(), "outside") {
		l.Run(t, h, "ip", "address", "add", k.address6(t, h)+"/64", "dev", "eth0", "nodad")
	}
	for _, h := range l.Members() {
		l.Run(t, h, "ip", "-6", "route", "add", "default", "via", k.address6(t, "outside")) // without one nobody sends to a service
	}
	control, err := l.Host(lab.Control)
	must(t, err)
	k.api = "https://" + control.Address + ":6443"
	k.credentials(t)
	k.controlPlane(t, control.Address)
	versions := containerd.Versions(t) // each node has another
	for i, h := range l.Members() {
		k.containerd[h] = containerd.Start(t, l, h, versions[i%len(versions)])
	}
	return k
}

// users are those whom the API knows, by what is their token too, and the groups
// that they are in: an administrator, the controllers, the scheduler, each node.
func (k *kubernetes) users() map[string]string {
	users := map[string]string{
		"admin": "system:masters", "system:kube-controller-manager": "system:masters",
		"system:kube-scheduler": "", "system:kube-proxy": "",
	}
	for _, h := range k.Members() {
		users["system:node:"+h] = "system:nodes"
	}
	return users
}

func (k *kubernetes) file(name string) string { return filepath.Join(k.files, name) }

// config returns the path of a user's kubeconfig.
func (k *kubernetes) config(user string) string {
	return k.file(strings.ReplaceAll(user, ":", "-") + ".json") // JSON is YAML
}

// credentials writes the tokens of the users and how they reach the API.
func (k *kubernetes) credentials(t *testing.T) {
	t.Helper()
	var tokens strings.Builder
	for user, groups := range k.users() {
		fmt.Fprintf(&tokens, "token-of-%s,%s,%[2]s,%q\n", strings.ReplaceAll(user, ":", "-"), user, groups)
		writeJSON(t, k.config(user), map[string]any{
			"apiVersion": "v1", "kind": "Config", "current-context": "lab",
			"clusters": []any{map[string]any{"name": "lab", "cluster": map[string]any{"server": k.api, "certificate-authority": k.file("apiserver.crt")}}},
			"users":    []any{map[string]any{"name": user, "user": map[string]any{"token": "token-of-" + strings.ReplaceAll(user, ":", "-")}}},
			"contexts": []any{map[string]any{"name": "lab", "context": map[string]any{"cluster": "lab", "user": user}}},
		})
	}
	must(t, os.WriteFile(k.file("tokens.csv"), []byte(tokens.String()), 0o600))
	writeKey(t, k.file("accounts.key"))
}

// controlPlane starts what makes a cluster, on the lab's control.
func (k *kubernetes) controlPlane(t *testing.T, address string) {
	t.Helper()
	const etcd = "http://127.0.0.1:2379"
	start := func(program string, args ...string) {
		k.StartDaemon(t, lab.Control, program, append([]string{filepath.Join(k.bin, program)}, args...)...)
	}
	start("etcd", "--data-dir", "/run/etcd", "--unsafe-no-fsync", "--log-level", "warn",
		"--listen-client-urls", etcd, "--advertise-client-urls", etcd, "--listen-peer-urls", "http://127.0.0.1:2380")
	start("kube-apiserver", "--etcd-servers", etcd, "--bind-address", address, "--advertise-address", address,
		"--cert-dir", k.files, "--token-auth-file", k.file("tokens.csv"), "--authorization-mode", "Node,RBAC",
		"--service-cluster-ip-range", serviceRange+","+serviceRange6, "--service-account-issuer", "https://kubernetes.default.svc",
		"--service-account-key-file", k.file("accounts.key"), "--service-account-signing-key-file", k.file("accounts.key"),
		"--allow-privileged")
	labtest.Until(t, "the API is ready", func() error {
		_, err := k.Exec(t.Context(), lab.Control, k.kubectl("get", "--raw", "/readyz")...)
		return err
	})
	start("kube-controller-manager", "--kubeconfig", k.config("system:kube-controller-manager"), "--leader-elect=false",
		"--service-account-private-key-file", k.file("accounts.key"), "--root-ca-file", k.file("apiserver.crt"))
	start("kube-scheduler", "--kubeconfig", k.config("system:kube-scheduler"), "--leader-elect=false")
}

// kubectl returns the command line that asks the API as an administrator.
func (k *kubernetes) kubectl(args ...string) []string {
	return append([]string{filepath.Join(k.bin, "kubectl"), "--kubeconfig", k.config("admin")}, args...)
}

// node starts the kubelet of a member.
func (k *kubernetes) node(t *testing.T, host string) {
	t.Helper()
	h, err := k.Host(host)
	must(t, err)
	// A lab's host has the cgroups of the machine, in the first version, and no
	// systemd to ask for some; and may not raise its limits.
	writeJSON(t, k.file("kubelet.json"), map[string]any{
		"apiVersion": "kubelet.config.k8s.io/v1beta1", "kind": "KubeletConfiguration",
		"authentication": map[string]any{"anonymous": map[string]any{"enabled": true}, "webhook": map[string]any{"enabled": false}},
		"authorization":  map[string]any{"mode": "AlwaysAllow"},
		"cgroupDriver":   "cgroupfs", "cgroupRoot": cgroup(k.Name()), "cgroupsPerQOS": false, "enforceNodeAllocatable": []string{}, "failCgroupV1": false,
		"failSwapOn": false, "maxOpenFiles": 16384, "localStorageCapacityIsolation": false,
		"evictionHard":             map[string]any{"memory.available": "0%", "nodefs.available": "0%", "nodefs.inodesFree": "0%", "imagefs.available": "0%"},
		"containerRuntimeEndpoint": "unix://" + containerd.Socket, "clusterDNS": []string{"10.96.0.10"}, "clusterDomain": "cluster.local",
		"nodeStatusUpdateFrequency": "1s", "runtimeRequestTimeout": "90s", "staticPodPath": "/etc/kubernetes/manifests",
	})
	k.Run(t, host, "mkdir", "-p", "/etc/kubernetes/manifests")
	k.kubelet[host] = k.StartDaemon(t, host, "kubelet", filepath.Join(k.bin, "kubelet"),
		"--kubeconfig", k.config("system:node:"+host), "--config", k.file("kubelet.json"), "--root-dir", "/run/kubelet",
		"--hostname-override", host, "--node-ip", h.Address+","+k.address6(t, host))
	labtest.Until(t, "node "+host+" has registered", func() error {
		_, err := k.Exec(t.Context(), lab.Control, k.kubectl("get", "node", host)...)
		return err
	})
}

// do asks the API, which must do it.
func (k *kubernetes) do(tb testing.TB, args ...string) string {
	tb.Helper()
	return k.Run(tb, lab.Control, k.kubectl(args...)...)
}

// patience is for [kubernetes.wait]: no measure of speed.
const patience = "--timeout=90s"

// wait waits until all of objects have a condition.
func (k *kubernetes) wait(tb testing.TB, condition string, objects ...string) {
	tb.Helper()
	r := k.Do(tb, lab.Control, k.kubectl(append([]string{"wait", patience, "--for=" + condition}, objects...)...)...)
	if r.Code != 0 {
		tb.Fatalf("wait for %s of %v: %s\n%s", condition, objects, r.Stderr, k.do(tb, append([]string{"describe"}, objects...)...))
	}
}

// apply gives the API an object.
func (k *kubernetes) apply(tb testing.TB, object any) {
	tb.Helper()
	path := filepath.Join(tb.TempDir(), "object.json")
	writeJSON(tb, path, object)
	k.do(tb, "apply", "-f", path)
}

func writeJSON(tb testing.TB, path string, v any) {
	tb.Helper()
	b, err := json.Marshal(v)
	must(tb, err)
	must(tb, os.WriteFile(path, b, 0o600))
}

func must(tb testing.TB, err error) {
	tb.Helper()
	if err != nil {
		tb.Fatal(err)
	}
}
