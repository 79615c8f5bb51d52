package fault

import (
	"errors"
	"strings"
	"testing"

	"github.com/ovlnet/ovl/internal/lab/labtest"
)

// breakage is one thing that somebody does to a host, as a shell command.
// Names in braces stand for what the lab has: see [names].
type breakage struct{ name, command string }

// breakages are all kinds of object that ovl owns, deleted and altered.
var breakages = []breakage{
	{"bridge deleted", "ip link del {bridge}"},
	{"bridge down", "ip link set {bridge} down"},
	{"bridge's MTU", "ip link set {bridge} mtu 1300"},
	{"bridge's MAC", "ip link set {bridge} address 02:00:00:00:00:99"},
	{"tunnel deleted", "ip link del {tunnel}"},
	{"tunnel down", "ip link set {tunnel} down"},
	{"tunnel's MTU", "ip link set {tunnel} mtu 1300"},
	{"tunnel's MAC", "ip link set {tunnel} address 02:00:00:00:00:99"},
	{"tunnel made anew by hand", "ip link del {tunnel} && ip link add {tunnel} type vxlan id 9999 dstport 4790 && ip link set {tunnel} alias ovl/1/by/hand"},
	{"veth deleted", "ip link del {veth}"},
	{"veth down", "ip link set {veth} down"},
	{"veth out of the bridge", "ip link set {veth} nomaster"},
	{"veth's MTU", "ip link set {veth} mtu 1300"},
	{"gateway deleted", "ip address flush dev {bridge}"},
	{"address too many", "ip address add 10.99.0.1/24 dev {bridge}"},
	{"route deleted", "ip route del {peer}"},
	{"route elsewhere", "ip route replace {peer} via {outside}"},
	{"routes flushed", "ip route flush proto {protocol}"},
	{"route unreachable", "ip route replace unreachable {peer} proto {protocol}"},
	{"neighbours flushed", "ip neigh flush dev {tunnel} nud permanent"},
	{"neighbour's MAC", "ip neigh replace {via} lladdr 02:00:00:00:00:99 dev {tunnel} nud permanent"},
	{"neighbour not permanent", "ip neigh replace {via} lladdr {vtep} dev {tunnel} nud reachable"},
	{"entry deleted", "bridge fdb del {vtep} dev {tunnel}"},
	{"entry elsewhere", "bridge fdb replace {vtep} dst 192.168.77.99 dev {tunnel}"},
	{"filter flushed", "iptables -F"},
	{"nat flushed", "iptables -t nat -F"},
	{"raw flushed", "iptables -t raw -F"},
	{"filter flushed and its chains deleted", "iptables -F && iptables -X"},
	{"everything flushed, as by a restart of a firewall", "for t in filter nat raw mangle; do iptables -t $t -F; iptables -t $t -X; done"},
	{"jump deleted", "iptables -D FORWARD $(iptables -S FORWARD | sed -n 's/^-A FORWARD \\(.*OVL-FORWARD.*\\)/\\1/p' | head -n1 | tr -d '\"')"},
	{"rule inserted in a chain", "iptables -I OVL-FORWARD -j DROP"},
	{"rule deleted from a chain", "iptables -D OVL-FORWARD 1"},
	{"rules of the other family flushed", "ip6tables -F && ip6tables -t nat -F"},
	{"forwarding off", "sysctl -qw net.ipv4.ip_forward=0"},
	{"container's default route deleted", "ip netns exec a ip route del default"},
	{"container's address deleted", "ip netns exec a ip address flush dev eth0"},
	{"container's link down", "ip netns exec a ip link set eth0 down"},
	{"container's MTU", "ip netns exec a ip link set eth0 mtu 1300"},
	{"container's MAC", "ip netns exec a ip link set eth0 address 02:00:00:00:00:99"},
}

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
	l, a, b := pairOfHosts(t)
	for _, f := range foreign {
		l.Run(t, "h1", strings.Fields(f)...)
	}
	atRest(t, l)
	replace := names(t, l)
	for _, br := range breakages {
		t.Run(br.name, func(t *testing.T) {
			repair(t, l, "h1", replace.Replace(br.command))
			reaches(t, a, b)
			reaches(t, b, a)
		})
	}
}

// repair breaks something and waits until the host is as it was, and at rest.
func repair(t *testing.T, l *labtest.Lab, host, command string) {
	t.Helper()
	before := state(t, l, host)
	l.Run(t, host, "sh", "-c", command)
	var now string
	took := labtest.Until(t, "the host is as before", func() error {
		if now = state(t, l, host); now != before {
			return errors.New(firstDifference(before, now))
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

// firstDifference returns the first lines in which two states differ.
func firstDifference(want, got string) string {
	w, g := strings.Split(want, "\n"), strings.Split(got, "\n")
	for i := range max(len(w), len(g)) {
		switch {
		case i >= len(w):
			return "it has more: " + g[i]
		case i >= len(g):
			return "it lacks: " + w[i]
		case w[i] != g[i]:
			return "it has " + g[i] + "; before it had " + w[i]
		}
	}
	return "no difference"
}
