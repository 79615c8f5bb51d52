package cni

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/ovlnet/ovl/internal/lab/labtest"
)

// The rates of TestBandwidthIsWhatWasAskedFor, in bits per second. They are low
// enough that a busy machine is no limit.
const (
	inRate  = 40_000_000
	outRate = 16_000_000
)

// seconds is how long each direction is measured.
const seconds = 4

// TestBandwidthIsWhatWasAskedFor: a container that is limited receives and sends
// as fast as it may and no faster, whatever the other side could.
func TestBandwidthIsWhatWasAskedFor(t *testing.T) {
	t.Parallel()
	n := nodes(t, 1)[0]
	n.run(t, "ovlctl", "network", "create", "blue", "--subnet", "10.64.0.0/16")
	n.told(t)
	slow, free := n.netns(t, "slow"), n.netns(t, "free")
	limits := fmt.Sprintf(`CAP_ARGS={"bandwidth":{"ingressRate":%d,"ingressBurst":200000,"egressRate":%d,"egressBurst":200000}}`, inRate, outRate)
	n.must(t, limits, "add", "blue", slow)
	server := n.must(t, "add", "blue", free).IPs[0].Address.IP.String()
	n.must(t, limits, "check", "blue", slow)

	serve, err := n.Command(t.Context(), n.host, "ip", "netns", "exec", "free", "iperf3", "-s")
	if err != nil {
		t.Fatal(err)
	}
	if err := serve.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = serve.Process.Kill()
		_ = serve.Wait()
	})
	for _, c := range []struct {
		direction string
		rate      float64
		args      []string
	}{{"out", outRate, nil}, {"in", inRate, []string{"-R"}}} {
		got := reached(t, n, server, c.args...)
		// The shaper counts frames: of a full one of 1,464 bytes 1,398 are data (1,450
		// less 52 of TCP and IP). A burst comes on top.
		ratio := got / c.rate
		t.Logf("%s: %.1f of %.1f Mbit/s of frames are data: %.3f", c.direction, got/1e6, c.rate/1e6, ratio)
		if ratio > 1.0 {
			t.Errorf("%s: %.0f bits per second are more than the %.0f asked for", c.direction, got, c.rate)
		}
		if ratio < 0.5 { // a factor is wrong; how near it comes is for test/bench to tell
			t.Errorf("%s: %.0f bits per second are less than half of the %.0f asked for", c.direction, got, c.rate)
		}
	}

	// What a hand takes away comes back, at both ends.
	link := n.must(t, limits, "add", "blue", slow).Interfaces[0].Name
	for _, at := range []string{"tc qdisc %s dev " + link + " root", "tc -n slow qdisc %s dev eth0 root"} {
		n.run(t, strings.Fields(fmt.Sprintf(at, "del"))...)
		labtest.Until(t, "it is limited again", func() error {
			if q := n.run(t, strings.Fields(fmt.Sprintf(at, "show"))...); !strings.Contains(q, "qdisc tbf 4f:") {
				return errors.New(q)
			}
			return nil
		})
	}

	// Asking for something else under the same name is no repetition.
	if r := n.tool(t, strings.Replace(limits, "200000", "300000", 1), "add", "blue", slow); r.Code == 0 || !strings.Contains(r.Stderr, "which is not the same") {
		t.Errorf("added again with another burst: %+v", r)
	}
	// What is impossible is refused, and nothing is left.
	other := n.netns(t, "other")
	for bad, says := range map[string]string{
		`{"ingressRate":1000000}`: "burst", `{"egressRate":1,"egressBurst":1}`: "64000", `{"egressBurst":8}`: "burst", `{"ingressRate":-1}`: "read the network configuration",
	} {
		if r := n.tool(t, `CAP_ARGS={"bandwidth":`+bad+`}`, "add", "blue", other); r.Code == 0 || !strings.Contains(r.Stderr, says) {
			t.Errorf("%s: %+v, want %q", bad, r, says)
		}
	}
	if left := n.run(t, "ip", "-n", "other", "-br", "link"); strings.Count(left, "\n") != 0 {
		t.Errorf("left in the namespace: %s", left)
	}
}

// reached returns the bits of data per second that reach the other side.
func reached(t *testing.T, n node, server string, args ...string) float64 {
	t.Helper()
	var report struct {
		End struct {
			Received struct {
				Rate float64 `json:"bits_per_second"`
			} `json:"sum_received"`
		} `json:"end"`
	}
	cmd := append([]string{"ip", "netns", "exec", "slow", "iperf3", "-J", "-t", fmt.Sprint(seconds), "-c", server}, args...)
	labtest.Until(t, "iperf3 listens", func() error {
		r := n.Do(t, n.host, cmd...)
		if r.Code != 0 {
			return fmt.Errorf("%s%s", r.Stdout, r.Stderr)
		}
		if err := json.Unmarshal([]byte(r.Stdout), &report); err != nil {
			return err
		}
		if report.End.Received.Rate == 0 { // a server that was too busy to count says so
			return errors.New("nothing was received: " + r.Stdout)
		}
		return nil
	})
	return report.End.Received.Rate
}
