package fault

import (
	"testing"
	"time"

	"github.com/ovlnet/ovl/internal/lab"
	"github.com/ovlnet/ovl/internal/lab/labtest"
)

func TestEtcdAwayLosesNoPacket(t *testing.T) {
	t.Parallel()
	l, a, b := pairOfHosts(t)
	there, back := a.StartPing(t, b.Addrs(t, "eth0")[0]), b.StartPing(t, a.Addrs(t, "eth0")[0])
	must(t, l.Kill(t.Context(), lab.Control, lab.Etcd))
	gone := time.Now()

	// On a subnet that the host holds, life goes on.
	c := l.Sandbox(t, "h1", "c", "--network", "blue")
	reaches(t, c, b)
	reaches(t, b, c)
	if r := l.Do(t, "h1", "ovlctl", "network", "ls", "--timeout", "2s"); r.Code != 6 {
		t.Errorf("network ls without a controller: %+v, want code 6", r)
	}

	// A restarted agent plans from what is on its disk.
	before := l.Dump(t, "h2")
	must(t, l.Kill(t.Context(), "h2", lab.Agent))
	must(t, l.Start(t.Context(), "h2", lab.Agent))
	labtest.Until(t, "h2 is at rest", func() error { return l.AtRest(t, "h2") })
	if after := l.Dump(t, "h2"); after != before {
		t.Errorf("h2 after a restart without etcd is not as before: %s", labtest.Difference(before, after))
	}
	d := l.Sandbox(t, "h2", "d", "--network", "blue")
	reaches(t, d, c)
	reaches(t, d, c)
	await(t, gone.Add(outage(t)))
	there.NoneLost(t)
	back.NoneLost(t)

	// What is broken meanwhile comes back.
	repair(t, l, "h2", "ip link del "+linkOf(t, l, "h2", "ovx"))
	reaches(t, d, c)
	must(t, l.Start(t.Context(), lab.Control, lab.Etcd))
	ready(t, l)
	atRest(t, l)
	reaches(t, l.Sandbox(t, "h2", "e", "--network", "blue"), c)
}

func TestAHostCutFromEtcdKeepsItsTraffic(t *testing.T) {
	t.Parallel()
	l, a, b := pairOfHosts(t)
	there := a.StartPing(t, b.Addrs(t, "eth0")[0])
	must(t, l.Cut(t.Context(), "h1", true))
	hostIs(t, l, "h1", "down") // its session has expired
	c := l.Sandbox(t, "h1", "c", "--network", "blue")
	reaches(t, c, b)
	must(t, l.Mend(t.Context(), "h1", true))
	ready(t, l)
	there.NoneLost(t)
	atRest(t, l)
	reaches(t, b, c)
}

func TestAHostThatWasUnpluggedComesBack(t *testing.T) {
	t.Parallel()
	l, a, b := pairOfHosts(t)
	must(t, l.Cut(t.Context(), "h2", false))
	hostIs(t, l, "h2", "down")
	if err := a.Reaches(t, b.Addrs(t, "eth0")[0]); err == nil {
		t.Error("a host that is unplugged is reached")
	}
	// What changes meanwhile, it learns when it is back.
	c := l.Sandbox(t, "h1", "c", "--network", "blue")
	must(t, l.Mend(t.Context(), "h2", false))
	ready(t, l)
	reaches(t, b, c)
	reaches(t, a, b)
	atRest(t, l)
}

// await waits for a moment: the outage is the subject of the test, not a way
// to wait for something else.
func await(t *testing.T, until time.Time) {
	t.Helper()
	select {
	case <-time.After(time.Until(until)):
	case <-t.Context().Done():
		t.Fatal("the test is over before the outage")
	}
}
