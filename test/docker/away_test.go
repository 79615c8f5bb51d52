//go:build docker

package docker

import (
	"strings"
	"sync"
	"testing"

	"github.com/ovlnet/ovl/internal/lab"
)

// TestNetworkRemovedWhileAway: an engine that finds no agent removes a network all the
// same. Nobody saw who wanted that, so it is back with the agent, whoever made it, and is
// removed for good by whoever still wants it to be. Nothing of the old one is left.
func TestNetworkRemovedWhileAway(t *testing.T) {
	everyEngine(t, func(t *testing.T, v version) {
		t.Parallel() // engines wait for nobody, most of the time
		l, one, two := twoEngines(t, v, config{})
		create := []string{"network", "create", "-d", "ovl", "--ipam-driver", "ovl", "--subnet", "10.99.0.0/16", "red"}
		l.Run(t, "control", "ovlctl", "network", "create", "blue")
		one.docker(t, create...)
		old := map[string]string{}
		for _, name := range []string{"blue", "red"} {
			old[name] = one.network(t, name).ID
			two.network(t, name)
		}
		two.run(t, "--name", "db", "--network", "red")
		if err := l.Stop(t.Context(), "h1", lab.Agent); err != nil {
			t.Fatal(err)
		}
		var removals sync.WaitGroup
		for name := range old {
			removals.Go(func() {
				if r := one.try(t, "network", "rm", name); r.Code != 0 {
					t.Errorf("remove %s: %s", name, r.Stderr)
				}
			})
		}
		removals.Wait()
		if names := one.docker(t, "network", "ls", "--format", "{{.Name}}"); strings.Contains(names, "blue") || strings.Contains(names, "red") {
			t.Errorf("the engine still has %s", names)
		}
		if err := l.Start(t.Context(), "h1", lab.Agent); err != nil {
			t.Fatal(err)
		}
		for name, id := range old {
			if n := one.network(t, name); n.ID == id || n.Options["ovl.network"] != name {
				t.Errorf("%s is back as %+v", name, n)
			}
			two.network(t, name)
		}
		healthy(t, l, "h1", "h2")
		one.run(t, "--name", "web", "--network", "red")
		one.mustReach(t, "web", two.address(t, "db", "red"))
		one.docker(t, "rm", "-f", "web")
		two.docker(t, "rm", "-f", "db")
		noEndpoints(t, l)

		// Now it goes everywhere, and what it had is free.
		one.docker(t, "network", "rm", "red")
		two.lacks(t, "red")
		one.docker(t, create...)
		two.network(t, "red")
		healthy(t, l, "h1", "h2")
	})
}
