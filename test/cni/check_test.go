package cni

import (
	"errors"
	"strings"
	"testing"

	"github.com/ovlnet/ovl/internal/lab"
	"github.com/ovlnet/ovl/internal/lab/labtest"
)

// dryRun puts an agent that changes nothing in the place of the node's own: what a hand
// does stays as it is, so that nobody races with whoever looks. The returned function
// puts the node's own back.
func (n node) dryRun(t *testing.T) (end func()) {
	t.Helper()
	if err := n.Stop(t.Context(), n.host, lab.Agent); err != nil {
		t.Fatal(err)
	}
	cmd, err := n.Command(t.Context(), n.host, "ovl-agent", "--dry-run")
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return func() {
		n.run(t, "sh", "-c", "kill $(cat /run/ovl/agent.pid)")
		if err := cmd.Wait(); err != nil {
			t.Fatalf("the agent that changes nothing: %v", err)
		}
		n.startAgent(t)
	}
}

// TestCheckTellsOfEachRow: each row that a container cannot do without is taken away by
// hand, or altered, and CHECK names it; another's is not its business.
func TestCheckTellsOfEachRow(t *testing.T) {
	t.Parallel()
	n := one(t)
	limits := `"runtimeConfig":{"portMappings":[{"hostPort":8080,"containerPort":80}],"bandwidth":{"ingressRate":1000000,"ingressBurst":80000,"egressRate":1000000,"egressBurst":80000}}`
	web := call{command: "ADD", id: "web", netns: n.netns(t, "web"), conf: conf(limits)}
	other := call{command: "ADD", id: "other", netns: n.netns(t, "other"), conf: conf()}
	got := n.done(t, web)
	web.command, web.conf = "CHECK", conf(limits, got.prev())
	other.conf = conf(n.done(t, other).prev())
	other.command = "CHECK"
	res := got.result(t)
	gw := res.IPs[0].Gateway.String()
	names := strings.NewReplacer(
		"{veth}", res.Interfaces[0].Name, "{addr}", res.IPs[0].Address.String(), "{gw}", gw,
		"{bridge}", n.run(t, "sh", "-c", "ip -br link | grep -o '^ovb[0-9]*'"), "{tunnel}", n.run(t, "sh", "-c", "ip -br link | grep -o '^ovx[0-9]*'"),
		"{subnet}", n.run(t, "sh", "-c", "ip route show proto 79 | grep -o '^[0-9./]*' | tail -n1"), "{mac}", res.Interfaces[1].Mac, "{ip}", res.IPs[0].Address.IP.String(),
	)

	end := n.dryRun(t)
	labtest.Until(t, "an agent answers that changes nothing", func() error {
		if a := n.ask(t, web); a.failed {
			return errors.New(a.stdout)
		}
		return nil
	})
	n.done(t, other)
	// What is altered stays so, and each is told besides those before it.
	for _, c := range []struct{ by, told string }{
		{"tc qdisc del dev {veth} root", "create qdisc dev {veth}"},
		{"tc -n web qdisc del dev eth0 root", "create netns /run/netns/web qdisc dev eth0"},
		{"ip -n web route del default", "create netns /run/netns/web route 0.0.0.0/0"},
		{"ip -n web -6 route del default", "create netns /run/netns/web route ::/0"},
		{"ip -n web addr add 10.99.0.2/24 dev eth0", "delete netns /run/netns/web addr 10.99.0.2/24 dev eth0"},
		{"ip -n web addr del {addr} dev eth0", "create netns /run/netns/web addr {addr} dev eth0"},
		{"ip -n web link set eth0 mtu 1300", "update netns /run/netns/web link eth0"},
		{"ip link set {veth} nomaster", "update link {veth}"},
		{"nft delete element bridge ovl sources_ipv4 { {veth} . {mac} . {ip} }", "create element bridge ovl sources_ipv4 {veth} . {mac} . {ip}"},
		{"iptables -t nat -D PREROUTING -m comment --comment ovl:jump -j OVL-PREROUTING", "create jump ipv4 nat PREROUTING -> OVL-PREROUTING"},
		{"iptables -t nat -F OVL-PREROUTING", "update chain ipv4 nat OVL-PREROUTING"},
	} {
		n.run(t, "sh", "-c", names.Replace(c.by))
		n.refused(t, web, notInPlace, names.Replace(c.told))
		n.done(t, other)
	}
	// What both cannot do without.
	for _, c := range []struct{ by, told string }{
		{"iptables -F OVL-FORWARD", "update chain ipv4 filter OVL-FORWARD"},
		{"sysctl -qw net.ipv4.ip_forward=0", "update sysctl net/ipv4/ip_forward"},
		{"nft flush chain bridge ovl frames", "update guard bridge ovl"},
		{"ip route del {subnet} proto 79", "create route {subnet}"},
		{"ip addr del {gw}/24 dev {bridge}", "create addr {gw}/24 dev {bridge}"},
		{"ip link del {tunnel}", "create link {tunnel}"},
		{"ip link set {bridge} mtu 1300", "update link {bridge}"},
	} {
		n.run(t, "sh", "-c", names.Replace(c.by))
		n.refused(t, web, notInPlace, names.Replace(c.told))
		n.refused(t, other, notInPlace, names.Replace(c.told))
	}
	n.run(t, "ip", "-n", "web", "link", "del", "eth0")
	n.refused(t, web, notInPlace, "create netns /run/netns/web link eth0")

	end()
	labtest.Until(t, "all is mended", func() error {
		for _, c := range []call{web, other} {
			if a := n.ask(t, c); a.failed {
				return errors.New(a.stdout)
			}
		}
		return nil
	})
}
