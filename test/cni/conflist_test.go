package cni

import (
	"errors"
	"strings"
	"testing"

	"github.com/ovlnet/ovl/internal/lab"
	"github.com/ovlnet/ovl/internal/lab/labtest"
)

const conflist = confDir + "/10-ovl.conflist"

// TestRuntimesAreToldOnceTheyMayAttach: the agent writes the configuration list
// when there is a network to attach to, mends it, and takes it away at the end;
// with nothing else on the host containers of two of them reach each other.
func TestRuntimesAreToldOnceTheyMayAttach(t *testing.T) {
	t.Parallel()
	all := nodes(t, 2)
	n := all[0]
	labtest.Until(t, "the agent says what is missing", func() error {
		if s := n.run(t, "ovlctl", "agent", "status"); !strings.Contains(s, "no network blue") {
			return errors.New(s)
		}
		return nil
	})
	if r := n.Do(t, n.host, "ls", confDir); r.Stdout != "" {
		t.Fatalf("runtimes are told of a network that is not there: %s", r.Stdout)
	}

	n.run(t, "ovlctl", "network", "create", "blue", "--subnet", "10.64.0.0/16", "--subnet", "fd64::/48")
	var addrs []string
	for _, n := range all {
		n.told(t)
		ns := n.netns(t, "web")
		res := n.must(t, "add", "blue", ns)
		if res.CNIVersion != "1.1.0" || len(res.IPs) != 2 || len(res.Interfaces) != 2 {
			t.Fatalf("%s: %+v", n.host, res)
		}
		n.must(t, "check", "blue", ns)
		n.must(t, "status", "blue", ns)
		for _, ip := range res.IPs {
			addrs = append(addrs, ip.Address.IP.String())
		}
	}
	labtest.Until(t, "they reach each other", func() error {
		for _, n := range all {
			for _, a := range addrs {
				if r := n.Do(t, n.host, "ip", "netns", "exec", "web", "ping", "-n", "-c1", "-W1", a); r.Code != 0 {
					return errors.New(n.host + " does not reach " + a)
				}
			}
		}
		return nil
	})

	if s := n.run(t, "ovlctl", "agent", "status"); strings.Contains(s, "no network blue") {
		t.Errorf("still said to be missing: %s", s)
	}
	if mode := n.run(t, "stat", "-c", "%a", conflist); mode != "644" {
		t.Errorf("mode %s", mode)
	}
	n.run(t, "rm", conflist)
	n.Sandbox(t, n.host, "other", "--network", "blue") // which takes a pass, and each looks at the file
	n.told(t)
	n.must(t, "del", "blue", "/run/netns/web") // cnitool needs the file
	n.run(t, "ovlctl", "rm", "-f", "other")

	if err := n.Stop(t.Context(), n.host, lab.Agent); err != nil {
		t.Fatal(err)
	}
	n.told(t) // containers outlive the agent
	if r := n.tool(t, "status", "blue", "/run/netns/web"); r.Code == 0 || !strings.Contains(r.Stderr, "no ovl-agent answers") {
		t.Errorf("without an agent the status is %+v", r)
	}
	n.run(t, "ovl-agent", "cleanup", "--cni-conf-dir", confDir)
	if left := n.run(t, "ls", "-A", confDir); left != "" {
		t.Errorf("left: %s", left)
	}
}
