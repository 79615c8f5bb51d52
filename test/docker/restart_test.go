//go:build docker

package docker

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/ovlnet/ovl/internal/lab/labtest"
)

// TestAgentRestarts: containers that run notice nothing of an agent that is stopped or
// killed and started again, and the engine goes on with it.
func TestAgentRestarts(t *testing.T) {
	everyEngine(t, func(t *testing.T, v version) {
		l, one, two := pair(t, v, config{})
		one.run(t, "--name", "web", "--network", "blue", "-p", "8080:80")
		two.run(t, "--name", "db", "--network", "blue")
		db, web := two.address(t, "db", "blue"), one.address(t, "web", "blue")
		for name, end := range map[string]func() error{
			"stopped": func() error { return l.Stop(t.Context(), "h1", "agent") },
			"killed":  func() error { return l.Kill(t.Context(), "h1", "agent") },
		} {
			if err := end(); err != nil {
				t.Fatal(err)
			}
			one.mustReach(t, "web", db)
			two.mustReach(t, "db", web)
			// The engine asks while nobody is there, and is answered when somebody is.
			ended := make(chan labtest.Result)
			go func() {
				ended <- one.try(t, "run", "-d", "--name", name, "--network", "blue", image)
			}()
			if err := l.Start(t.Context(), "h1", "agent"); err != nil {
				t.Fatal(err)
			}
			if r := <-ended; r.Code != 0 {
				t.Errorf("a container that was started while the agent was %s: %s", name, r.Stderr)
			}
			one.mustReach(t, name, db)
			one.mustReach(t, "web", db)
			one.rests(t)
			one.docker(t, "rm", "-f", name)
		}
		one.docker(t, "rm", "-f", "web")
		one.cleared(t)
	})
}

// TestEngineRestarts: an engine that is stopped or killed and started again finds its
// containers on their networks: those that lived on (live-restore), and those that it
// starts again (restart: always). Nothing is left of the others.
func TestEngineRestarts(t *testing.T) {
	everyEngine(t, func(t *testing.T, v version) {
		for _, live := range []bool{true, false} {
			t.Run(fmt.Sprintf("live-restore %v", live), func(t *testing.T) {
				_, one, two := pair(t, v, config{liveRestore: live})
				two.run(t, "--name", "db", "--network", "blue")
				db := two.address(t, "db", "blue")
				one.run(t, "--name", "stays", "--network", "blue", "--restart", "always", "--ip", "10.70.9.9")
				one.run(t, "--name", "mortal", "--network", "blue")
				for name, end := range map[string]func(testing.TB){"stopped": one.stop, "killed": one.kill} {
					end(t)
					if live {
						two.mustReach(t, "db", "10.70.9.9")
					}
					one.start(t)
					labtest.Until(t, "the container that stays is reached after its engine was "+name, func() error {
						return errors.Join(one.reaches(t, "stays", db), two.reaches(t, "db", "10.70.9.9"))
					})
					runs := one.docker(t, "ps", "--format", "{{.Names}}")
					if strings.Contains(runs, "mortal") != live {
						t.Errorf("runs after the engine was %s: %q", name, runs)
					}
					if live {
						one.mustReach(t, "mortal", db)
					} else {
						one.docker(t, "start", "mortal")
					}
					one.rests(t)
				}
				one.docker(t, "rm", "-f", "stays", "mortal")
				one.cleared(t)
			})
		}
	})
}

// TestEngineKilledInTheMiddle: an engine that dies while it starts containers, at whatever
// point, leaves nothing once it is back and its containers are removed.
func TestEngineKilledInTheMiddle(t *testing.T) {
	everyEngine(t, func(t *testing.T, v version) {
		_, one, two := pair(t, v, config{})
		two.run(t, "--name", "db", "--network", "blue")
		offered := func() error {
			if !strings.Contains(one.Run(t, "h1", "ip", "-o", "link"), " ovp") {
				return errors.New("no interface waits for the engine")
			}
			return nil
		}
		attached := func() error {
			if !strings.Contains(one.Run(t, "h1", "ovlctl", "agent", "plan"), "netns /var/run/docker/netns") {
				return errors.New("no interface has arrived")
			}
			return nil
		}
		for name, moment := range map[string]func() error{"an interface waits for it": offered, "an interface has arrived": attached} {
			var ended sync.WaitGroup
			for n := range 6 {
				ended.Go(func() {
					one.try(t, "run", "-d", "--name", fmt.Sprintf("c%d", n), "--network", "blue", "-p", fmt.Sprintf("%d:80", 8080+n), image)
				})
			}
			labtest.Until(t, name, moment)
			one.kill(t)
			ended.Wait()
			one.start(t)
			if all := strings.Fields(one.docker(t, "ps", "-aq")); len(all) > 0 {
				one.docker(t, append([]string{"rm", "-f"}, all...)...)
			}
			one.cleared(t)
			one.run(t, "--name", "after", "--network", "blue", "-p", "8080:80")
			one.mustReach(t, "after", two.address(t, "db", "blue"))
			one.docker(t, "rm", "-f", "after")
		}
	})
}
