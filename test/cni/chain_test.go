package cni

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/ovlnet/ovl/internal/lab/labtest"
)

// chain is a list of ovl and what people put behind it: the reference plugins for ports,
// sysctls of the interface, firewalls and bandwidth.
const chain = `{"cniVersion":"1.0.0","name":"chained","plugins":[
	{"type":"ovl","network":"blue"},
	{"type":"portmap","capabilities":{"portMappings":true},"snat":true},
	{"type":"tuning","sysctl":{"net.ipv4.conf.IFNAME.arp_filter":"1"},"txQLen":777},
	{"type":"firewall","backend":"iptables"},
	{"type":"bandwidth","ingressRate":100000000,"ingressBurst":800000,"egressRate":100000000,"egressBurst":800000}
]}`

// TestPluginsAfterUs: the reference plugins find what they look for in our result, do
// their part on our interfaces, and it stays: ovl's agent repairs what is its own and
// leaves what is theirs.
func TestPluginsAfterUs(t *testing.T) {
	t.Parallel()
	all := nodes(t, 2)
	n, peer := all[0], all[1]
	// Others than ovl lead connections in: portmap.
	n.run(t, "ovlctl", "network", "create", "blue", "--subnet", "10.64.0.0/16", "--services")
	n.told(t)
	n.run(t, "sh", "-c", `printf %s "$1" >`+confDir+"/20-chained.conflist", "sh", chain)
	path := n.netns(t, "web")
	ports := `CAP_ARGS={"portMappings":[{"hostPort":8080,"containerPort":80,"protocol":"tcp"}]}`
	for range 2 { // no runtime adds a chain twice without taking it away, for theirs cannot
		res := n.must(t, ports, "add", "chained", path)
		if len(res.IPs) != 1 || res.Interfaces[1].Name != "eth0" {
			t.Fatalf("result %+v", res)
		}
		serve := n.StartDaemon(t, n.host, "served", "ip", "netns", "exec", "web", "sh", "-c", "while :; do echo served | nc -l -N -p 80; done")
		labtest.Until(t, "the port of portmap leads to the container", func() error {
			r := peer.Do(t, peer.host, "sh", "-c", "nc -w2 192.168.77.1 8080 </dev/null")
			if strings.TrimSpace(r.Stdout) != "served" {
				return fmt.Errorf("%q %s", r.Stdout, r.Stderr)
			}
			return nil
		})
		serve.Kill(t)
		for _, c := range []struct{ command, has string }{
			{"sysctl -n net.ipv4.conf.eth0.arp_filter", "1"}, {"ip link show eth0", "qlen 777"},
		} {
			if out := n.run(t, strings.Fields("ip netns exec web "+c.command)...); !strings.Contains(out, c.has) {
				t.Errorf("%s in the container: %s", c.command, out)
			}
		}
		if q := n.run(t, "tc", "qdisc", "show", "dev", res.Interfaces[0].Name); !strings.Contains(q, "tbf") {
			t.Errorf("the bandwidth plugin's qdisc is not on our link: %s", q)
		}
		if diff := n.run(t, "ovlctl", "agent", "diff"); diff != "" {
			t.Errorf("what they did is a difference to ours: %s", diff)
		}
		n.must(t, ports, "del", "chained", path)
		n.must(t, ports, "del", "chained", path)
		n.nothingLeft(t)
		if rules := n.run(t, "sh", "-c", "iptables-save | grep -c -e CNI-DN -e '"+res.IPs[0].Address.IP.String()+"' || true"); rules != "0" {
			t.Errorf("%s rules of theirs are left", rules)
		}
	}
}

// TestPluginsBeforeUs: what a plugin before this one made stays in the result, and CHECK
// and DEL are content with the whole.
func TestPluginsBeforeUs(t *testing.T) {
	t.Parallel()
	n := one(t)
	path := n.netns(t, "web")
	bridge := call{
		plugin: "bridge", command: "ADD", id: "web", netns: path, ifName: "eth1",
		conf: `{"cniVersion":"1.0.0","name":"theirs","type":"bridge","bridge":"cni0","ipam":{"type":"host-local","dataDir":"/run/host-local","subnet":"172.30.0.0/24"}}`,
	}
	before := n.done(t, bridge)
	ours := call{command: "ADD", id: "web", netns: path, conf: conf(before.prev())}
	got := n.done(t, ours)
	res := got.result(t)
	if len(res.Interfaces) != len(before.result(t).Interfaces)+2 || len(res.IPs) != 3 || !strings.HasPrefix(res.IPs[0].Address.String(), "172.30.0.") {
		t.Fatalf("result %s", got.stdout)
	}
	if i := res.IPs[1].Interface; i == nil || res.Interfaces[*i].Name != "eth0" || res.Interfaces[*i].Sandbox != path {
		t.Errorf("our address is on %v of %s", i, got.stdout)
	}
	ours.conf = conf(got.prev())
	for _, verb := range []string{"CHECK", "ADD", "DEL", "DEL"} {
		ours.command = verb
		n.done(t, ours)
	}
	if r := n.Do(t, n.host, "ip", "-n", "web", "link", "show", "eth1"); r.Code != 0 {
		t.Error(errors.New("their interface went with ours: " + r.Stderr))
	}
	bridge.command = "DEL"
	n.done(t, bridge)
	n.nothingLeft(t)
}
