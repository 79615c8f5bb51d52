//go:build kubernetes

package kubernetes_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/ovlnet/ovl/internal/lab/labtest"
)

// attachment is what ovl's agent knows of a pod.
type attachment struct {
	ID, Name, Netns string
}

// attachments returns those of a node by the name of their pod.
func (k *kubernetes) attachments(tb testing.TB, node string) map[string][]attachment {
	tb.Helper()
	var all []attachment
	k.JSON(tb, &all, node, "ovlctl", "ps", "-o", "json")
	by := map[string][]attachment{}
	for _, a := range all {
		name := strings.TrimSuffix(a.Name, "-default")
		by[name] = append(by[name], a)
	}
	return by
}

// namespace returns the name of a pod's network namespace.
func (p pod) namespace(tb testing.TB) string {
	tb.Helper()
	got := p.k.attachments(tb, p.node)[p.name]
	if len(got) != 1 {
		tb.Fatalf("attachments of pod %s on %s: %v, want one", p.name, p.node, got)
	}
	return got[0].Netns[strings.LastIndex(got[0].Netns, "/")+1:]
}

// testRestarts ends what runs on a node, one after the other, under a stream of
// pings in which none may be lost.
func (k *kubernetes) testRestarts(t *testing.T) {
	one, two := k.pod(t, "h1", "one").ready(t), k.pod(t, "h2", "two").ready(t)
	ping := k.StartPing(t, "h1", one.namespace(t), two.addr(t))
	must(t, k.Kill(t.Context(), "h1", ""))
	must(t, k.Kill(t.Context(), "h2", ""))

	// A pod that comes while there is no agent waits for it.
	late := k.pod(t, "h2", "late")
	labtest.Until(t, "the kubelet has tried in vain", func() error {
		if events := k.do(t, "get", "events", "--field-selector", "involvedObject.name=late", "-o", "jsonpath={.items[*].message}"); !strings.Contains(events, "agent") {
			return fmt.Errorf("events: %q", events)
		}
		return nil
	})
	for _, h := range k.Members() {
		must(t, k.Start(t.Context(), h, ""))
	}
	late.ready(t)
	got, err := one.asks(t, late.at(t))
	hears(t, "asks a pod that has waited", "late", one.addr(t).String(), got, err)

	k.kubelet["h1"].Kill(t)
	k.containerd["h1"].Kill(t)
	k.containerd["h1"].Start(t)
	k.containerd["h1"].Await(t) // nothing starts a kubelet again that does not find it
	k.kubelet["h1"].Start(t)
	again := k.pod(t, "h1", "again").ready(t)
	ping.NoneLost(t)
	k.wait(t, "condition=Ready", "node/h1", "pod/one")

	// A sandbox that ends is made anew, and nothing remains of the old one.
	old := k.attachments(t, "h2")["two"][0]
	sandbox, _, _ := strings.Cut(old.ID, "-")
	k.containerd["h2"].Must(t, "tasks", "kill", "--signal", "SIGKILL", sandbox)
	labtest.Until(t, "the pod has a new sandbox", func() error {
		if now := k.attachments(t, "h2")["two"]; len(now) != 1 || now[0].ID == old.ID {
			return fmt.Errorf("attached: %v, was %v", now, old)
		}
		return nil
	})
	labtest.Until(t, "the pod answers at its new address", func() error {
		got, err := one.asks(t, two.at(t))
		if err == nil && got.by != "two" {
			err = fmt.Errorf("%+v answers", got)
		}
		return err
	})
	k.remove(t, one, two, late, again)
}
