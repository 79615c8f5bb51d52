package fault

import (
	"errors"
	"strings"
	"testing"

	"github.com/ovlnet/ovl/internal/lab"
	"github.com/ovlnet/ovl/internal/lab/labtest"
)

// parent makes seg0, which the network side is on. Without a carrier it would
// carry nothing, so it has another end.
const parent = "ip link add seg0 address 02:00:00:00:00:aa mtu 1400 type veth peer name wire0 address 02:00:00:00:00:ab && ip link set wire0 up && ip link set seg0 up"

// replaceShim makes another link in the place of ours. The agent stands still
// meanwhile: it would be quicker than the second half.
const replaceShim = `agent=$(cat /run/ovl/agent.pid)
kill -STOP $agent
ip link del ovm100
ip link add link seg0 name ovm100 type macvlan mode bridge && ip link set ovm100 alias ovl/1/lan/gateway
made=$?
kill -CONT $agent
exit $made`

// onSegments is what somebody does to macvlans, to what is on them, and to
// their parents. The network lan is on eth0, side on seg0.
var onSegments = []breakage{
	{"shim deleted", "ip link del ovm100"},
	{"shim down", "ip link set ovm100 down"},
	{"shim's MTU", "ip link set ovm100 mtu 1300"},
	{"shim's MAC", "ip link set ovm100 address 02:00:00:00:00:99"},
	{"shim of another mode", "ip link set ovm100 type macvlan mode private"},
	{"shim on another parent", replaceShim},
	{"shim without its alias", "ip link set ovm100 alias ''"},
	{"shim's address deleted", "ip address flush dev ovm100"},
	{"address too many", "ip address add 10.99.0.1/24 dev ovm100"},
	{"way to the piece deleted", "ip route del $(ip -4 route show dev ovm100 proto 79 | cut -d' ' -f1)"},
	{"container's macvlan deleted", "ip -n a link del eth0"},
	{"container's macvlan down", "ip -n a link set eth0 down"},
	{"container's MTU", "ip -n a link set eth0 mtu 1300"},
	{"container's MAC", "ip -n a link set eth0 address 02:00:00:00:00:99"},
	{"container's mode", "ip -n a link set eth0 type macvlan mode private"},
	{"container's address deleted", "ip -n a -4 address flush dev eth0"},
	{"container's way out deleted", "ip -n a route del default"},
	{"filter flushed", "iptables -F"},
	{"parent's MTU down and up", "ip link set seg0 mtu 1300; ip link set seg0 mtu 1400"},
	{"parent down and up", "ip link set seg0 down; ip link set seg0 up"},
	{"parent made anew", "ip link del seg0 && " + parent},
}

func TestSegmentsComeBack(t *testing.T) {
	t.Parallel()
	l := labtest.Up(t, lab.Config{Hosts: 2, AgentArgs: []string{"--session-ttl", sessionTTL.String()}})
	l.Run(t, "h1", "sh", "-c", parent)
	l.Run(t, "h1", "ovlctl", "network", "create", "lan", "--driver", "macvlan", "--parent", "eth0", "--vni", "100",
		"--subnet", "192.168.77.0/24", "--gateway", "192.168.77.254", "--ip-range", "192.168.77.128/26")
	l.Run(t, "h1", "ovlctl", "network", "create", "side", "--driver", "macvlan", "--parent", "seg0", "--subnet", "172.16.0.0/24", "--subnet", "fd16::/64")
	a, b := l.Sandbox(t, "h1", "a", "--network", "lan"), l.Sandbox(t, "h2", "b", "--network", "lan")
	c, d := l.Sandbox(t, "h1", "c", "--network", "side"), l.Sandbox(t, "h1", "d", "--network", "side")
	atRest(t, l)
	for _, br := range onSegments {
		t.Run(br.name, func(t *testing.T) {
			repair(t, l, "h1", br.command)
			reaches(t, a, b)
			reaches(t, b, a)
			reaches(t, c, d)
		})
	}
	t.Run("parent away for a while", func(t *testing.T) {
		before := state(t, l, "h1")
		l.Run(t, "h1", "ip", "link", "del", "seg0")
		labtest.Until(t, "the agent tells of it", func() error {
			if r := l.Do(t, "h1", "ovlctl", "agent", "status"); r.Code != 5 || !strings.Contains(r.Stdout, "no interface seg0") {
				return errors.New(r.Stdout)
			}
			return nil
		})
		if r := l.Do(t, "h1", "ovlctl", "run", "-d", "--name", "e", "--network", "side"); r.Code == 0 || !strings.Contains(r.Stderr, "no interface seg0") {
			t.Errorf("run without the parent: %+v", r)
		}
		took := labtest.Until(t, "nothing is left to do", func() error { return l.AtRest(t, "h1") })
		t.Logf("at rest without it within %v", took)
		l.Run(t, "h1", "sh", "-c", parent)
		took = labtest.Until(t, "the host is as before", func() error {
			if now := state(t, l, "h1"); now != before {
				return errors.New(labtest.Difference(before, now))
			}
			return nil
		})
		t.Logf("as before within %v", took)
		reaches(t, c, d)
		atRest(t, l)
	})
}
