package labtest

import (
	"bytes"
	"math"
	"net/netip"
	"os/exec"
	"regexp"
	"strconv"
	"testing"
	"time"

	"github.com/ovlnet/ovl/internal/lab"
)

// Ping is a ping that runs, a hundred packets a second.
type Ping struct {
	from   string
	to     netip.Addr
	cmd    *exec.Cmd
	output *pingOutput
}

// pingOutput is what a ping wrote; answered is closed on the first answer.
type pingOutput struct {
	text     bytes.Buffer // not embedded: io.Copy would go past Write
	answered chan struct{}
}

func (o *pingOutput) String() string { return o.text.String() }

func (o *pingOutput) Write(b []byte) (int, error) {
	n, err := o.text.Write(b)
	select {
	case <-o.answered:
	default:
		if sequence.Match(o.text.Bytes()) {
			close(o.answered)
		}
	}
	return n, err
}

// StartPing starts a ping in the container and returns when the first answer
// has arrived, so that what follows happens to a stream that flows.
func (c Container) StartPing(tb testing.TB, to netip.Addr) *Ping {
	tb.Helper()
	return c.Lab.startPing(tb, c.String(), to, c.Host, c.argv(nil)...)
}

// StartPing is [Container.StartPing] in a named namespace of a host; empty: in the
// host's own.
func (l *Lab) StartPing(tb testing.TB, host, namespace string, to netip.Addr) *Ping {
	tb.Helper()
	if namespace == "" {
		return l.startPing(tb, host, to, host)
	}
	return l.startPing(tb, namespace+" on "+host, to, host, "ip", "netns", "exec", namespace)
}

func (l *Lab) startPing(tb testing.TB, from string, to netip.Addr, host string, argv ...string) *Ping {
	tb.Helper()
	cmd, err := l.Command(tb.Context(), host, append(argv, "ping", "-n", "-i", "0.01", to.String())...)
	if err != nil {
		tb.Fatal(err)
	}
	p := &Ping{from: from, to: to, cmd: cmd, output: &pingOutput{answered: make(chan struct{})}}
	cmd.Stdout, cmd.Stderr = p.output, p.output
	if err := cmd.Start(); err != nil {
		tb.Fatal(err)
	}
	select {
	case <-p.output.answered:
	case <-time.After(patience):
		tb.Fatalf("ping from %s to %s: no answer yet", from, to)
	}
	return p
}

// Stop ends the ping and returns how many of its packets were answered, and
// which were not though a later one was. The very last may be on its way when
// the ping ends: it is neither.
func (p *Ping) Stop(tb testing.TB) (answered int, lost []int) {
	tb.Helper()
	if err := lab.Interrupt(p.cmd); err != nil {
		tb.Fatal(err)
	}
	_ = p.cmd.Wait() // ended by the interrupt: its words tell the rest
	answered, lost = answers(p.output.String())
	if answered == 0 {
		tb.Fatalf("ping from %s to %s: no answers in %q", p.from, p.to, p.output.String())
	}
	return answered, lost
}

// NoneLost ends the ping and fails the test if a packet was lost.
func (p *Ping) NoneLost(tb testing.TB) {
	tb.Helper()
	answered, lost := p.Stop(tb)
	if len(lost) > 0 {
		tb.Errorf("ping from %s to %s: lost %d of %d packets: %v", p.from, p.to, len(lost), answered+len(lost), lost)
	}
	tb.Logf("ping from %s to %s: %d answers, %d lost", p.from, p.to, answered, len(lost))
}

var sequence = regexp.MustCompile(`icmp_seq=(\d+) ttl=`)

// answers finds the sequence numbers of the answers in what ping wrote, and
// those that are missing up to the greatest. The numbers have 16 bits: a ping
// must be shorter than ten minutes.
func answers(out string) (answered int, missing []int) {
	seen, last := map[int]bool{}, 0
	for _, m := range sequence.FindAllStringSubmatch(out, -1) {
		n, err := strconv.Atoi(m[1])
		if err != nil || n > math.MaxUint16 {
			continue // not ping's
		}
		seen[n], last = true, max(last, n)
	}
	for n := 1; n < last; n++ {
		if !seen[n] {
			missing = append(missing, n)
		}
	}
	return len(seen), missing
}
