//go:build kubernetes

package kubernetes_test

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"testing"

	"github.com/ovlnet/ovl/internal/lab/labtest"
	"github.com/ovlnet/ovl/test/containerd"
)

// pod is a pod that a test has made.
type pod struct {
	k    *kubernetes
	name string
	node string
}

// object is an object of the API, as JSON has it.
type object = map[string]any

// pod makes a pod on a node that answers on port 8080 with its own name and the
// asking one's address, and is otherwise as the changes have it.
func (k *kubernetes) pod(tb testing.TB, node, name string, change ...func(spec, container object)) pod {
	tb.Helper()
	container := object{
		"name": "main", "image": containerd.Busybox, "imagePullPolicy": "Never", "command": []string{"peer", "serve", ":8080"},
		"ports":          []any{object{"containerPort": 8080}},
		"readinessProbe": object{"httpGet": object{"path": "/", "port": 8080}, "periodSeconds": 1},
	}
	spec := object{
		"nodeName": node, "containers": []any{container}, "terminationGracePeriodSeconds": 5,
		"automountServiceAccountToken": false,
	}
	for _, c := range change {
		c(spec, container)
	}
	k.apply(tb, object{"apiVersion": "v1", "kind": "Pod", "metadata": object{"name": name, "labels": object{"app": name}}, "spec": spec})
	return pod{k, name, node}
}

func (p pod) ready(tb testing.TB) pod {
	tb.Helper()
	p.k.wait(tb, "condition=Ready", "pod/"+p.name)
	return p
}

// exec runs a command in the pod.
func (p pod) exec(tb testing.TB, args ...string) labtest.Result {
	tb.Helper()
	return p.k.Do(tb, "control", p.k.kubectl(append([]string{"exec", p.name, "--"}, args...)...)...)
}

// addrs returns the pod's addresses, as the API has them: one of each family.
func (p pod) addrs(tb testing.TB) []netip.Addr {
	tb.Helper()
	var got struct {
		Status struct {
			PodIPs []struct{ IP netip.Addr }
		}
	}
	must(tb, json.Unmarshal([]byte(p.k.do(tb, "get", "pod", p.name, "-o", "json")), &got))
	if ips := got.Status.PodIPs; len(ips) != 2 || !ips[0].IP.Is4() || !ips[1].IP.Is6() {
		tb.Fatalf("addresses of pod %s: %v; want one of each family", p.name, ips)
	}
	return []netip.Addr{got.Status.PodIPs[0].IP, got.Status.PodIPs[1].IP}
}

// addr returns the pod's first address.
func (p pod) addr(tb testing.TB) netip.Addr { tb.Helper(); return p.addrs(tb)[0] }

// said is an answer of `peer serve`: by whom, and by which address he knows the
// asking one.
type said struct{ by, from string }

// asks returns what the pod is answered at an address.
func (p pod) asks(tb testing.TB, address string) (said, error) {
	tb.Helper()
	return answer(address, p.exec(tb, "peer", "fetch", "http://"+address+"/"))
}

// asks is [pod.asks] of a process of a host of the lab.
func (k *kubernetes) asks(tb testing.TB, host, address string) (said, error) {
	tb.Helper()
	return answer(address, k.Do(tb, host, "curl", "-gsS", "-m", "20", "http://"+address+"/"))
}

func answer(address string, r labtest.Result) (s said, err error) {
	if _, err := fmt.Sscan(r.Stdout, &s.by, &s.from); err != nil {
		return s, fmt.Errorf("ask %s: %q %s", address, r.Stdout, r.Stderr)
	}
	return s, nil
}

// hears fails the test unless what was heard is from who is wanted, as is, in turn,
// the address by which he knows the asking one; empty: whatever that is.
func hears(tb testing.TB, what, by, from string, got said, err error) {
	tb.Helper()
	if err != nil || got.by != by || from != "" && got.from != from {
		tb.Errorf("%s: %+v, %v; want %s, asked by %s", what, got, err, by, from)
	}
}

// at returns where the pod serves.
func (p pod) at(tb testing.TB) string {
	tb.Helper()
	return netip.AddrPortFrom(p.addr(tb), 8080).String()
}

// at6 is [pod.at] in the other family.
func (p pod) at6(tb testing.TB) string {
	tb.Helper()
	return netip.AddrPortFrom(p.addrs(tb)[1], 8080).String()
}
