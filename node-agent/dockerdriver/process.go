package dockerdriver

import (
	"fmt"
	"os"

	"github.com/ovlnet/ovl/internal/cluster"
)

// ended is the process of a container that has none any more.
const ended = 0

// Runs tells which process an endpoint's container runs as, as the engine says; 0: it has
// ended. What cannot be seen from here, such as from another PID namespace, is not noted.
func (d *Driver) Runs(endpointID string, pid int) {
	a, ok := d.cfg.Attachments.Get(endpointID)
	if !ok || !ofEngine(a) || pid != ended && !within(pid, a.Sandbox) {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.processes[endpointID] = pid
}

// hasEnded reports whether it is sure that the container of an endpoint has ended: nobody
// lives in its namespace then, and the engine is about to take that down.
func (d *Driver) hasEnded(a cluster.Attachment) bool {
	d.mu.Lock()
	pid, known := d.processes[a.ID]
	d.mu.Unlock()
	return known && (pid == ended || !within(pid, a.Sandbox))
}

func (d *Driver) forgetProcess(endpointID string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.processes, endpointID)
}

// within reports whether a process is in the namespace at a path. One that has ended is
// in none.
func within(pid int, sandbox string) bool {
	its, err := os.Stat(fmt.Sprintf("/proc/%d/ns/net", pid))
	if err != nil {
		return false
	}
	at, err := os.Stat(sandbox)
	return err == nil && os.SameFile(its, at)
}
