//go:build docker

package docker

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/ovlnet/ovl/internal/lab"
	"github.com/ovlnet/ovl/internal/lab/labtest"
)

// twoEngines makes a lab of two hosts, each with its agent and an engine.
func twoEngines(t *testing.T, v version, c config) (l *labtest.Lab, one, two *engine) {
	t.Helper()
	l = labtest.Up(t, lab.Config{Hosts: 2})
	return l, startEngine(t, l, "h1", v, c), startEngine(t, l, "h2", v, c)
}

// network is what an engine shows of a network.
type network struct {
	ID, Driver string
	Internal   bool
	EnableIPv6 bool
	IPAM       struct {
		Driver string
		Config []struct{ Subnet, Gateway string }
	}
	Options    map[string]string
	Containers map[string]struct{ Name, IPv4Address, MacAddress string }
}

func (n network) subnets() []string {
	var all []string
	for _, c := range n.IPAM.Config {
		all = append(all, c.Subnet)
	}
	slices.Sort(all)
	return all
}

// network waits until the engine has a network, and returns it.
func (e *engine) network(tb testing.TB, name string) network {
	tb.Helper()
	var found []network
	labtest.Until(tb, "the engine on "+e.host+" has network "+name, func() error {
		r := e.try(tb, "network", "inspect", name)
		if r.Code != 0 {
			return errors.New(r.Stderr)
		}
		return json.Unmarshal([]byte(r.Stdout), &found)
	})
	return found[0]
}

// lacks waits until the engine does not have a network.
func (e *engine) lacks(tb testing.TB, name string) {
	tb.Helper()
	labtest.Until(tb, "the engine on "+e.host+" has no network "+name, func() error {
		if names := strings.Fields(e.docker(tb, "network", "ls", "--format", "{{.Name}}")); slices.Contains(names, name) {
			return fmt.Errorf("it has %v", names)
		}
		return nil
	})
}

// problem waits until the agent of a host reports a problem with those words.
func problem(tb testing.TB, l *labtest.Lab, host string, words ...string) {
	tb.Helper()
	labtest.Until(tb, host+" reports "+strings.Join(words, ", "), func() error {
		out := l.Do(tb, host, "ovlctl", "agent", "status").Stdout
		for _, w := range words {
			if !strings.Contains(out, w) {
				return errors.New(out)
			}
		}
		return nil
	})
}

// healthy waits until nothing is wrong on a host.
func healthy(tb testing.TB, l *labtest.Lab, hosts ...string) {
	tb.Helper()
	for _, host := range hosts {
		labtest.Until(tb, host+" is healthy", func() error {
			var status struct {
				Problems, Failing []any
			}
			if err := json.Unmarshal([]byte(l.Do(tb, host, "ovlctl", "agent", "status", "-o", "json").Stdout), &status); err != nil {
				return err
			}
			if len(status.Problems)+len(status.Failing) > 0 {
				return fmt.Errorf("%+v", status)
			}
			return nil
		})
	}
}

// noEndpoints waits until the cluster has none.
func noEndpoints(tb testing.TB, l *labtest.Lab) {
	tb.Helper()
	labtest.Until(tb, "no endpoint is left", func() error {
		if out := l.Run(tb, "control", "ovlctl", "endpoint", "ls", "-o", "name"); out != "" {
			return errors.New(out)
		}
		return nil
	})
}

// TestNetworksOfTheCluster: what ovlctl makes and removes, engines have and lose.
func TestNetworksOfTheCluster(t *testing.T) {
	everyEngine(t, func(t *testing.T, v version) {
		l, one, two := twoEngines(t, v, config{})
		l.Run(t, "control", "ovlctl", "network", "create", "blue", "--subnet", "10.70.0.0/16", "--subnet", "fd70::/48")
		l.Run(t, "control", "ovlctl", "network", "create", "vault", "--internal")
		l.Run(t, "control", "ovlctl", "network", "create", "out", "--label", "docker.egress=docker")
		for _, e := range []*engine{one, two} {
			n := e.network(t, "blue")
			if n.Driver != "ovl" || n.IPAM.Driver != "ovl" || n.Internal || !n.EnableIPv6 || !slices.Equal(n.subnets(), []string{"10.70.0.0/16", "fd70::/48"}) {
				t.Errorf("blue on %s: %+v", e.host, n)
			}
			if n := e.network(t, "vault"); !n.Internal {
				t.Errorf("vault on %s is not internal: %+v", e.host, n)
			}
			if n := e.network(t, "out"); n.Options["egress"] != "docker" {
				t.Errorf("out on %s: %+v", e.host, n)
			}
		}
		// What somebody removes on one host only comes back: it is the cluster's.
		before := one.network(t, "vault").ID
		one.docker(t, "network", "rm", "vault")
		labtest.Until(t, "vault comes back", func() error {
			r := one.try(t, "network", "inspect", "--format", "{{.Id}}", "vault")
			if r.Code != 0 || strings.TrimSpace(r.Stdout) == before {
				return fmt.Errorf("%+v", r)
			}
			return nil
		})
		healthy(t, l, "h1", "h2")

		l.Run(t, "control", "ovlctl", "network", "rm", "vault", "out", "--yes")
		for _, e := range []*engine{one, two} {
			e.lacks(t, "vault")
			e.lacks(t, "out")
		}
		// One that is in use stays until it is not.
		one.run(t, "--name", "web", "--network", "blue")
		two.network(t, "blue")
		labtest.Until(t, "the endpoint is known", func() error {
			if out := l.Run(t, "control", "ovlctl", "endpoint", "ls", "--network", "blue"); !strings.Contains(out, "web") {
				return errors.New(out)
			}
			return nil
		})
		if r := l.Do(t, "control", "ovlctl", "network", "rm", "blue", "--yes"); r.Code == 0 || !strings.Contains(r.Stderr, "web on h1") {
			t.Errorf("a network in use was removed: %+v", r)
		}
		l.Run(t, "control", "ovlctl", "network", "rm", "blue", "--yes", "--force")
		two.lacks(t, "blue")
		problem(t, l, "h1", "docker network blue still has containers")
		one.docker(t, "rm", "-f", "web")
		one.lacks(t, "blue")
		healthy(t, l, "h1", "h2")
	})
}

// TestNetworksOfAnEngine: what `docker network create` makes on one host is the
// cluster's, and all engines have it; `docker network rm` anywhere ends it.
func TestNetworksOfAnEngine(t *testing.T) {
	everyEngine(t, func(t *testing.T, v version) {
		l, one, two := twoEngines(t, v, config{})
		id := one.docker(t, "network", "create", "-d", "ovl", "--ipam-driver", "ovl", "blue")
		one.run(t, "--name", "first", "--network", "blue") // at once
		here, there := one.network(t, "blue"), two.network(t, "blue")
		if here.ID != id || !slices.Equal(here.subnets(), there.subnets()) || len(here.subnets()) != 1 {
			t.Errorf("on h1 %+v, on h2 %+v", here, there)
		}
		var n struct {
			Subnets []string          `json:"subnets"`
			Labels  map[string]string `json:"labels"`
		}
		l.JSON(t, &n, "control", "ovlctl", "network", "inspect", "blue", "-o", "json")
		if !slices.Equal(n.Subnets, here.subnets()) || n.Labels["docker.host"] == "" {
			t.Errorf("in the cluster: %+v", n)
		}
		two.docker(t, "network", "create", "-d", "ovl", "--ipam-driver", "ovl", "--internal", "--subnet", "10.99.0.0/16", "My_Net")
		if n := one.network(t, "my-net"); !n.Internal || !slices.Equal(n.subnets(), []string{"10.99.0.0/16"}) {
			t.Errorf("my-net on h1: %+v", n)
		}
		healthy(t, l, "h1", "h2")

		// In use elsewhere, it comes back.
		two.docker(t, "network", "rm", "blue")
		two.network(t, "blue")
		problem(t, l, "h2", "was removed from this host's container engine")
		one.docker(t, "rm", "-f", "first")
		noEndpoints(t, l)
		two.docker(t, "network", "rm", "blue")
		one.lacks(t, "blue")
		if out := l.Run(t, "control", "ovlctl", "network", "ls", "-o", "name"); out != "my-net" {
			t.Errorf("networks of the cluster: %s", out)
		}
		one.docker(t, "network", "rm", "my-net")
		two.lacks(t, "My_Net")
		healthy(t, l, "h1", "h2")
	})
}

// TestNetworksCollide: what is not ours is left alone, and told of.
func TestNetworksCollide(t *testing.T) {
	everyEngine(t, func(t *testing.T, v version) {
		l, one, two := twoEngines(t, v, config{})
		id := one.docker(t, "network", "create", "--subnet", "172.30.0.0/24", "blue")
		l.Run(t, "control", "ovlctl", "network", "create", "blue", "--subnet", "10.70.0.0/16")
		two.network(t, "blue")
		problem(t, l, "h1", "a network of that name, with the driver bridge", "docker network rm blue")
		if n := one.network(t, "blue"); n.ID != id || n.Driver != "bridge" {
			t.Errorf("blue on h1: %+v", n)
		}
		one.docker(t, "network", "rm", "blue")
		labtest.Until(t, "blue takes its place", func() error {
			if n := one.network(t, "blue"); n.Driver != "ovl" {
				return fmt.Errorf("%+v", n)
			}
			return nil
		})
		healthy(t, l, "h1", "h2")

		for want, args := range map[string][]string{
			"overlaps":                 {"--ipam-driver", "ovl", "--subnet", "10.70.3.0/24", "red"},
			"add --ipam-driver ovl":    {"red"},
			"10.71.0.0/16":             {"--ipam-driver", "ovl", "--subnet", "10.71.0.1/16", "red"},
			"--ip-range":               {"--ipam-driver", "ovl", "--subnet", "10.71.0.0/16", "--ip-range", "10.71.4.0/24", "red"},
			"no is not in the cluster": {"--ipam-driver", "ovl", "--ipam-opt", "ovl.network=no", "-o", "ovl.network=no", "no"},
		} {
			if r := one.try(t, append([]string{"network", "create", "-d", "ovl"}, args...)...); r.Code == 0 || !strings.Contains(r.Stderr, want) {
				t.Errorf("network create %v: %+v, want %q", args, r, want)
			}
		}
		if out := l.Run(t, "control", "ovlctl", "network", "ls", "-o", "name"); out != "blue" {
			t.Errorf("networks of the cluster: %s", out)
		}
	})
}
