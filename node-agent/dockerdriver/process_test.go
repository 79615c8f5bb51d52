package dockerdriver

import (
	"os"
	"os/exec"
	"slices"
	"testing"
)

// TestLeaveAfterTheEnd: the interface of a container that lives on is taken back; with one
// that has surely ended, its endpoint does.
func TestLeaveAfterTheEnd(t *testing.T) {
	const here = "/proc/self/ns/net"
	for name, c := range map[string]struct {
		sandbox string
		process func(t *testing.T, r *rig)
		ended   bool
	}{
		"nothing is known of it": {here, func(*testing.T, *rig) {}, false},
		"it lives":               {here, func(_ *testing.T, r *rig) { r.Runs(endpoint, os.Getpid()) }, false},
		"the engine said so":     {here, func(_ *testing.T, r *rig) { r.Runs(endpoint, ended) }, true},
		"it is seen nowhere":     {"/proc/self/ns/mnt", func(_ *testing.T, r *rig) { r.Runs(endpoint, os.Getpid()) }, false},
		"its process is gone": {here, func(t *testing.T, r *rig) {
			cmd := exec.CommandContext(t.Context(), "sleep", "1000")
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			r.Runs(endpoint, cmd.Process.Pid)
			if a, _ := r.room.Get(endpoint); r.hasEnded(a) {
				t.Error("it has ended before it has")
			}
			_ = cmd.Process.Kill()
			_ = cmd.Wait() // killed
		}, true},
		"it was started again": {here, func(_ *testing.T, r *rig) {
			r.Runs(endpoint, ended)
			r.Runs(endpoint, os.Getpid())
		}, false},
	} {
		t.Run(name, func(t *testing.T) {
			r := made(t, `"ovl.network":"blue"`)
			r.must(t, "NetworkDriver.CreateEndpoint", create("10.70.0.2/24"))
			r.must(t, "NetworkDriver.Join", of(c.sandbox))
			c.process(t, r)
			r.must(t, "NetworkDriver.Leave", of(""))
			if _, there := r.room.Get(endpoint); there == c.ended || slices.Contains(r.room.calls, "take back") == c.ended {
				t.Errorf("there: %t, after %v", there, r.room.calls)
			}
			r.must(t, "NetworkDriver.DeleteEndpoint", of(""))
			if n := len(r.room.atts) + len(r.processes); n != 0 {
				t.Errorf("left: %v %v", r.room.atts, r.processes)
			}
		})
	}
	r := made(t, `"ovl.network":"blue"`)
	r.Runs("stranger", os.Getpid())
	if len(r.processes) != 0 {
		t.Errorf("noted of a stranger: %v", r.processes)
	}
}
