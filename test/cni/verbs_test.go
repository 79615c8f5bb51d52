package cni

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/ovlnet/ovl/internal/lab"
	"github.com/ovlnet/ovl/internal/lab/labtest"
)

// unknown and tryAgain are codes of the specification; notInPlace and taken are the
// plugin's own.
const (
	unknown     = 3
	environment = 4
	undecodable = 6
	badConfig   = 7
	tryAgain    = 11
	unavailable = 50
	notInPlace  = 100
	taken       = 101
)

// one makes a lab of one node with network blue in both families.
func one(t *testing.T) node {
	t.Helper()
	n := nodes(t, 1)[0]
	n.run(t, "ovlctl", "network", "create", "blue", "--subnet", "10.64.0.0/16", "--subnet", "fd64::/48")
	n.told(t)
	return n
}

// kill ends the agent as a power cut does, start starts it.
func (n node) kill(t *testing.T) {
	t.Helper()
	if err := n.Kill(t.Context(), n.host, lab.Agent); err != nil {
		t.Fatal(err)
	}
}

func (n node) startAgent(t *testing.T) {
	t.Helper()
	if err := n.Start(t.Context(), n.host, lab.Agent); err != nil {
		t.Fatal(err)
	}
}

// ready waits until STATUS says so: an agent that has only just started says no.
func (n node) ready(t *testing.T) {
	t.Helper()
	labtest.Until(t, "STATUS says ready", func() error {
		if a := n.ask(t, call{command: "STATUS", conf: conf()}); a.failed {
			return errors.New(a.stdout)
		}
		return nil
	})
}

// nothingLeft checks that no container is attached and no link of one is there.
func (n node) nothingLeft(t *testing.T) {
	t.Helper()
	if ps := n.run(t, "ovlctl", "ps", "-o", "name"); ps != "" {
		t.Errorf("still attached: %s", ps)
	}
	if links := n.run(t, "sh", "-c", "ip -br link | grep ^ove || true"); links != "" {
		t.Errorf("links are left: %s", links)
	}
}

// TestVerbsInAnyOrder: whatever a runtime calls, twice and in any order, and with the agent
// killed between, the answers follow from what was attached.
func TestVerbsInAnyOrder(t *testing.T) {
	t.Parallel()
	n := one(t)
	random := rand.New(rand.NewPCG(5, 6))
	attached := map[string]answer{}
	ids := []string{"a", "b", "c"}
	for _, id := range ids {
		n.netns(t, id)
	}
	of := func(command, id string, fields ...string) call {
		return call{command: command, id: id, netns: "/run/netns/" + id, conf: conf(fields...)}
	}
	for step := range 40 {
		id := ids[random.IntN(len(ids))]
		old, is := attached[id]
		verb := []string{"ADD", "DEL", "CHECK", "GC", "STATUS", "kill"}[random.IntN(6)]
		if verb == "kill" && random.IntN(2) == 0 {
			n.kill(t)
			n.startAgent(t)
		}
		for range 2 {
			switch verb {
			case "ADD":
				got := n.done(t, of("ADD", id))
				if is && addresses(got.result(t)) != addresses(old.result(t)) {
					t.Errorf("step %d: added again: %s, was %s", step, got.stdout, old.stdout)
				}
				attached[id], old, is = got, got, true
			case "DEL":
				n.done(t, of("DEL", id))
				delete(attached, id)
				old, is = answer{}, false
			case "CHECK":
				if is {
					n.done(t, of("CHECK", id, old.prev()))
				} else {
					n.refused(t, of("CHECK", id, `"prevResult":{"cniVersion":"1.1.0"}`), unknown, "not attached")
				}
			case "GC":
				n.done(t, call{command: "GC", conf: conf(fmt.Sprintf(`"cni.dev/valid-attachments":[{"containerID":%q,"ifname":"eth0"}]`, id))})
				for other := range attached {
					if other != id {
						delete(attached, other)
					}
				}
			case "STATUS":
				n.ready(t)
			}
		}
		if got, want := n.run(t, "ovlctl", "ps", "-o", "name"), len(attached); len(strings.Fields(got)) != want {
			t.Fatalf("step %d, %s %s: attached are %s; want %d", step, verb, id, got, want)
		}
	}
	for _, id := range ids {
		n.run(t, "ip", "netns", "del", id)
		c := of("DEL", id)
		n.done(t, c)
		c.netns = "" // as the specification allows
		n.done(t, c)
	}
	n.nothingLeft(t)
}

// TestTheAgentIsKilledInTheMiddle of an ADD or a DEL: what the runtime calls again
// afterwards succeeds, with one address and no more.
func TestTheAgentIsKilledInTheMiddle(t *testing.T) {
	t.Parallel()
	n := one(t)
	path := n.netns(t, "web")
	there := func(want bool) func() {
		return func() {
			labtest.Until(t, "the link is there or gone", func() error {
				if r := n.Do(t, n.host, "ip", "-n", "web", "link", "show", "eth0"); (r.Code == 0) != want {
					return errors.New(r.Stderr)
				}
				return nil
			})
		}
	}
	at := func(command string, fields ...string) call {
		return call{command: command, id: "web", netns: path, conf: conf(fields...)}
	}
	for name, when := range map[string][2]func(){
		"at once":           {func() {}, func() {}},
		"with the link":     {there(true), there(false)},
		"before it is read": {func() { n.kill(t) }, func() { n.kill(t) }},
	} {
		add := n.start(t, at("ADD"))
		when[0]()
		if name != "before it is read" {
			n.kill(t)
		}
		first := add()
		n.startAgent(t)
		again := n.done(t, at("ADD"))
		if !first.failed && addresses(first.result(t)) != addresses(again.result(t)) {
			t.Errorf("%s: what was answered is forgotten: %s, then %s", name, first.stdout, again.stdout)
		}
		n.done(t, at("CHECK", again.prev()))
		if got := n.run(t, "ip", "-n", "web", "-br", "addr", "show", "eth0"); strings.Count(got, "/24") != 1 {
			t.Errorf("%s: addresses %s", name, got)
		}

		del := n.start(t, at("DEL"))
		when[1]()
		if name != "before it is read" {
			n.kill(t)
		}
		del()
		n.startAgent(t)
		n.done(t, at("DEL"))
		n.nothingLeft(t)
	}
}

// TestThePowerIsCut: the namespaces and links are gone, and the journal is not.
func TestThePowerIsCut(t *testing.T) {
	t.Parallel()
	n := one(t)
	c := call{command: "ADD", id: "web", netns: n.netns(t, "web"), conf: conf(`"runtimeConfig":{"portMappings":[{"hostPort":8080,"containerPort":80}]}`)}
	had := n.done(t, c).result(t)
	n.kill(t)
	n.run(t, "sh", "-c", `ip netns del web; for l in $(ip -br link | grep -o '^ov[a-z0-9.]*'); do ip link del $l 2>/dev/null || true; done; nft flush ruleset`)
	n.startAgent(t)
	c.command = "DEL"
	n.done(t, c)
	n.nothingLeft(t)
	// The port and the address are free.
	other := call{command: "ADD", id: "other", netns: n.netns(t, "other"), conf: conf(`"runtimeConfig":{"portMappings":[{"hostPort":8080,"containerPort":80}],"ips":["` + had.IPs[0].Address.IP.String() + `"]}`)}
	if got := n.done(t, other).result(t); got.IPs[0].Address.String() != had.IPs[0].Address.String() {
		t.Errorf("addresses %s, want the old one", addresses(got))
	}
}

// TestGC removes what is not listed, of that configuration, and nothing else.
func TestGC(t *testing.T) {
	t.Parallel()
	n := one(t)
	n.run(t, "ovlctl", "network", "create", "red", "--subnet", "10.65.0.0/16")
	n.Sandbox(t, n.host, "mine", "--network", "blue")
	for _, id := range []string{"a", "b", "c"} {
		n.done(t, call{command: "ADD", id: id, netns: n.netns(t, id), conf: conf()})
	}
	n.done(t, call{command: "ADD", id: "a", ifName: "eth1", netns: "/run/netns/a", conf: strings.Replace(conf(), "blue", "red", 1)})
	gc := call{command: "GC", conf: conf(`"cni.dev/valid-attachments":[{"containerID":"b","ifname":"eth0"},{"containerID":"c","ifname":"eth7"}]`)}
	n.done(t, gc)
	n.done(t, gc)
	has := func(ns, link string) bool { return n.Do(t, n.host, "ip", "-n", ns, "link", "show", link).Code == 0 }
	if has("a", "eth0") || !has("a", "eth1") || !has("b", "eth0") || has("c", "eth0") {
		t.Errorf("a: %v %v, b: %v, c: %v", has("a", "eth0"), has("a", "eth1"), has("b", "eth0"), has("c", "eth0"))
	}
	if ps := strings.Fields(n.run(t, "ovlctl", "ps", "-o", "name")); len(ps) != 3 {
		t.Errorf("attached are %v; want mine, b, and a on red", ps)
	}
}
