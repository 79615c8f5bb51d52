package bench

import (
	"encoding/json"
	"os"
	"os/exec"
	"strconv"
	"testing"

	"github.com/ovlnet/ovl/internal/lab"
	"github.com/ovlnet/ovl/internal/lab/labtest"
)

// path is a lab of two hosts with a container of each network on both.
type path struct {
	*labtest.Lab
	overlay, direct ends
	underlay        string // of the servers' host
}

// ends are the containers of one network.
type ends struct{ client, server labtest.Container }

// BenchmarkPath measures TCP between two containers on two hosts beside TCP
// between the hosts themselves, in turns. Reported are medians of the turns'
// throughputs in Gbit/s, and of their ratios to the raw underlay: the overlay as
// it is, the same with direct routing, and the floor, which is the overlay's path
// without any packet filter and without connection tracking.
func BenchmarkPath(b *testing.B) {
	if _, err := exec.LookPath("iperf3"); err != nil {
		b.Fatal("iperf3 is missing (Debian, Ubuntu: apt install iperf3; Fedora: dnf install iperf3)")
	}
	for _, streams := range []int{1, 4} {
		b.Run("TCP"+strconv.Itoa(streams), func(b *testing.B) {
			if os.Getenv("OVL_BIN_DIR") == "" {
				b.Setenv("OVL_BIN_DIR", binDir)
			}
			p := newPath(b)
			var raw, overlay, direct, floor, ofRaw, directOfRaw, ofFloor []float64
			for b.Loop() {
				r, o, d := p.raw(b, streams), p.contained(b, streams, p.overlay), p.contained(b, streams, p.direct)
				p.unguard(b)
				f := p.contained(b, streams, p.overlay)
				p.guard(b)
				raw, overlay, direct, floor = append(raw, r), append(overlay, o), append(direct, d), append(floor, f)
				ofRaw, directOfRaw, ofFloor = append(ofRaw, o/r), append(directOfRaw, d/r), append(ofFloor, o/f)
			}
			b.ReportMetric(median(raw), "raw-Gbit/s")
			b.ReportMetric(median(overlay), "overlay-Gbit/s")
			b.ReportMetric(median(direct), "direct-Gbit/s")
			b.ReportMetric(median(floor), "floor-Gbit/s")
			b.ReportMetric(median(ofRaw), "overlay/raw")
			b.ReportMetric(median(directOfRaw), "direct/raw")
			b.ReportMetric(median(ofFloor), "overlay/floor")
			b.ReportMetric(0, "ns/op")
		})
	}
}

func newPath(b *testing.B) *path {
	l := labtest.Up(b, lab.Config{Name: "path", Hosts: 2})
	l.Run(b, "h1", "ovlctl", "network", "create", "blue", "--subnet", "10.64.0.0/16")
	l.Run(b, "h1", "ovlctl", "network", "create", "fast", "--subnet", "10.65.0.0/16", "--direct-routing")
	between := func(network string) ends {
		e := ends{l.Sandbox(b, "h1", network+"-c", "--network", network), l.Sandbox(b, "h2", network+"-s", "--network", network)}
		labtest.Until(b, "they reach each other on "+network, func() error { return e.client.Reaches(b, e.server.Addr(b)) })
		return e
	}
	p := &path{Lab: l, overlay: between("blue"), direct: between("fast")}
	h, err := l.Host("h2")
	must(b, err)
	p.underlay = h.Address
	return p
}

// iperf runs a server and a client and returns what the server received, in
// Gbit/s.
func (p *path) iperf(b *testing.B, streams int, address string, server, client func(args ...string) string) float64 {
	b.Helper()
	server("iperf3", "-s", "-1", "-D", "-I", "/run/iperf3.pid")
	out := client("iperf3", "-c", address, "-t", "2", "-O", "1", "-P", strconv.Itoa(streams), "-J", "--connect-timeout", "3000")
	var r struct {
		End struct {
			Received struct {
				BitsPerSecond float64 `json:"bits_per_second"`
			} `json:"sum_received"`
		} `json:"end"`
	}
	must(b, json.Unmarshal([]byte(out), &r))
	if r.End.Received.BitsPerSecond == 0 {
		b.Fatalf("iperf3 measured nothing: %s", out)
	}
	return r.End.Received.BitsPerSecond / 1e9
}

func (p *path) raw(b *testing.B, streams int) float64 {
	b.Helper()
	on := func(host string) func(...string) string {
		return func(args ...string) string { return p.Run(b, host, args...) }
	}
	return p.iperf(b, streams, p.underlay, on("h2"), on("h1"))
}

func (p *path) contained(b *testing.B, streams int, e ends) float64 {
	b.Helper()
	in := func(c labtest.Container) func(...string) string {
		return func(args ...string) string { return c.Run(b, args...) }
	}
	return p.iperf(b, streams, e.server.Addr(b).String(), in(e.server), in(e.client))
}

// unguard takes away every packet filter of both hosts and keeps the agents from
// putting them back.
func (p *path) unguard(b *testing.B) {
	b.Helper()
	for _, h := range []string{"h1", "h2"} {
		must(b, p.Stop(b.Context(), h, lab.Agent))
		p.Run(b, h, "nft", "flush", "ruleset")
	}
}

func (p *path) guard(b *testing.B) {
	b.Helper()
	for _, h := range []string{"h1", "h2"} {
		must(b, p.Start(b.Context(), h, lab.Agent))
		labtest.Until(b, "the agent to put its rules back", func() error { return p.AtRest(b, h) })
	}
}
