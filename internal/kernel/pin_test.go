package kernel_test

import (
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/ovlnet/ovl/internal/cluster"
	"github.com/ovlnet/ovl/internal/dataplane"
	"github.com/ovlnet/ovl/internal/kernel"
	"github.com/ovlnet/ovl/internal/reconcile"
)

// A path that leads to another namespace than the pin says leads nowhere: nothing is
// read there, and nothing is written.
func TestPin(t *testing.T) {
	h := newHost(t)
	one, two := process(t), process(t)
	pin := pinOf(t, one)
	if pin != pinOf(t, one) || !regexp.MustCompile(`^[0-9a-f]{8}-[1-9][0-9]*$`).MatchString(pin) {
		t.Errorf("pin %q", pin)
	}
	if pin == pinOf(t, two) {
		t.Errorf("two namespaces have the pin %q", pin)
	}
	right := dataplane.NSOf(cluster.Attachment{NetNS: one, Pin: pin})
	wrong := dataplane.NSOf(cluster.Attachment{NetNS: two, Pin: pin})
	for _, ns := range []dataplane.NS{right, wrong} {
		const end = "ove00000000000f"
		link := func(ns dataplane.NS, name, peer string) dataplane.Op {
			l := dataplane.Link{
				LinkKey: dataplane.LinkKey{NS: ns, Name: name}, Kind: dataplane.Veth, MTU: 1450, Up: true,
				MAC: cluster.MAC{2, 0, 0, 0, 0, byte(len(peer))}, Alias: "ovl/1/blue/web", Peer: peer,
			}
			return dataplane.Op{Verb: dataplane.Create, Row: l}
		}
		_, facts, err := h.linux.Observe(t.Context(), dataplane.FullScope(ns))
		if gone := slices.Contains(facts.Gone, ns); err != nil || gone != (ns == wrong) {
			t.Errorf("%q: gone %v, error %v", string(ns), gone, err)
		}
		err = h.linux.Apply(t.Context(), link(ns, "eth0", end))
		if ns == wrong && reconcile.ClassOf(err) != reconcile.Gone || ns == right && err != nil {
			t.Errorf("%q: %v", string(ns), err)
		}
	}
}

// process starts a process in a network namespace of its own and returns the path of
// that.
func process(t *testing.T) string {
	t.Helper()
	cmd := exec.Command("cat")
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNET}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = in.Close()
		_ = cmd.Wait()
	})
	return fmt.Sprintf("/proc/%d/ns/net", cmd.Process.Pid)
}

func pinOf(t *testing.T, path string) string {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	pin, err := kernel.Pin(f)
	if err != nil {
		t.Fatal(err)
	}
	return pin
}
