//go:build kubernetes

package kubernetes_test

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ovlnet/ovl/internal/lab/labtest"
)

// proxy starts kube-proxy on a node. It leaves the limits of connection tracking
// alone, which are the machine's.
func (k *kubernetes) proxy(t *testing.T, host string) {
	t.Helper()
	k.StartDaemon(t, host, "kube-proxy", filepath.Join(k.bin, "kube-proxy"), "--kubeconfig", k.config("system:kube-proxy"),
		"--proxy-mode", "iptables", "--cluster-cidr", podRange+","+podRange6, "--hostname-override", host,
		"--conntrack-max-per-core", "0", "--conntrack-tcp-timeout-established", "0", "--conntrack-tcp-timeout-close-wait", "0")
}

// service makes a service for the pods of a label, at an address of each family and,
// unless that is 0, at a port of the nodes.
func (k *kubernetes) service(tb testing.TB, name, address, address6 string, nodePort int, label string) {
	tb.Helper()
	port := object{"port": 80, "targetPort": 8080}
	spec := object{"clusterIP": address, "clusterIPs": []string{address, address6}, "ipFamilyPolicy": "RequireDualStack", "selector": object{"app": label}, "ports": []any{port}}
	if nodePort > 0 {
		spec["type"], port["nodePort"] = "NodePort", nodePort
	}
	k.apply(tb, object{"apiVersion": "v1", "kind": "Service", "metadata": object{"name": name}, "spec": spec})
}

// testServices has kube-proxy lead connections to services.
func (k *kubernetes) testServices(t *testing.T) {
	const far, near, empty, port = "10.96.0.100:80", "10.96.0.101:80", "10.96.0.102:80", 30080
	const far6, near6, empty6 = "[fd96::100]:80", "[fd96::101]:80", "[fd96::102]:80"
	one, two, beside := k.pod(t, "h1", "one"), k.pod(t, "h2", "two"), k.pod(t, "h1", "beside")
	host := k.pod(t, "h1", "host", onHost)
	k.service(t, "far", "10.96.0.100", "fd96::100", port, "two")
	k.service(t, "near", "10.96.0.101", "fd96::101", 0, "beside")
	k.service(t, "empty", "10.96.0.102", "fd96::102", 0, "nobody")
	for _, h := range k.Members() {
		k.proxy(t, h)
	}
	for _, p := range []pod{one, two, beside, host} {
		p.ready(t)
	}
	for _, p := range []pod{one, two} {
		labtest.Until(t, "kube-proxy on "+p.node+" knows the services", func() error {
			_, err := p.asks(t, far)
			_, err6 := p.asks(t, far6)
			return errors.Join(err, err6)
		})
	}

	for _, c := range []struct {
		asking pod
		at, by string
	}{
		{one, far, "two"},
		{one, near, "beside"},
		{two, near, "beside"},
		{beside, far, "two"},
		{one, far6, "two"},
		{one, near6, "beside"},
		{two, near6, "beside"},
		{beside, far6, "two"},
	} {
		got, err := c.asking.asks(t, c.at)
		from := c.asking.addrs(t)[0]
		if strings.HasPrefix(c.at, "[") {
			from = c.asking.addrs(t)[1]
		}
		hears(t, c.asking.name+" asks service "+c.at, c.by, from.String(), got, err)
	}
	for _, at := range []string{far, far6} {
		got, err := two.asks(t, at)
		hears(t, "a pod asks the service that it is at "+at, "two", "", got, err)
		got, err = host.asks(t, at)
		hears(t, "a pod on the network of its node asks service "+at, "two", "", got, err)
	}
	for _, node := range k.Members() {
		for at, by := range map[string]string{far: "two", near: "beside", far6: "two", near6: "beside"} {
			got, err := k.asks(t, node, at)
			hears(t, "node "+node+" asks service "+at, by, "", got, err)
		}
		h, err := k.Host(node)
		must(t, err)
		for _, at := range []string{fmt.Sprintf("%s:%d", h.Address, port), fmt.Sprintf("[%s]:%d", k.address6(t, node), port)} {
			for _, from := range []string{"outside", "h1", "h2"} {
				got, err := k.asks(t, from, at)
				hears(t, from+" asks the service's port of node "+node+" at "+at, "two", "", got, err)
			}
			got, err := one.asks(t, at)
			hears(t, "a pod asks the service's port of node "+node+" at "+at, "two", "", got, err)
		}
	}
	if got := one.exec(t, "peer", "fetch", "http://10.96.0.1:443/").Stdout; !strings.Contains(got, "HTTPS") {
		t.Errorf("a pod asks the API by its service: %q", got)
	}
	for _, at := range []string{empty, empty6} {
		if got, err := one.asks(t, at); err == nil || !strings.Contains(err.Error(), "refused") {
			t.Errorf("a pod asks service %s without pods: %+v, %v; want that it is refused", at, got, err)
		}
	}

	// A service is published by the node, to whoever reaches that; the pods themselves
	// are as far from other networks as ever.
	k.Run(t, "h1", "ovlctl", "network", "create", "red", "--subnet", "10.70.0.0/16", "--subnet", "fd70::/48")
	red := k.Sandbox(t, "h1", "red", "--network", "red")
	if r := red.Do(t, "curl", "-sS", "-m", "20", "http://"+far+"/"); r.Code != 0 {
		t.Errorf("a container of another network asks a service: %s", r.Stderr)
	}
	for _, at := range []string{one.at(t), two.at(t), one.at6(t), two.at6(t)} {
		if r := red.Do(t, "curl", "-gsS", "-m", "2", "http://"+at+"/"); r.Code == 0 {
			t.Errorf("a container of another network asks %s: %s", at, r.Stdout)
		}
	}
	k.Run(t, "h1", "ovlctl", "rm", "-f", "red")
	k.Run(t, "h1", "ovlctl", "network", "rm", "--yes", "red")
	k.do(t, "delete", "service", "far", "near", "empty")
	k.remove(t, one, two, beside, host)
}
