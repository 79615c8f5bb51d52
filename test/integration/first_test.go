package integration

import (
	"fmt"
	"testing"

	"github.com/ovlnet/ovl/internal/lab"
	"github.com/ovlnet/ovl/internal/lab/labtest"
)

// TestTheFirstPacketOfAContainerPasses: when a container is attached, its link, its
// bridge port and a bridge that had no port before carry frames. Were they left to
// linkwatch (net/core/link_watch.c), which has its time, one container in ten would
// ask its first question of the resolver in vain.
func TestTheFirstPacketOfAContainerPasses(t *testing.T) {
	t.Parallel()
	l := labtest.Up(t, lab.Config{Hosts: 1})
	l.Run(t, "h1", "ovlctl", "network", "create", "blue", "--subnet", "10.64.0.0/16")
	l.Sandbox(t, "h1", "none", "--network", "blue")
	l.Run(t, "h1", "ovlctl", "rm", "-f", "none") // the bridge and its gateway stay for a while
	for i := range 25 {
		r := l.Do(t, "h1", "ovlctl", "run", "--rm", "--name", fmt.Sprintf("c%d", i), "--network", "blue", "--",
			"sh", "-c", "ping -n -c1 -W0.9 $(ip route show default | cut -d' ' -f3)")
		if r.Code != 0 {
			t.Errorf("the first packet of container %d is lost: %+v", i, r)
		}
	}
}
