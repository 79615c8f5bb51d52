// Package integration runs the binaries of production on several hosts of a
// lab: real agents, real etcd, real kernel, real packets. What it asserts is
// read from the kernel, or seen by the other end.
package integration

import (
	"fmt"
	"net/netip"
	"os"
	"slices"
	"testing"

	"golang.org/x/sync/errgroup"

	"github.com/ovlnet/ovl/internal/lab"
	"github.com/ovlnet/ovl/internal/lab/labtest"
)

func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == crowdCommand {
		os.Exit(crowdMain(os.Args[2:]))
	}
	labtest.Main(m)
}

// threeHosts is the lab that most tests need.
func threeHosts(t *testing.T) *labtest.Lab {
	t.Helper()
	return labtest.Up(t, lab.Config{Hosts: 3})
}

// onEach starts a sandbox on a network on each host, named after both.
func onEach(t *testing.T, l *labtest.Lab, network string) []labtest.Container {
	t.Helper()
	var all []labtest.Container
	for _, host := range l.Members() {
		all = append(all, l.Sandbox(t, host, network+"-"+host, "--network", network))
	}
	return all
}

// pair is a ping that may or may not be answered.
type pair struct {
	from labtest.Container
	to   netip.Addr
}

// eachPair are the pairs of different containers, one of each group.
func eachPair(t *testing.T, from, to []labtest.Container) []pair {
	t.Helper()
	var pairs []pair
	for _, b := range to {
		for _, addr := range b.Addrs(t, "eth0") {
			for _, a := range from {
				if a != b {
					pairs = append(pairs, pair{a, addr})
				}
			}
		}
	}
	return pairs
}

// unanswered pings all pairs, a few at a time, and returns those that got no
// answer.
func unanswered(t *testing.T, pairs []pair) []string {
	t.Helper()
	failed := make([]string, len(pairs))
	var g errgroup.Group
	g.SetLimit(8)
	for i, p := range pairs {
		g.Go(func() error {
			if err := p.from.Reaches(t, p.to); err != nil {
				failed[i] = fmt.Sprintf("%s -> %s", p.from, p.to)
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	return slices.DeleteFunc(failed, func(s string) bool { return s == "" })
}

// complete checks that every container reaches every other at once: attaching
// returned, so the packets must flow, once the peers have heard.
func complete(t *testing.T, containers []labtest.Container) {
	t.Helper()
	pairs := eachPair(t, containers, containers)
	labtest.Until(t, "all reach all", func() error {
		if failed := unanswered(t, pairs); len(failed) > 0 {
			return fmt.Errorf("unanswered: %v", failed)
		}
		return nil
	})
}
