//go:build docker

package docker

import (
	"slices"
	"testing"
	"time"

	"github.com/ovlnet/ovl/internal/lab"
	"github.com/ovlnet/ovl/internal/lab/labtest"
)

// ways are the networks that are compared, by the name of what is reported. The floors are
// what no driver that is a plugin can be below: see floor.
var ways = []struct{ name, network string }{
	{"none", "none"},
	{"bridge", "bridge"},
	{"user-bridge", "plain"},
	{"floor-" + floorEmpty, "floor-" + floorEmpty},
	{"floor-" + floorVeth, "floor-" + floorVeth},
	{"ovl", "blue"},
	{"swarm-overlay", "swarm"},
}

// compared makes an engine with a network of each kind, each used once already.
func compared(b *testing.B, v version) *engine {
	b.Helper()
	l := labtest.Up(b, lab.Config{Hosts: 1})
	e := startEngine(b, l, "h1", v, config{})
	l.Run(b, "control", "ovlctl", "network", "create", "blue")
	e.docker(b, "network", "create", "plain")
	e.docker(b, "swarm", "init", "--advertise-addr", "192.168.77.1")
	e.docker(b, "network", "create", "-d", "overlay", "--attachable", "swarm")
	e.network(b, "blue")
	e.startFloor(b, floorEmpty)
	e.startFloor(b, floorVeth)
	for _, w := range ways {
		if w.network == "none" {
			continue
		}
		e.run(b, "--name", "first-"+w.network, "--network", w.network) // it stays, so that the network does
	}
	return e
}

// median returns the middle one of the times, in milliseconds.
func median(all []time.Duration) float64 {
	slices.Sort(all)
	return float64(all[len(all)/2].Microseconds()) / 1000
}

// BenchmarkRun is what `docker run` of a container that does nothing takes longer on a
// network than on none: made, started, ended and removed. All are measured in turns.
func BenchmarkRun(b *testing.B) {
	for _, v := range versions(b) {
		b.Run(v.name, func(b *testing.B) {
			e := compared(b, v)
			took := map[string][]time.Duration{}
			for b.Loop() {
				for _, w := range ways {
					began := time.Now()
					e.docker(b, "run", "--rm", "--network", w.network, image, "true")
					took[w.name] = append(took[w.name], time.Since(began))
				}
			}
			b.ReportMetric(0, "ns/op")
			for _, w := range ways[1:] {
				over := slices.Clone(took[w.name])
				for i, none := range took["none"] { // of the same turn
					over[i] -= none
				}
				b.ReportMetric(median(over), w.name+"-over-none-ms")
			}
			b.ReportMetric(median(took["none"]), "none-ms")
		})
	}
}

// BenchmarkConnect is what `docker network connect` of a container that runs takes, and
// `disconnect`.
func BenchmarkConnect(b *testing.B) {
	for _, v := range versions(b) {
		b.Run(v.name, func(b *testing.B) {
			e := compared(b, v)
			e.run(b, "--name", "guest", "--network", "bridge")
			on, off := map[string][]time.Duration{}, map[string][]time.Duration{}
			for b.Loop() {
				for _, w := range ways[2:] {
					began := time.Now()
					e.docker(b, "network", "connect", w.network, "guest")
					on[w.name] = append(on[w.name], time.Since(began))
					began = time.Now()
					e.docker(b, "network", "disconnect", w.network, "guest")
					off[w.name] = append(off[w.name], time.Since(began))
				}
			}
			b.ReportMetric(0, "ns/op")
			for _, w := range ways[2:] {
				b.ReportMetric(median(on[w.name]), w.name+"-connect-ms")
				b.ReportMetric(median(off[w.name]), w.name+"-disconnect-ms")
			}
		})
	}
}
