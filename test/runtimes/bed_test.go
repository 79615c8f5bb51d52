//go:build runtimes

package runtimes

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/ovlnet/ovl/internal/lab"
	"github.com/ovlnet/ovl/internal/lab/labtest"
)

// up makes a lab of two hosts with network blue. Each is made ready before its agent
// starts, which tells the runtimes of blue.
func up(t *testing.T, ready func(l *labtest.Lab, host string)) *labtest.Lab {
	t.Helper()
	l := labtest.Up(t, lab.Config{Hosts: 2, Idle: true, AgentArgs: []string{"--cni-conf-dir", "/etc/cni/net.d", "--cni-network", "blue"}})
	l.Run(t, lab.Control, "ovlctl", "network", "create", "blue", "--subnet", "10.64.0.0/16")
	for _, h := range l.Members() {
		ready(l, h)
		l.Run(t, h, "cp", labtest.Binary("ovl-cni"), "/opt/cni/bin/ovl")
		if err := l.Start(t.Context(), h, "agent"); err != nil {
			t.Fatal(err)
		}
		// The bridge and the subnet stay when the last container goes: with them, what a
		// host has is what it had before.
		l.Run(t, h, "ovlctl", "run", "--rm", "--name", "before", "--network", "blue", "--", "true")
	}
	for _, h := range l.Members() {
		labtest.Until(t, "runtimes on "+h+" are told", func() error {
			_, err := l.Exec(t.Context(), h, "test", "-e", "/etc/cni/net.d/10-ovl.conflist")
			return err
		})
	}
	return l
}

// bare is what a host of the test has without a container.
type bare map[string]string

func bareHosts(t *testing.T, l *labtest.Lab) bare {
	t.Helper()
	b := bare{}
	for _, h := range l.Members() {
		b[h] = l.Dump(t, h)
	}
	return b
}

// again waits until nothing is left of any container: links, rules, namespaces,
// addresses, entries of the journal, endpoints in the cluster.
func (b bare) again(t *testing.T, l *labtest.Lab) {
	t.Helper()
	for _, h := range l.Members() {
		labtest.Until(t, "nothing is left on "+h, func() error {
			for _, args := range [][]string{{"ovlctl", "ps", "-o", "name"}, {"ovlctl", "endpoint", "ls", "-o", "name"}, {"ip", "netns"}} {
				if out := l.Run(t, h, args...); out != "" {
					return fmt.Errorf("%s: %s", strings.Join(args, " "), out)
				}
			}
			if d := labtest.Difference(b[h], l.Dump(t, h)); d != "" {
				return errors.New(d)
			}
			return l.AtRest(t, h)
		})
	}
}

// gateway returns the address at which a host answers the containers of blue, about
// names too.
func gateway(t *testing.T, l *labtest.Lab, host string) string {
	t.Helper()
	var links []struct {
		AddrInfo []struct{ Local string } `json:"addr_info"`
	}
	l.JSON(t, &links, host, "ip", "-j", "-4", "address", "show", "type", "bridge")
	for _, link := range links {
		for _, a := range link.AddrInfo {
			if strings.HasPrefix(a.Local, "10.64.") {
				return a.Local
			}
		}
	}
	t.Fatalf("%s has no gateway: %v", host, links)
	return ""
}
