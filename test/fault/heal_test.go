package fault

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/ovlnet/ovl/internal/lab/labtest"
)

// breakage is one thing that somebody does to a host, as a shell command.
// Names in braces stand for what the lab has: see [names].
type breakage struct{ name, command string }

// breakages are all kinds of object that ovl owns, deleted and altered. Each
// group has a lab of its own, so that they run side by side and a link that takes
// its routes along does not meet the tests of routes.
var breakages = map[string][]breakage{"links": {
	{"bridge deleted", "ip link del {bridge}"},
	{"bridge down", "ip link set {bridge} down"},
	{"bridge's MTU", "ip link set {bridge} mtu 1300"},
	{"bridge's MAC", "ip link set {bridge} address 02:00:00:00:00:99"},
	{"tunnel deleted", "ip link del {tunnel}"},
	{"tunnel down", "ip link set {tunnel} down"},
	{"tunnel's MTU", "ip link set {tunnel} mtu 1300"},
	{"tunnel's MAC", "ip link set {tunnel} address 02:00:00:00:00:99"},
	{"tunnel made anew by hand", replaceTunnel},
	{"veth deleted", "ip link del {veth}"},
	{"veth down", "ip link set {veth} down"},
	{"veth out of the bridge", "ip link set {veth} nomaster"},
	{"veth's MTU", "ip link set {veth} mtu 1300"},
}, "rows": {
	{"gateway deleted", "ip address flush dev {bridge}"},
	{"address too many", "ip address add 10.99.0.1/24 dev {bridge}"},
	{"route deleted", "ip route del {peer}"},
	{"route elsewhere", "ip route replace {peer} via {outside} proto {protocol}"},
	{"routes flushed", "ip route flush proto {protocol}"},
	{"route unreachable", "ip route replace unreachable {peer} proto {protocol}"},
	{"neighbour deleted", "ip neigh del {via} dev {tunnel}"},
	{"neighbour's MAC", "ip neigh replace {via} lladdr 02:00:00:00:00:99 dev {tunnel} nud permanent"},
	{"neighbour not permanent", "ip neigh replace {via} lladdr {vtep} dev {tunnel} nud reachable"},
	{"entry deleted", "bridge fdb del {vtep} dev {tunnel}"},
	{"a port's entry deleted", "for m in $(bridge fdb show dev {veth} | grep static | cut -d' ' -f1); do bridge fdb del $m dev {veth} master; done"},
	{"containers' neighbours deleted", "ip neigh flush dev {bridge} nud permanent"},
	{"entry elsewhere", "bridge fdb replace {vtep} dst 192.168.77.99 dev {tunnel}"},
}, "guards": {
	{"table deleted", "nft delete table inet ovl"},
	{"table of the bridges deleted", "nft delete table bridge ovl"},
	{"everything of nf_tables flushed", "nft flush ruleset"},
	{"rules flushed", "nft flush table bridge ovl"},
	{"rule inserted", "nft insert rule inet ovl tunnel drop"},
	{"rule added to the ports'", "nft insert rule bridge ovl frames accept"},
	{"chain added", "nft 'add chain inet ovl theirs { type filter hook forward priority 0; policy drop; }'"},
	{"set added", "nft 'add set inet ovl theirs { type ipv4_addr; }'"},
	{"peers' subnets deleted", "nft flush set inet ovl peers_ipv4_24_over_ipv4"},
	{"a peer too many", "nft add element inet ovl peers_ipv4_24_over_ipv4 { 192.0.2.99 . 5 . 0x0a406300 }"},
	{"sources deleted", "nft flush set bridge ovl sources_ipv4 && nft flush set bridge ovl sources_ipv6"},
	{"owners deleted", "nft flush map bridge ovl owners_ipv4 && nft flush map bridge ovl owners_ipv6"},
	{"an owner is another", "a=$(nft list map bridge ovl owners_ipv4 | grep -o '10[0-9.]* : ' | head -n 1) && nft \"delete element bridge ovl owners_ipv4 { ${a% : } }; add element bridge ovl owners_ipv4 { $a 02:00:00:00:00:99 }\""},
	{"an owner too many", "nft add element bridge ovl owners_ipv4 { 10.64.0.1 : 02:00:00:00:00:99 }"},
	{"a source too many", "nft add element bridge ovl sources_ipv4 { {veth} . 02:00:00:00:00:99 . 10.64.0.1 }"},
}, "firewall and containers": {
	{"filter flushed", "iptables -F"},
	{"nat flushed", "iptables -t nat -F"},
	{"raw flushed", "iptables -t raw -F"},
	{"filter and its chains deleted", `printf '*filter\nCOMMIT\n' | iptables-restore`},
	{"everything deleted, as by a restart of a firewall", `printf '*filter\nCOMMIT\n*nat\nCOMMIT\n*raw\nCOMMIT\n' | iptables-restore`},
	{"jump deleted", "iptables -D FORWARD $(iptables -S FORWARD | sed -n 's/^-A FORWARD \\(.*OVL-FORWARD.*\\)/\\1/p' | head -n1 | tr -d '\"')"},
	{"rule inserted in a chain", "iptables -I OVL-FORWARD -j DROP"},
	{"rule deleted from a chain", "iptables -D OVL-FORWARD 1"},
	{"rules of the other family flushed", "ip6tables -F && ip6tables -t nat -F"},
	{"forwarding off", "sysctl -qw net.ipv4.ip_forward=0"},
	{"container's default route deleted", "ip -n a route del default"},
	{"container's address deleted", "ip -n a -4 address flush dev eth0 && ip -n a -6 address flush dev eth0 scope global"},
	{"container's link down", "ip -n a link set eth0 down"},
	{"container's MTU", "ip -n a link set eth0 mtu 1300"},
	{"container's MAC", "ip -n a link set eth0 address 02:00:00:00:00:99"},
}}

// replaceTunnel makes another device in the place of ours. The agent stands still
// meanwhile: it would be quicker than the second half.
const replaceTunnel = `agent=$(cat /run/ovl/agent.pid)
kill -STOP $agent
ip link del {tunnel}
ip link add {tunnel} type vxlan id 9999 dstport 4790
made=$?
kill -CONT $agent
exit $made`

// foreign is what others have on the host: it must survive every repair.
var foreign = []string{
	"ip link add ovbforeign type bridge",
	"ip link set ovbforeign up",
	"ip address add 172.31.1.1/24 dev ovbforeign",
	"ip route add 172.31.9.0/24 via 192.168.77.254",
	"ip neigh add 172.31.1.9 lladdr 02:00:00:00:00:09 dev ovbforeign nud permanent",
	"ip rule add from 172.31.1.0/24 table 99",
}

func TestEverythingOfOursComesBack(t *testing.T) {
	t.Parallel()
	for group, all := range breakages {
		t.Run(group, func(t *testing.T) {
			t.Parallel()
			l, a, b := pairOfHosts(t)
			for _, f := range foreign {
				l.Run(t, "h1", strings.Fields(f)...)
			}
			replace := names(t, l)
			for _, br := range all {
				t.Run(br.name, func(t *testing.T) {
					repair(t, l, "h1", replace.Replace(br.command))
					reaches(t, a, b)
					reaches(t, b, a)
				})
			}
		})
	}
}

// TestWhatTookOurPlaceIsReportedAndLeft: a route of somebody else to a peer's
// subnet is not ours to delete, so it is told, and ours comes when it has gone.
func TestWhatTookOurPlaceIsReportedAndLeft(t *testing.T) {
	t.Parallel()
	l, a, b := pairOfHosts(t)
	before := state(t, l, "h1")
	replace := names(t, l)
	l.Run(t, "h1", strings.Fields(replace.Replace("ip route replace {peer} via {outside}"))...)
	labtest.Until(t, "the agent tells of the route", func() error {
		r := l.Do(t, "h1", "ovlctl", "agent", "status") // unhealthy: exit code 5
		if r.Code != 5 || !strings.Contains(r.Stdout, replace.Replace("{peer}")) {
			return fmt.Errorf("agent status: %+v", r)
		}
		return nil
	})
	if out := l.Run(t, "h1", "ip", "route", "show", replace.Replace("{peer}")); !strings.Contains(out, replace.Replace("{outside}")) {
		t.Errorf("the route of somebody else is now %q", out)
	}
	l.Run(t, "h1", strings.Fields(replace.Replace("ip route del {peer} via {outside}"))...)
	labtest.Until(t, "the host is as before", func() error {
		if now := state(t, l, "h1"); now != before {
			return errors.New(labtest.Difference(before, now))
		}
		return nil
	})
	reaches(t, a, b)
}

// repair breaks something and waits until the host is as it was, and at rest.
func repair(t *testing.T, l *labtest.Lab, host, command string) {
	t.Helper()
	before := state(t, l, host)
	l.Run(t, host, "sh", "-c", command)
	var now string
	took := labtest.Until(t, "the host is as before", func() error {
		if now = state(t, l, host); now != before {
			return errors.New(labtest.Difference(before, now))
		}
		return nil
	})
	t.Logf("after `%s` as before within %v", command, took)
	labtest.Until(t, host+" is at rest", func() error { return l.AtRest(t, host) })
}

// state is all that ovl may touch on the host and in its container.
func state(t *testing.T, l *labtest.Lab, host string) string {
	t.Helper()
	s := l.Dump(t, host) + l.Run(t, host, "sysctl", "net.ipv4.ip_forward", "net.ipv6.conf.all.forwarding")
	for ns := range strings.Lines(l.Run(t, host, "ip", "netns")) {
		s += l.DumpNamespace(t, host, strings.Fields(ns)[0])
	}
	return s
}
