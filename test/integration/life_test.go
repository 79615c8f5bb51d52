package integration

import (
	"strings"
	"testing"

	"github.com/ovlnet/ovl/internal/lab"
	"github.com/ovlnet/ovl/internal/lab/labtest"
)

// TestLifeOfNetworksAndHosts: what is in use stays, what is not can go, and a host
// that is drained takes nothing new and keeps what it has.
func TestLifeOfNetworksAndHosts(t *testing.T) {
	t.Parallel()
	l := labtest.Up(t, lab.Config{Hosts: 2})
	for _, network := range []string{"blue", "empty", "idle"} {
		l.Run(t, "h1", "ovlctl", "network", "create", network)
	}
	web, far := l.Sandbox(t, "h1", "web", "--network", "blue"), l.Sandbox(t, "h2", "far", "--network", "blue")
	complete(t, []labtest.Container{web, far})

	t.Run("a network in use is not removed", func(t *testing.T) {
		refused(t, l.Do(t, "h2", "ovlctl", "network", "rm", "blue", "--yes"), conflict, "web")
	})
	t.Run("prune takes those that nobody is on", func(t *testing.T) {
		l.Run(t, "h1", "ovlctl", "network", "prune", "--yes")
		if got := l.Run(t, "h1", "ovlctl", "network", "ls", "-o", "name"); got != "blue" {
			t.Errorf("networks left: %s", got)
		}
		complete(t, []labtest.Container{web, far})
	})
	t.Run("a drained host takes nothing new", func(t *testing.T) {
		l.Run(t, "h1", "ovlctl", "host", "drain", "h2")
		labtest.Until(t, "h2 has heard of it", func() error {
			r := l.Do(t, "h2", "ovlctl", "run", "-d", "--name", "late", "--network", "blue")
			if r.Code == 0 {
				l.Run(t, "h2", "ovlctl", "rm", "-f", "late")
				return errTaken
			}
			refused(t, r, conflict, "drain")
			return nil
		})
		complete(t, []labtest.Container{web, far}) // and keeps what it has
		if got := l.Run(t, "h1", "ovlctl", "subnet", "ls", "--host", "h2", "-o", "name"); got == "" {
			t.Error("h2 has given back the subnet of a container that runs")
		}
	})
	t.Run("an empty drained host gives its subnets back", func(t *testing.T) {
		l.Run(t, "h2", "ovlctl", "rm", "-f", "far")
		labtest.Until(t, "h2 holds no subnet", func() error {
			if got := l.Run(t, "h1", "ovlctl", "subnet", "ls", "--host", "h2", "-o", "name"); got != "" {
				return stillError(got)
			}
			return nil
		})
		labtest.Until(t, "h1 has no way to h2", func() error {
			if out := l.Run(t, "h1", "ip", "route", "show", "proto", "79"); strings.Contains(out, "ovx") {
				return stillError(out)
			}
			return nil
		})
		labtest.Until(t, "h2 has no links of ours", func() error {
			if got := ourLinks(t, l, "h2"); len(got) > 0 {
				return stillError(strings.Join(got, " "))
			}
			return nil
		})
	})
	t.Run("undone, it takes them again", func(t *testing.T) {
		l.Run(t, "h1", "ovlctl", "host", "drain", "h2", "--undo")
		labtest.Until(t, "h2 has heard of it", func() error {
			if r := l.Do(t, "h2", "ovlctl", "run", "-d", "--name", "far", "--network", "blue"); r.Code != 0 {
				return stillError(r.Stderr)
			}
			return nil
		})
		complete(t, []labtest.Container{web, far})
	})
	t.Run("forced, a network goes under its containers", func(t *testing.T) {
		l.Run(t, "h1", "ovlctl", "network", "rm", "blue", "--force", "--yes")
		for _, host := range l.Members() {
			labtest.Until(t, host+" has no links of ours", func() error {
				if got := ourLinks(t, l, host); len(got) > 0 {
					return stillError(strings.Join(got, " "))
				}
				return nil
			})
		}
	})
}

const errTaken = stillError("it takes another container")

// stillError is what is still there.
type stillError string

func (e stillError) Error() string { return "there is still " + string(e) }
