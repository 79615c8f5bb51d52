package fault

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/ovlnet/ovl/internal/lab"
	"github.com/ovlnet/ovl/internal/lab/labtest"
)

const static = "10.64.255.9"

// statics is three hosts on a network with a static range, each with a client.
func statics(t *testing.T) (*labtest.Lab, []labtest.Container) {
	t.Helper()
	l := labtest.Up(t, lab.Config{Hosts: 3, AgentArgs: []string{"--session-ttl", sessionTTL.String()}})
	l.Run(t, "h1", "ovlctl", "network", "create", "blue", "--subnet", "10.64.0.0/16", "--static-range", "10.64.255.0/24")
	var clients []labtest.Container
	for _, host := range l.Members() {
		clients = append(clients, l.Sandbox(t, host, "c-"+host, "--network", "blue"))
	}
	return l, clients
}

// runDB tries to start the container db with the static address on a host.
func runDB(t *testing.T, l *labtest.Lab, host string) labtest.Result {
	t.Helper()
	return l.Do(t, host, "ovlctl", "run", "-d", "--name", "db", "--network", "blue", "--ip", static)
}

// reachDB waits until all clients reach the static address.
func reachDB(t *testing.T, clients []labtest.Container) {
	t.Helper()
	for _, c := range clients {
		labtest.Until(t, c.String()+" reaches db", func() error { return c.Reaches(t, netip.MustParseAddr(static)) })
	}
}

// TestAStaticAddressOfAHostThatIsCutOff: it keeps the address until its ownership
// ends or an operator says that it is gone; then it has lost it, and says so.
func TestAStaticAddressOfAHostThatIsCutOff(t *testing.T) {
	t.Parallel()
	l, clients := statics(t)
	l.Sandbox(t, "h1", "db", "--network", "blue", "--ip", static)
	reachDB(t, clients)
	must(t, l.Cut(t.Context(), "h1", true))
	labtest.Until(t, "h1 is seen to be down", func() error {
		r := runDB(t, l, "h2")
		if r.Code != 4 || !strings.Contains(r.Stderr, "host h1 has "+static) {
			t.Fatalf("while h1 has it: %+v", r)
		}
		if !strings.Contains(r.Stderr, "ovlctl host rm --force h1") {
			return fmt.Errorf("the answer is %s", r.Stderr)
		}
		return nil
	})
	reachDB(t, clients) // the traffic does not depend on all that

	l.Run(t, "h2", "ovlctl", "host", "rm", "--force", "--yes", "h1")
	if r := runDB(t, l, "h2"); r.Code != 0 {
		t.Fatalf("after h1 was removed: %s", r.Stderr)
	}
	reachDB(t, clients[1:])
	// A host that was removed is revoked, too. It comes back by joining again.
	must(t, l.Mend(t.Context(), "h1", true))
	must(t, l.Stop(t.Context(), "h1", lab.Agent))
	l.Run(t, "h1", "rm", "-r", "/var/lib/ovl/identity")
	must(t, l.Start(t.Context(), "h1", lab.Agent))
	labtest.Until(t, "h1 says that it has lost the address", func() error {
		if out := l.Do(t, "h1", "ovlctl", "agent", "status").Stdout; !strings.Contains(out, "address "+static+" of network blue") || !strings.Contains(out, "host h2") {
			return fmt.Errorf("agent status: %s", out)
		}
		return nil
	})
	reachDB(t, clients) // h1's own, too: what it had there is gone
	l.Run(t, "h1", "ovlctl", "rm", "-f", "db")
	labtest.Until(t, "h1 has forgotten", func() error {
		if r := l.Do(t, "h1", "ovlctl", "agent", "status"); r.Code != 0 || strings.Contains(r.Stdout, static) {
			return fmt.Errorf("agent status: %s", r.Stdout)
		}
		return nil
	})
	reachDB(t, clients)
	atRest(t, l)
}

// TestAStaticAddressWithoutEtcd: a container keeps it while its agent is
// killed, with etcd there and away, and can start there again; elsewhere it cannot.
func TestAStaticAddressWithoutEtcd(t *testing.T) {
	t.Parallel()
	l, clients := statics(t)
	l.Sandbox(t, "h1", "db", "--network", "blue", "--ip", static)
	must(t, l.Cut(t.Context(), "h1", true))
	must(t, l.Kill(t.Context(), "h1", lab.Agent))
	must(t, l.Start(t.Context(), "h1", lab.Agent))
	reachDB(t, clients)
	l.Run(t, "h1", "ovlctl", "rm", "-f", "db")
	if r := runDB(t, l, "h1"); r.Code != 0 {
		t.Errorf("started again on its host: %s", r.Stderr)
	}
	reachDB(t, clients)
	if r := l.Do(t, "h1", "ovlctl", "run", "-d", "--name", "other", "--network", "blue", "--ip", "10.64.255.10"); r.Code == 0 || !strings.Contains(r.Stderr, "static address 10.64.255.10") {
		t.Errorf("another address without etcd: %+v", r)
	}
	// It goes while etcd is away, and so does the agent: the next one gives back.
	l.Run(t, "h1", "ovlctl", "rm", "-f", "db")
	must(t, l.Kill(t.Context(), "h1", lab.Agent))
	must(t, l.Mend(t.Context(), "h1", true))
	if r := runDB(t, l, "h2"); r.Code != 4 {
		t.Errorf("before it was given back: %+v", r)
	}
	must(t, l.Start(t.Context(), "h1", lab.Agent))
	movesTo(t, l, "h2")
	reachDB(t, clients)
	atRest(t, l)
}

// movesTo waits until db can be started on a host.
func movesTo(t *testing.T, l *labtest.Lab, host string) {
	t.Helper()
	labtest.Until(t, "db starts on "+host, func() error {
		if r := runDB(t, l, host); r.Code != 0 {
			return fmt.Errorf("%s", r.Stderr)
		}
		return nil
	})
}

// TestAnAgentKilledWhileDetachingLeavesNoAddress kills an agent while it removes
// a container, at ever later moments: the address is free for others all the same.
func TestAnAgentKilledWhileDetachingLeavesNoAddress(t *testing.T) {
	t.Parallel()
	l, clients := statics(t)
	for i := range 8 {
		l.Sandbox(t, "h1", "db", "--network", "blue", "--ip", static)
		cmd, err := l.Command(t.Context(), "h1", "ovlctl", "rm", "-f", "db", "--timeout", "5s")
		must(t, err)
		must(t, cmd.Start())
		for range i {
			l.Run(t, "h1", "true")
		}
		must(t, l.Kill(t.Context(), "h1", lab.Agent))
		_ = cmd.Wait() // it may have succeeded, or not: both are right
		must(t, l.Start(t.Context(), "h1", lab.Agent))
		l.Do(t, "h1", "ovlctl", "rm", "-f", "db")
		movesTo(t, l, "h2")
		reachDB(t, clients)
		l.Run(t, "h2", "ovlctl", "rm", "-f", "db")
	}
	atRest(t, l)
}
