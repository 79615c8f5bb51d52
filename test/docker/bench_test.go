//go:build docker

package docker

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/ovlnet/ovl/internal/lab"
	"github.com/ovlnet/ovl/internal/lab/labtest"
)

// TestAttachCost prints what a network costs: `docker run --rm` of a command that does
// nothing, above that without any network, and `docker network connect` of a container that
// runs; the engine's own bridge beside ovl, turn by turn, medians. It asserts nothing: the
// machine's other work decides as much.
func TestAttachCost(t *testing.T) {
	if testing.Short() || !testing.Verbose() {
		t.Skip("nobody reads the figures: go test -v")
	}
	everyEngine(t, func(t *testing.T, v version) {
		const rounds = 15
		l := labtest.Up(t, lab.Config{Hosts: 1})
		l.Run(t, "control", "ovlctl", "network", "create", "blue")
		e := startEngine(t, l, "h1", v, config{})
		e.has(t, "blue")
		e.docker(t, "network", "create", "own")
		e.run(t, "--name", "holds", "--network", "blue") // the subnet of this host
		e.run(t, "--name", "runs", "--network", "own")
		took := map[string][]time.Duration{}
		clock := func(what string, args ...string) {
			began := time.Now()
			e.docker(t, args...)
			took[what] = append(took[what], time.Since(began))
		}
		for range rounds {
			for _, network := range []string{"none", "bridge", "own", "blue"} {
				clock("run "+network, "run", "--rm", "--network", network, image, "true")
			}
			for _, network := range []string{"bridge", "blue"} {
				clock("connect "+network, "network", "connect", network, "runs")
				clock("disconnect "+network, "network", "disconnect", network, "runs")
			}
		}
		median := func(what string) time.Duration {
			all := slices.Sorted(slices.Values(took[what]))
			return all[len(all)/2].Round(time.Millisecond)
		}
		text := fmt.Sprintf("medians of %d: run none %v", rounds, median("run none"))
		for _, network := range []string{"bridge", "own", "blue"} {
			text += fmt.Sprintf(", %s %v above", network, median("run "+network)-median("run none"))
		}
		for _, network := range []string{"bridge", "blue"} {
			text += fmt.Sprintf("; %s connect %v, disconnect %v", network, median("connect "+network), median("disconnect "+network))
		}
		t.Log(text)
	})
}
