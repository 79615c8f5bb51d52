package bench

import (
	"encoding/json"
	"os"
	"regexp"
	"strconv"
	"testing"

	"github.com/ovlnet/ovl/internal/lab"
)

// BenchmarkGuards measures what the guards of nf_tables cost on the way between two
// containers on two hosts: with them and without, in turns, all other rules in place.
// Reported are the medians of both and of the turns' ratios: TCP in Gbit/s, datagrams
// of 64 bytes received in thousands a second, and round trips of a ping that waits for
// each answer in thousands a second.
func BenchmarkGuards(b *testing.B) {
	for _, c := range []struct {
		name    string
		measure func(*testing.B, *path) float64
	}{
		{"TCP1", func(b *testing.B, p *path) float64 { return p.contained(b, 1, p.overlay) }},
		{"TCP4", func(b *testing.B, p *path) float64 { return p.contained(b, 4, p.overlay) }},
		{"UDP64", datagrams},
		{"RoundTrips", roundTrips},
	} {
		b.Run(c.name, func(b *testing.B) {
			if os.Getenv("OVL_BIN_DIR") == "" {
				b.Setenv("OVL_BIN_DIR", binDir)
			}
			p := newPath(b)
			var with, without, ratio []float64
			for i := 0; b.Loop(); i++ {
				var on, off float64
				if i%2 == 0 { // the first of two is at a disadvantage
					on = c.measure(b, p)
				}
				p.dropGuards(b)
				off = c.measure(b, p)
				p.guard(b)
				if i%2 == 1 {
					on = c.measure(b, p)
				}
				with, without, ratio = append(with, on), append(without, off), append(ratio, on/off)
			}
			b.ReportMetric(median(with), "with")
			b.ReportMetric(median(without), "without")
			b.ReportMetric(median(ratio), "with/without")
			b.ReportMetric(0, "ns/op")
		})
	}
}

// dropGuards takes the guards away from both hosts and keeps the agents from putting
// them back; see [path.guard].
func (p *path) dropGuards(b *testing.B) {
	b.Helper()
	for _, h := range []string{"h1", "h2"} {
		must(b, p.Stop(b.Context(), h, lab.Agent))
		p.Run(b, h, "nft", "delete table inet ovl; delete table bridge ovl")
	}
}

// datagrams sends as many as it can for two seconds.
func datagrams(b *testing.B, p *path) float64 {
	b.Helper()
	server, client := p.overlay.server, p.overlay.client
	server.Run(b, "iperf3", "-s", "-1", "-D", "-I", "/run/iperf3.pid")
	out := client.Run(b, "iperf3", "-c", server.Addr(b).String(), "-u", "-l", "64", "-b", "0", "-t", "2", "-J", "--connect-timeout", "3000")
	var r struct {
		End struct {
			Sum struct {
				Packets float64 `json:"packets"`
				Lost    float64 `json:"lost_packets"`
				Seconds float64 `json:"seconds"`
			} `json:"sum"`
		} `json:"end"`
	}
	must(b, json.Unmarshal([]byte(out), &r))
	if r.End.Sum.Seconds == 0 {
		b.Fatalf("iperf3 measured nothing: %s", out)
	}
	return (r.End.Sum.Packets - r.End.Sum.Lost) / r.End.Sum.Seconds / 1000
}

var pingTime = regexp.MustCompile(`time (\d+)ms`)

// roundTrips sends a ping as soon as the last one is answered.
func roundTrips(b *testing.B, p *path) float64 {
	b.Helper()
	const count = 50_000
	out := p.overlay.client.Run(b, "ping", "-f", "-q", "-c", strconv.Itoa(count), p.overlay.server.Addr(b).String())
	m := pingTime.FindStringSubmatch(out)
	if m == nil {
		b.Fatalf("ping measured nothing: %s", out)
	}
	ms, err := strconv.Atoi(m[1])
	must(b, err)
	return count / float64(ms)
}
