//go:build docker

package docker

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ovlnet/ovl/internal/lab/labtest"
)

// TestAgentIsAsked: what an engine asks while its agent is away, stopped or killed, is
// answered when that is back.
func TestAgentIsAsked(t *testing.T) {
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

// TestEngineKilledInTheMiddle: an engine that dies while it starts containers, at whatever
// point, leaves nothing once it is back and its containers are removed.
func TestEngineKilledInTheMiddle(t *testing.T) {
	everyEngine(t, func(t *testing.T, v version) {
		_, one, two := pair(t, v, config{})
		two.run(t, "--name", "db", "--network", "blue")
		// An interface waits for the engine on the host for some milliseconds, and then it is
		// in the container.
		offered := func() {
			links := one.links(t)
			for links.Scan() {
				if strings.Contains(links.Text(), " ovp") {
					return
				}
			}
			t.Error("no interface waited for the engine")
		}
		attached := func() {
			labtest.Until(t, "an interface has arrived", func() error {
				if !strings.Contains(one.Run(t, "h1", "ovlctl", "agent", "plan"), "netns /var/run/docker/netns") {
					return errors.New("no interface has arrived")
				}
				return nil
			})
		}
		for _, moment := range []func(){offered, attached} {
			var ended sync.WaitGroup
			for n := range 6 {
				ended.Go(func() {
					one.try(t, "run", "-d", "--name", fmt.Sprintf("c%d", n), "--network", "blue", "-p", fmt.Sprintf("%d:80", 8080+n), image)
				})
			}
			moment()
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

// links returns what happens to the links of the engine's host from now on, for a minute.
func (e *engine) links(t *testing.T) *bufio.Scanner {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	cmd, err := e.Command(ctx, e.host, "ip", "-o", "monitor", "link")
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cancel(); _ = cmd.Wait() }) // ended by us
	return bufio.NewScanner(out)
}
