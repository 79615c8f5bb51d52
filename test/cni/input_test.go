package cni

import (
	"strings"
	"testing"

	"github.com/ovlnet/ovl/internal/lab"
	"github.com/ovlnet/ovl/internal/lab/labtest"
)

// TestBadInput is the list of what runtimes and people get wrong: each ends with a clear
// error of the right code, and leaves nothing.
func TestBadInput(t *testing.T) {
	t.Parallel()
	n := one(t)
	n.Sandbox(t, n.host, "mine", "--network", "blue", "-p", "8080:80")
	mine := n.run(t, "sh", "-c", "ip -n mine -4 -o addr show eth0 | grep -o '10[.0-9]*' | head -n1")
	n.netns(t, "web")
	n.run(t, "sh", "-c", "touch /run/netns/file")
	before, within := n.Dump(t, n.host), n.DumpNamespace(t, n.host, "web")

	good := call{command: "ADD", id: "web", netns: "/run/netns/web", conf: conf()}
	bad := func(change func(*call), code uint, says string) {
		t.Helper()
		c := good
		change(&c)
		n.refused(t, c, code, says)
	}
	with := func(fields string) func(*call) { return func(c *call) { c.conf = conf(fields) } }
	bad(func(c *call) { c.conf = `{"name":` }, undecodable, "unexpected end")
	bad(func(c *call) { c.conf = "" }, undecodable, "unexpected end")
	bad(func(c *call) { c.conf = "null" }, badConfig, "missing network name")
	bad(with(`"runtimeConfig":[]`), undecodable, "runtimeConfig")
	bad(with(`"prevResult":{"cniVersion":"9.9.9"}`), undecodable, "prevResult")
	bad(with(`"network":"nope"`), badConfig, "there is no network nope")
	bad(with(`"network":"Not_A_Name"`), badConfig, "network")
	bad(with(`"network":"`+strings.Repeat("a", 64)+`"`), badConfig, "network")
	bad(with(`"ipam":{"type":"host-local"}`), badConfig, `take "ipam" out`)
	bad(with(`"ipMasq":false`), 999, "--no-masquerade")
	bad(with(`"mtu":1234`), 999, "MTU of 1450 here, not 1234")
	bad(with(`"socket":"/run/nobody.sock"`), tryAgain, "/run/nobody.sock")
	bad(func(c *call) { c.netns = "/run/netns/gone" }, environment, "CNI_NETNS")
	bad(func(c *call) { c.netns = "/run/netns/file" }, 999, "/run/netns/file")
	bad(func(c *call) { c.netns = "/proc/self/ns/net" }, 8, "the host's own")
	bad(func(c *call) { c.ifName = "an-interface-too-long" }, environment, "interface name is too long")
	bad(func(c *call) { c.ifName = "lo" }, badConfig, "lo")
	bad(func(c *call) { c.id = "../../etc" }, environment, "containerID")
	bad(func(c *call) { c.args = "NOT=KNOWN" }, environment, "NOT")
	bad(with(`"runtimeConfig":{"ips":["`+mine+`"]}`), taken, mine)
	bad(with(`"runtimeConfig":{"ips":["192.0.2.1"]}`), badConfig, "is not in network blue")
	bad(with(`"runtimeConfig":{"ips":["10.64.0.300"]}`), badConfig, "10.64.0.300")
	bad(with(`"runtimeConfig":{"mac":"01:00:5e:00:00:01"}`), badConfig, "multicast")
	bad(with(`"runtimeConfig":{"aliases":["Not_A_Name"]}`), badConfig, "aliases")
	bad(with(`"runtimeConfig":{"portMappings":[{"hostPort":8080,"containerPort":80}]}`), taken, "8080")
	bad(with(`"runtimeConfig":{"portMappings":[{"hostPort":80,"containerPort":80,"protocol":"sctp"}]}`), badConfig, "sctp")
	bad(with(`"runtimeConfig":{"portMappings":[{"hostPort":0,"containerPort":80}]}`), badConfig, "port 0")
	bad(with(`"runtimeConfig":{"portMappings":[{"hostPort":81,"containerPort":80,"hostIP":"x"}]}`), badConfig, "x")
	bad(func(c *call) { c.command = "CHECK" }, badConfig, "prevResult is missing")
	bad(func(c *call) { c.command = "GC" }, badConfig, "valid-attachments")

	if after := n.Dump(t, n.host); after != before {
		t.Errorf("something is left on the host: %s", labtest.Difference(before, after))
	}
	if after := n.DumpNamespace(t, n.host, "web"); after != within {
		t.Errorf("something is left in the container: %s", labtest.Difference(within, after))
	}

	// A name may be long: it becomes one that others can ask for.
	long := good
	long.id, long.args = strings.Repeat("f0", 128), "IgnoreUnknown=1;K8S_POD_NAMESPACE=shop;K8S_POD_NAME="+strings.Repeat("web", 80)
	n.done(t, long)
	long.command = "DEL"
	n.done(t, long)
}

// TestTheControlPlaneIsAway: what can be done without it is done, and what cannot is to be
// tried again.
func TestTheControlPlaneIsAway(t *testing.T) {
	t.Parallel()
	n := one(t)
	first := call{command: "ADD", id: "first", netns: n.netns(t, "first"), conf: conf()}
	n.done(t, first)
	if err := n.Stop(t.Context(), lab.Control, lab.Controller); err != nil {
		t.Fatal(err)
	}
	second := call{command: "ADD", id: "second", netns: n.netns(t, "second"), conf: conf()}
	n.done(t, second)
	n.done(t, call{command: "STATUS", conf: conf()})
	unheard := second
	unheard.id, unheard.netns, unheard.conf = "third", n.netns(t, "third"), strings.Replace(conf(), "blue", "red", 1)
	n.refused(t, unheard, tryAgain, "network red is not known here")
	for _, c := range []call{first, second, unheard} {
		c.command = "DEL"
		n.done(t, c)
	}
	n.nothingLeft(t)

	n.kill(t)
	for _, verb := range []string{"ADD", "DEL", "CHECK", "GC"} {
		c := second
		c.command, c.conf = verb, conf(`"prevResult":{"cniVersion":"1.1.0"}`, `"cni.dev/valid-attachments":[]`)
		n.refused(t, c, tryAgain, "ovlctl agent status")
	}
	n.refused(t, call{command: "STATUS", conf: conf()}, unavailable, "no ovl-agent answers")
	n.startAgent(t)
	n.ready(t)
}
