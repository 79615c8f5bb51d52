//go:build docker

package docker

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sync/errgroup"

	"github.com/ovlnet/ovl/internal/lab"
	"github.com/ovlnet/ovl/internal/lab/labtest"
)

// crowdEnv says how many containers TestCrowd starts on each of its three engines: see
// `make test-docker-crowd`. Without it there are as many as take seconds.
const crowdEnv = "OVL_TEST_CROWD"

const smallCrowd = 12

// atOnce is how many containers are started or removed at a time on one engine.
const atOnce = 4

// TestCrowd: many containers on three engines come up, reach each other by name, and go
// without a trace.
func TestCrowd(t *testing.T) {
	each := smallCrowd
	if s := os.Getenv(crowdEnv); s != "" {
		n, err := strconv.Atoi(s)
		if err != nil || n < 1 {
			t.Fatalf("%s=%s: want a number", crowdEnv, s)
		}
		each = n
	}
	everyEngine(t, func(t *testing.T, v version) {
		l := labtest.Up(t, lab.Config{Hosts: 3})
		l.Run(t, "control", "ovlctl", "network", "create", "blue")
		var engines []*engine
		for _, host := range l.Members() {
			e := startEngine(t, l, host, v, config{})
			e.network(t, "blue")
			engines = append(engines, e)
		}
		before := map[string]string{}
		for _, e := range engines {
			before[e.host] = e.traces(t)
		}
		var names []string
		for _, e := range engines {
			for i := range each {
				names = append(names, fmt.Sprintf("%s-c%d", e.host, i))
			}
		}
		onAll(t, engines, each, "run", "-d", "--stop-signal", "KILL", "--network", "blue", "--name", "NAME", image)
		for _, e := range engines {
			// One shell asks for all: what the engine takes for an exec is not the matter. Of
			// hundreds that takes a while, so that those of which it is too early are asked again alone.
			unreached := func(names []string) []string {
				r := e.try(t, "exec", e.host+"-c0", "sh", "-c", "for n in "+strings.Join(names, " ")+"; do ping -q -c 1 -W 2 $n >/dev/null 2>&1 || echo $n; done")
				if r.Code != 0 {
					t.Fatalf("ask from %s: %s", e.host, r.Stderr)
				}
				return strings.Fields(r.Stdout)
			}
			left := unreached(names)
			labtest.Until(t, "all are reached by name from "+e.host, func() error {
				if len(left) > 0 {
					left = unreached(left)
				}
				if len(left) > 0 {
					return fmt.Errorf("not: %s", strings.Join(left, " "))
				}
				return nil
			})
		}
		onAll(t, engines, each, "rm", "-f", "NAME")
		for _, e := range engines {
			e.cleared(t)
			labtest.Until(t, "no trace is left on "+e.host, func() error {
				if now := e.traces(t); now != before[e.host] {
					return errors.New(labtest.Difference(before[e.host], now))
				}
				return nil
			})
		}
		noEndpoints(t, l)
	})
}

// onAll runs docker(1) for every container, with its name where NAME is said, a few at a
// time on each engine.
func onAll(t *testing.T, engines []*engine, each int, args ...string) {
	t.Helper()
	var g errgroup.Group
	for _, e := range engines {
		turns := make(chan string, each)
		for i := range each {
			turns <- fmt.Sprintf("%s-c%d", e.host, i)
		}
		close(turns)
		for range atOnce {
			g.Go(func() error {
				var all error
				for name := range turns {
					mine := slices.Clone(args)
					mine[slices.Index(mine, "NAME")] = name
					if r := e.try(t, mine...); r.Code != 0 {
						all = errors.Join(all, fmt.Errorf("%s on %s: %s", name, e.host, strings.TrimSpace(r.Stderr)))
					}
				}
				return all
			})
		}
	}
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
}

// traces are what containers leave on a host: links but the bridge of the network and its
// tunnel, mounts (of their layers and namespaces), shims. The engine takes its time with
// the empty files on which namespaces were mounted.
func (e *engine) traces(tb testing.TB) string {
	tb.Helper()
	return e.Run(tb, e.host, "sh", "-c", `
		ip -o link | cut -d: -f2 | grep -vE ' (ovb|ovx)' | sort
		grep -cE ' /run/(docker|engine)' /proc/self/mounts
		ps -eo comm= | grep -c containerd-shim
		true`)
}
