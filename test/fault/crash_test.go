package fault

import (
	"testing"

	"github.com/ovlnet/ovl/internal/lab"
	"github.com/ovlnet/ovl/internal/lab/labtest"
)

func TestAKilledAgentLosesNoPacket(t *testing.T) {
	t.Parallel()
	l, a, b := pairOfHosts(t)
	before := l.Dump(t, "h1")
	there, back := a.StartPing(t, b.Addrs(t, "eth0")[0]), b.StartPing(t, a.Addrs(t, "eth0")[0])
	for range 5 {
		for _, host := range l.Members() {
			must(t, l.Kill(t.Context(), host, lab.Agent))
			must(t, l.Start(t.Context(), host, lab.Agent))
		}
		atRest(t, l)
	}
	there.NoneLost(t)
	back.NoneLost(t)
	if after := l.Dump(t, "h1"); after != before {
		t.Errorf("h1 is not as before: %s", labtest.Difference(before, after))
	}
	c := l.Sandbox(t, "h1", "c", "--network", "blue")
	reaches(t, c, b)
}

// TestAnAgentKilledAtAnyMomentArrives kills an agent while it programs a new
// container, at ever later moments, and starts it again.
func TestAnAgentKilledWhileAttachingArrives(t *testing.T) {
	t.Parallel()
	l, _, b := pairOfHosts(t)
	for i := range 8 {
		name := "k" + string(rune('0'+i))
		cmd, err := l.Command(t.Context(), "h1", "ovlctl", "run", "-d", "--name", name, "--network", "blue", "--timeout", "5s")
		must(t, err)
		must(t, cmd.Start())
		// A few system calls more each time: reading /proc is one that waits.
		for range i {
			l.Run(t, "h1", "true")
		}
		must(t, l.Kill(t.Context(), "h1", lab.Agent))
		_ = cmd.Wait() // it may have succeeded, or not: both are right
		must(t, l.Start(t.Context(), "h1", lab.Agent))
		atRest(t, l)
		l.Do(t, "h1", "ovlctl", "rm", "-f", name)
		atRest(t, l)
	}
	c := l.Sandbox(t, "h1", "c", "--network", "blue")
	reaches(t, c, b)
}
