package integration

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"golang.org/x/sync/errgroup"

	"github.com/ovlnet/ovl/internal/lab"
	"github.com/ovlnet/ovl/internal/lab/labtest"
)

// TestFiftyAgentsAtTheSameInstant is a rack that boots: all agents start at
// once, then a container starts on every host at once, so that all take a
// subnet at once.
func TestFiftyAgentsAtTheSameInstant(t *testing.T) {
	if testing.Short() {
		t.Skip("fifty agents: not in -short")
	}
	const hosts = 50
	l := labtest.Up(t, lab.Config{Hosts: hosts})
	l.Run(t, "h1", "ovlctl", "network", "create", "blue", "--subnet", "10.64.0.0/16")
	containers := make([]labtest.Container, hosts)
	var g errgroup.Group
	for i, host := range l.Members() {
		g.Go(func() error {
			containers[i] = labtest.Container{Lab: l, Host: host, Name: "c"}
			r := l.Do(t, host, "ovlctl", "run", "-d", "--name", "c", "--network", "blue", "--timeout", "2m")
			if r.Code != 0 {
				return fmt.Errorf("run on %s: exit code %d: %s", host, r.Code, r.Stderr)
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	held := subnetsOf(t, l, "blue")
	disjoint(t, held, hosts)
	for _, host := range l.Members() {
		labtest.Until(t, host+" has a route to all others", func() error { return meshed(t, l, host, held) })
	}
	var pairs []pair
	for i, c := range containers {
		for _, step := range []int{1, 17} {
			pairs = append(pairs, pair{c, containers[(i+step)%hosts].Addr(t)})
		}
	}
	if failed := unanswered(t, pairs); len(failed) > 0 {
		t.Errorf("%d of %d pings are unanswered: %v", len(failed), len(pairs), failed)
	}
}

// subnetsOf returns who holds which subnet.
func subnetsOf(t *testing.T, l *labtest.Lab, network string) map[netip.Prefix]string {
	t.Helper()
	var subnets []struct {
		Prefix netip.Prefix `json:"prefix"`
		Host   string       `json:"host"`
	}
	l.JSON(t, &subnets, "h1", "ovlctl", "subnet", "ls", "--network", network, "-o", "json")
	held := map[netip.Prefix]string{}
	for _, s := range subnets {
		held[s.Prefix] = s.Host
	}
	return held
}

// disjoint checks that there is one subnet for each host and that no two
// overlap.
func disjoint(t *testing.T, held map[netip.Prefix]string, hosts int) {
	t.Helper()
	holders := map[string]netip.Prefix{}
	for p, host := range held {
		holders[host] = p
		for q := range held {
			if p != q && p.Overlaps(q) {
				t.Errorf("%s of %s overlaps %s of %s", p, host, q, held[q])
			}
		}
	}
	if len(held) != hosts || len(holders) != hosts {
		t.Fatalf("%d hosts hold %d subnets, want %d of each", len(holders), len(held), hosts)
	}
}

// meshed reports which subnet of another host this host's kernel has no route
// to, and whether there is a neighbour and an FDB entry for each route.
func meshed(t *testing.T, l *labtest.Lab, host string, held map[netip.Prefix]string) error {
	t.Helper()
	var routes []struct {
		Dst string `json:"dst"`
	}
	l.JSON(t, &routes, host, "ip", "-j", "route")
	has := map[string]bool{}
	for _, r := range routes {
		has[r.Dst] = true
	}
	for p, holder := range held {
		if !has[p.String()] {
			return fmt.Errorf("no route to %s of %s", p, holder)
		}
	}
	peers := len(held) - 1
	for table, args := range map[string]string{
		"neighbours": "ip -o neigh show nud permanent",
		"entries":    "bridge fdb show",
	} {
		n := 0
		for line := range strings.Lines(l.Run(t, host, strings.Fields(args)...)) {
			if strings.Contains(line, "dev ovx") && (table == "neighbours" || strings.Contains(line, " dst ")) {
				n++
			}
		}
		if n != peers {
			return fmt.Errorf("%d %s on the tunnel, want %d", n, table, peers)
		}
	}
	return nil
}
