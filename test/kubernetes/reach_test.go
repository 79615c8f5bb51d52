//go:build kubernetes

package kubernetes_test

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/ovlnet/ovl/internal/lab/labtest"
)

// remove deletes pods, and returns when they are gone.
func (k *kubernetes) remove(tb testing.TB, pods ...pod) {
	tb.Helper()
	args := []string{"delete", "pod", "--wait"}
	for _, p := range pods {
		args = append(args, p.name)
	}
	k.do(tb, args...)
}

// onHost has a pod use the network of its node.
func onHost(spec, _ object) { spec["hostNetwork"] = true }

// testReach has everybody ask everybody, and look who asks.
func (k *kubernetes) testReach(t *testing.T) {
	one := k.pod(t, "h1", "one").ready(t)
	got, err := k.asks(t, "h2", one.at(t))
	hears(t, "a node without a pod asks a pod of another", "one", "", got, err)

	two, beside := k.pod(t, "h2", "two"), k.pod(t, "h1", "beside")
	host := k.pod(t, "h2", "host", onHost)
	two.ready(t)
	beside.ready(t)
	host.ready(t)
	for _, asking := range []pod{one, two, beside} {
		for _, asked := range []pod{one, two, beside} {
			got, err := asking.asks(t, asked.at(t))
			hears(t, asking.name+" asks "+asked.name, asked.name, asking.addr(t).String(), got, err)
			got, err = asking.asks(t, asked.at6(t))
			hears(t, asking.name+" asks "+asked.name+" by IPv6", asked.name, asking.addrs(t)[1].String(), got, err)
		}
		got, err := asking.asks(t, host.at(t))
		hears(t, asking.name+" asks node h2", "h2", "", got, err)
	}
	for _, asked := range []pod{one, two} {
		for _, node := range k.Members() {
			got, err := k.asks(t, node, asked.at(t))
			hears(t, "node "+node+" asks "+asked.name, asked.name, "", got, err)
			got, err = k.asks(t, node, asked.at6(t))
			hears(t, "node "+node+" asks "+asked.name+" by IPv6", asked.name, "", got, err)
		}
		got, err := host.asks(t, asked.at(t))
		hears(t, "a pod on the network of h2 asks "+asked.name, asked.name, "", got, err)
	}
	if !strings.HasPrefix(one.addr(t).String(), "10.244.") || host.addr(t) != netip.MustParseAddr("192.168.77.2") {
		t.Errorf("addresses %v and %v", one.addr(t), host.addr(t))
	}
	k.remove(t, one, two, beside, host)
}

// testNames looks for the resolver that Kubernetes chose.
func (k *kubernetes) testNames(t *testing.T) {
	first := k.pod(t, "h1", "first").ready(t)
	none := k.pod(t, "h1", "none", func(spec, _ object) {
		spec["dnsPolicy"], spec["dnsConfig"] = "None", object{"nameservers": []string{"192.0.2.53"}, "searches": []string{"example.test"}}
	}).ready(t)
	if got := first.exec(t, "cat", "/etc/resolv.conf").Stdout; !strings.Contains(got, "nameserver 10.96.0.10\n") || !strings.Contains(got, "search default.svc.cluster.local ") || strings.Count(got, "nameserver") != 1 {
		t.Errorf("resolv.conf of policy ClusterFirst:\n%s", got)
	}
	if got := none.exec(t, "cat", "/etc/resolv.conf").Stdout; strings.TrimSpace(got) != "search example.test\nnameserver 192.0.2.53" {
		t.Errorf("resolv.conf of policy None:\n%s", got)
	}
	k.remove(t, first, none)
}

// testHostPort has a pod's port on its node.
func (k *kubernetes) testHostPort(t *testing.T) {
	web := k.pod(t, "h1", "web", func(_, c object) {
		c["ports"] = []any{object{"containerPort": 8080, "hostPort": 18080}}
	}).ready(t)
	near, far := k.pod(t, "h1", "near").ready(t), k.pod(t, "h2", "far").ready(t)
	const at = "192.168.77.1:18080"
	at6 := "[" + k.address6(t, "h1") + "]:18080"
	outside, err := k.Host("outside")
	must(t, err)
	got, err := k.asks(t, "outside", at)
	hears(t, "a stranger asks", "web", outside.Address, got, err)
	got, err = k.asks(t, "h2", at)
	hears(t, "another node asks", "web", "192.168.77.2", got, err)
	for _, asking := range []string{"outside", "h2"} {
		got, err = k.asks(t, asking, at6)
		hears(t, asking+" asks by IPv6", "web", k.address6(t, asking), got, err)
	}
	for _, host := range []string{at, "127.0.0.1:18080", at6} {
		got, err = k.asks(t, "h1", host)
		hears(t, "the node itself asks "+host, "web", "", got, err)
	}
	for _, p := range []pod{web, near, far} {
		for _, at := range []string{at, at6} {
			got, err = p.asks(t, at)
			hears(t, p.name+" asks "+at, "web", "", got, err)
		}
	}
	k.remove(t, web)
	if got, err := k.asks(t, "outside", at); err == nil {
		t.Errorf("the port of a pod that is gone: %+v", got)
	}
	k.remove(t, near, far)
}

// testLeave looks whether anything is left of the pods that there have been.
func (k *kubernetes) testLeave(t *testing.T, before map[string]string) {
	for _, h := range k.Members() {
		labtest.Until(t, "nothing is left on "+h, func() error { return k.AtRest(t, h) })
		if what := labtest.Difference(before[h], k.Dump(t, h)); what != "" {
			t.Errorf("on %s %s", h, what)
		}
		if got := k.Run(t, h, "ovlctl", "ps", "-o", "name"); got != "" {
			t.Errorf("still attached on %s: %s", h, got)
		}
	}
}
