package fake_test

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/ovlnet/ovl/internal/dataplane"
	"github.com/ovlnet/ovl/internal/kernel/fake"
	"github.com/ovlnet/ovl/internal/kernel/kerneltest"
	"github.com/ovlnet/ovl/internal/reconcile"
)

func TestKernel(t *testing.T) {
	kerneltest.Run(t, func(*testing.T) kerneltest.Harness {
		return &harness{kernel: fake.New(uplink())}
	})
}

// TestKernelWithoutVLANs holds the fake to the refusal.
func TestKernelWithoutVLANs(t *testing.T) {
	kerneltest.Run(t, func(*testing.T) kerneltest.Harness {
		k := fake.New(uplink())
		k.NoVLAN = true
		return &harness{kernel: k}
	})
}

func uplink() dataplane.HostLink {
	return dataplane.HostLink{
		Name: kerneltest.Uplink, MTU: 1500, Up: true,
		Addrs: []netip.Prefix{netip.MustParsePrefix("192.0.2.1/24"), netip.MustParsePrefix("2001:db8::1/64")},
	}
}

type harness struct {
	kernel     *fake.Kernel
	namespaces int
}

func (h *harness) Kernel() reconcile.Kernel { return h.kernel }

func (h *harness) Can(kind dataplane.LinkKind) bool {
	return kind != dataplane.VLAN || !h.kernel.NoVLAN
}

func (h *harness) Namespace(testing.TB) dataplane.NS {
	h.namespaces++
	ns := dataplane.NS(fmt.Sprintf("/run/netns/c%d", h.namespaces))
	h.kernel.AddNamespace(ns)
	return ns
}

func (h *harness) RemoveNamespace(_ testing.TB, ns dataplane.NS) { h.kernel.RemoveNamespace(ns) }

func (h *harness) Set(t testing.TB, r dataplane.Row) {
	t.Helper()
	if err := h.kernel.Set(r); err != nil {
		t.Fatalf("set %s by hand: %v", r, err)
	}
}

func (h *harness) SetForeignQdisc(t testing.TB, k dataplane.QdiscKey) {
	t.Helper()
	if err := h.kernel.SetForeignQdisc(k); err != nil {
		t.Fatal(err)
	}
}

func (h *harness) SetForeignRoute(t testing.TB, r dataplane.Route) {
	t.Helper()
	if err := h.kernel.SetForeignRoute(r); err != nil {
		t.Fatalf("set foreign route %s: %v", r, err)
	}
}

func (h *harness) Remove(t testing.TB, k dataplane.Key) {
	t.Helper()
	if err := h.kernel.Remove(k); err != nil {
		t.Fatalf("remove %s by hand: %v", k, err)
	}
}

func (h *harness) Foreign(testing.TB) string {
	lines := h.kernel.Foreign()
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

func TestFaults(t *testing.T) {
	k := fake.New()
	row := dataplane.Sysctl{SysctlKey: dataplane.SysctlKey{Name: "net/ipv4/ip_forward"}, Value: "1"}
	op := dataplane.Op{Verb: dataplane.Update, Row: row}
	f := &fake.Faults{Kernel: k, Nth: map[int]reconcile.Class{1: reconcile.Refused}, StopAfter: 2}
	for i, want := range []reconcile.Class{reconcile.Refused, 0, reconcile.Again} {
		err := f.Apply(t.Context(), op)
		if i == 1 {
			if err != nil {
				t.Errorf("operation 2: %v", err)
			}
			continue
		}
		if err == nil || reconcile.ClassOf(err) != want {
			t.Errorf("operation %d: %v; want class %s", i+1, err, want)
		}
	}
	if f.Applied() != 3 {
		t.Errorf("%d operations tried; want 3", f.Applied())
	}
	got, _ := k.State().Get(row.Key())
	if got != dataplane.Row(row) {
		t.Errorf("sysctl is %v; want %v", got, row)
	}
}
