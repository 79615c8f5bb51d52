package integration

import (
	"strings"
	"testing"

	"github.com/ovlnet/ovl/internal/lab"
	"github.com/ovlnet/ovl/internal/lab/labtest"
)

func TestStoppingAnAgentLeavesTheDataPath(t *testing.T) {
	t.Parallel()
	l := labtest.Up(t, lab.Config{Hosts: 2})
	l.Run(t, "h1", "ovlctl", "network", "create", "blue", "--subnet", "10.64.0.0/16")
	blue := onEach(t, l, "blue")
	complete(t, blue)
	ping := blue[0].StartPing(t, blue[1].Addr(t))
	for _, host := range l.Members() {
		if err := l.Stop(t.Context(), host, lab.Agent); err != nil {
			t.Fatal(err)
		}
	}
	complete(t, blue[:2]) // both ways, with no agent anywhere
	for _, host := range l.Members() {
		if err := l.Start(t.Context(), host, lab.Agent); err != nil {
			t.Fatal(err)
		}
	}
	ping.NoneLost(t)
	atRest(t, l)
}

func TestCleanupLeavesTheHostAsItWas(t *testing.T) {
	t.Parallel()
	l := labtest.Up(t, lab.Config{Hosts: 2, Idle: true})
	// Somebody else's objects, of each kind that ovl has.
	for _, foreign := range []string{
		"ip link add ovbforeign type bridge", // the prefix alone makes nothing ours
		"ip address add 172.31.1.1/24 dev ovbforeign",
		"ip link set ovbforeign up",
		"ip route add 172.31.9.0/24 via 192.168.77.254",
		"ip neigh add 172.31.1.9 lladdr 02:00:00:00:00:09 dev ovbforeign nud permanent",
		"iptables -N FOREIGN",
		"iptables -A FOREIGN -s 172.31.1.0/24 -j ACCEPT",
		"iptables -I FORWARD -j FOREIGN",
		"iptables -t nat -A POSTROUTING -s 172.31.1.0/24 -j MASQUERADE",
	} {
		l.Run(t, "h1", strings.Fields(foreign)...)
	}
	before := l.Dump(t, "h1")
	for _, host := range l.Members() {
		if err := l.Start(t.Context(), host, lab.Agent); err != nil {
			t.Fatal(err)
		}
	}
	l.Run(t, "h1", "ovlctl", "network", "create", "blue", "--subnet", "10.64.0.0/16", "--subnet", "fd64::/48")
	blue := onEach(t, l, "blue")
	complete(t, blue)
	if l.Dump(t, "h1") == before {
		t.Fatal("a container on a network leaves no trace on its host: the dump sees nothing")
	}
	l.Run(t, "h1", "ovlctl", "rm", "-f", blue[0].Name)
	if err := l.Stop(t.Context(), "h1", lab.Agent); err != nil {
		t.Fatal(err)
	}
	l.Run(t, "h1", "ovl-agent", "cleanup")
	if after := l.Dump(t, "h1"); after != before {
		t.Errorf("the host is not as before the agent ran: %s", labtest.Difference(before, after))
	}
}
