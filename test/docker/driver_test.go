//go:build docker

package docker

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/ovlnet/ovl/internal/lab"
	"github.com/ovlnet/ovl/internal/lab/labtest"
)

// subnets are those of the networks that the tests make.
var subnets = map[string][]string{
	"blue": {"10.70.0.0/16", "fd70::/48"}, "red": {"10.71.0.0/16"}, "inner": {"10.72.0.0/16"}, "gate": {"10.73.0.0/16"},
}

// has waits until the agent has made the cluster's networks on the engine.
func (e *engine) has(tb testing.TB, networks ...string) {
	tb.Helper()
	for _, network := range networks {
		labtest.Until(tb, "network "+network+" is on the engine of "+e.host, func() error {
			if r := e.try(tb, "network", "inspect", network); r.Code != 0 {
				return errors.New(r.Stderr)
			}
			return nil
		})
	}
}

// address returns the address that the engine shows of a container on a network.
func (e *engine) address(tb testing.TB, container, network string) string {
	tb.Helper()
	return e.docker(tb, "inspect", "--format", "{{(index .NetworkSettings.Networks \""+network+"\").IPAddress}}", container)
}

// reaches tells why a container does not reach an address.
func (e *engine) reaches(tb testing.TB, container, to string) error {
	tb.Helper()
	if r := e.try(tb, "exec", container, "ping", "-c", "1", "-W", "1", to); r.Code != 0 {
		return fmt.Errorf("%s on %s does not reach %s: %s%s", container, e.host, to, r.Stdout, r.Stderr)
	}
	return nil
}

func (e *engine) mustReach(tb testing.TB, container, to string) {
	tb.Helper()
	if err := e.reaches(tb, container, to); err != nil {
		tb.Error(err)
	}
}

// rests waits until the agent beside the engine wants nothing else than there is.
func (e *engine) rests(tb testing.TB) {
	tb.Helper()
	labtest.Until(tb, e.host+" is at rest", func() error { return e.AtRest(tb, e.host) })
}

// cleared checks that nothing of any container is left on the engine's host.
func (e *engine) cleared(tb testing.TB) {
	tb.Helper()
	e.rests(tb)
	labtest.Until(tb, "nothing is left on "+e.host, func() error {
		links := e.Run(tb, e.host, "ip", "-o", "link")
		var status struct {
			Attachments int
		}
		if err := json.Unmarshal([]byte(e.Run(tb, e.host, "ovlctl", "agent", "status", "-o", "json")), &status); err != nil {
			return err
		}
		if strings.Contains(links, " ove") || strings.Contains(links, " ovp") || status.Attachments != 0 {
			return fmt.Errorf("%d attachments, and:\n%s", status.Attachments, links)
		}
		return nil
	})
}

// pair is two engines on the hosts of a lab with the networks blue (dual-stack, with a
// static range), red, inner (internal), and gate (whose way out is the engine's).
func pair(t *testing.T, v version, c config) (l *labtest.Lab, one, two *engine) {
	t.Helper()
	l = labtest.Up(t, lab.Config{Hosts: 2})
	create := func(network string, more ...string) {
		args := append([]string{"ovlctl", "network", "create", network}, more...)
		for _, subnet := range subnets[network] {
			args = append(args, "--subnet", subnet)
		}
		l.Run(t, "control", args...)
	}
	create("blue", "--static-range", "10.70.255.0/24")
	create("red")
	create("inner", "--internal")
	create("gate", "--label", "docker.egress=docker")
	for _, host := range []string{"h1", "h2"} {
		// Docker's policy DROP then meets what goes between two ports of a bridge, too. A
		// kernel without br_netfilter has no such switch, and no such danger.
		l.Run(t, host, "sh", "-c", "f=/proc/sys/net/bridge/bridge-nf-call-iptables; [ ! -e $f ] || echo 1 >$f")
	}
	one, two = startEngine(t, l, "h1", v, c), startEngine(t, l, "h2", v, c)
	for _, e := range []*engine{one, two} {
		e.has(t, "blue", "red", "inner", "gate")
	}
	return l, one, two
}

// TestContainers: containers of two engines on the cluster's networks, and all that a user
// may ask for one of them.
func TestContainers(t *testing.T) {
	everyEngine(t, func(t *testing.T, v version) {
		l, one, two := pair(t, v, config{})
		one.run(t, "--name", "web", "--network", "blue", "-p", "8080:80", "-p", "127.0.0.1::81/udp")
		two.run(t, "--name", "db", "--network", "blue")

		t.Run("reach each other", func(t *testing.T) {
			one.mustReach(t, "web", two.address(t, "db", "blue"))
			two.mustReach(t, "db", one.address(t, "web", "blue"))
			six := two.docker(t, "inspect", "--format", "{{.NetworkSettings.Networks.blue.GlobalIPv6Address}}", "db")
			one.mustReach(t, "web", six)
			one.mustReach(t, "web", "192.168.77.254") // the outside, through NAT
		})
		t.Run("inspect tells the truth", func(t *testing.T) {
			got := one.docker(t, "inspect", "--format", "{{with .NetworkSettings.Networks.blue}}{{.IPAddress}}/{{.IPPrefixLen}} {{.MacAddress}} {{.Gateway}}{{end}}", "web")
			ip := strings.Fields(one.docker(t, "exec", "web", "ip", "-o", "-4", "address", "show", "dev", "eth0"))[3]
			mac := one.docker(t, "exec", "web", "cat", "/sys/class/net/eth0/address")
			via := strings.Fields(one.docker(t, "exec", "web", "ip", "route", "show", "default"))[2]
			if want := ip + " " + mac + " " + via; got != want {
				t.Errorf("inspect says %s; the container has %s", got, want)
			}
			var is struct {
				Containers map[string]struct{ IPv4Address string }
			}
			one.inspect(t, &is, "network", "blue")
			for _, c := range is.Containers {
				if c.IPv4Address != ip {
					t.Errorf("network inspect says %s, the container has %s", c.IPv4Address, ip)
				}
			}
		})
		t.Run("published port", func(t *testing.T) {
			one.docker(t, "exec", "-d", "web", "sh", "-c", "echo hello > /www/index.html; httpd -f -h /www -p 80")
			labtest.Until(t, "the port answers", func() error { return get(t, l, "outside", "192.168.77.1:8080") })
			if err := get(t, l, "h2", "192.168.77.1:8080"); err != nil {
				t.Error(err)
			}
			r := one.try(t, "run", "-d", "--name", "thief", "--network", "blue", "-p", "8080:80", image)
			if r.Code == 0 || !strings.Contains(r.Stderr, "8080") {
				t.Errorf("a port that is taken: %d %s", r.Code, r.Stderr)
			}
			one.docker(t, "rm", "-f", "thief")
		})
		t.Run("address and MAC", func(t *testing.T) {
			for _, ip := range []string{"10.70.9.9", "10.70.255.7"} { // in a subnet to be taken, and a static one
				one.run(t, "--name", "fixed", "--network", "blue", "--ip", ip, "--mac-address", "02:00:00:aa:bb:cc")
				if got := one.address(t, "fixed", "blue"); got != ip {
					t.Errorf("address %s, want %s", got, ip)
				}
				if got := one.docker(t, "exec", "fixed", "cat", "/sys/class/net/eth0/address"); got != "02:00:00:aa:bb:cc" {
					t.Errorf("MAC %s", got)
				}
				two.mustReach(t, "db", ip)
				one.mustReach(t, "fixed", two.address(t, "db", "blue"))
				one.mustReach(t, "fixed", "192.168.77.254")
				if r := two.try(t, "run", "--rm", "--network", "blue", "--ip", ip, image, "true"); r.Code == 0 {
					t.Errorf("%s given out twice", ip)
				}
				one.rests(t)
				one.docker(t, "rm", "-f", "fixed")
			}
			for ip, want := range map[string]string{"10.99.0.1": "10.99.0.1", one.address(t, "web", "blue"): "in use"} {
				if r := one.try(t, "run", "--rm", "--network", "blue", "--ip", ip, image, "true"); r.Code == 0 || !strings.Contains(r.Stderr, want) {
					t.Errorf("--ip %s: %d %s", ip, r.Code, r.Stderr)
				}
			}
		})
		t.Run("connect and disconnect", func(t *testing.T) {
			two.run(t, "--name", "far", "--network", "red")
			one.docker(t, "network", "connect", "red", "web")
			one.mustReach(t, "web", two.address(t, "far", "red"))
			one.mustReach(t, "web", two.address(t, "db", "blue"))
			two.mustReach(t, "far", one.address(t, "web", "red"))
			one.rests(t)
			one.docker(t, "network", "disconnect", "blue", "web")
			one.mustReach(t, "web", two.address(t, "far", "red"))
			one.mustReach(t, "web", "192.168.77.254") // by the way of the other network now
			if got := one.docker(t, "stats", "--no-stream", "--format", "{{.NetIO}}", "web"); !strings.Contains(got, "B / ") {
				t.Errorf("docker stats: %q: the engine counts a link that is gone", got)
			}
			if err := get(t, l, "outside", "192.168.77.1:8080"); err != nil {
				t.Errorf("the port did not move with the way out: %v", err)
			}
			one.rests(t)
			one.docker(t, "network", "connect", "blue", "web")
			one.docker(t, "network", "disconnect", "red", "web")
			one.mustReach(t, "web", two.address(t, "db", "blue"))
			one.rests(t)
		})
		t.Run("internal network", func(t *testing.T) {
			one.run(t, "--name", "in1", "--network", "inner")
			two.run(t, "--name", "in2", "--network", "inner")
			one.mustReach(t, "in1", two.address(t, "in2", "inner"))
			if one.reaches(t, "in1", "192.168.77.254") == nil {
				t.Error("there is a way out of an internal network")
			}
			if got := one.docker(t, "exec", "in1", "ip", "-o", "link"); strings.Contains(got, "eth1") {
				t.Errorf("the engine gave it a way out:\n%s", got)
			}
			one.rests(t)
		})
		t.Run("the engine's own way out", func(t *testing.T) {
			one.run(t, "--name", "out", "--network", "gate", "-p", "8090:80")
			two.run(t, "--name", "far2", "--network", "gate")
			if got := one.docker(t, "port", "out"); !strings.Contains(got, "8090") {
				t.Errorf("docker port: %q", got)
			}
			one.mustReach(t, "out", two.address(t, "far2", "gate"))
			one.mustReach(t, "out", "192.168.77.254")
			one.rests(t)
		})
		t.Run("repairs", func(t *testing.T) {
			pid := one.docker(t, "inspect", "--format", "{{.State.Pid}}", "web")
			db := two.address(t, "db", "blue")
			host := one.Run(t, "h1", "ovlctl", "whois", one.address(t, "web", "blue"), "-o", "json")
			var whois []struct{ HostLink string }
			if err := json.Unmarshal([]byte(host), &whois); err != nil || len(whois) == 0 {
				t.Fatalf("whois: %v: %s", err, host)
			}
			own := one.address(t, "web", "blue")
			// Engine 20.10 goes on counting: eth2 by now.
			link := strings.Fields(one.docker(t, "exec", "web", "ip", "-o", "-4", "route", "show", "default"))[4]
			for _, command := range []string{
				"nsenter -t " + pid + " -n ip address flush dev eth0 scope global",
				"nsenter -t " + pid + " -n ip route del default",
				"nsenter -t " + pid + " -n ip link set eth0 down",
				"nsenter -t " + pid + " -n ip link del eth0",
				"ip link del " + whois[0].HostLink,
			} {
				one.Run(t, "h1", "sh", "-c", strings.ReplaceAll(command, "eth0", link))
				took := labtest.Until(t, "web is reached again after: "+command, func() error {
					return errors.Join(one.reaches(t, "web", db), two.reaches(t, "db", own), one.reaches(t, "web", "192.168.77.254"))
				})
				t.Logf("%s: reached again after %v", command, took)
			}
			one.rests(t)
		})
		t.Run("end", func(t *testing.T) {
			for _, e := range []*engine{one, two} {
				e.docker(t, append([]string{"rm", "-f"}, strings.Fields(e.docker(t, "ps", "-aq"))...)...)
				e.cleared(t)
			}
		})
	})
}

// get tells why a page cannot be had from a host.
func get(tb testing.TB, l *labtest.Lab, from, at string) error {
	tb.Helper()
	ip, port, _ := strings.Cut(at, ":")
	if r := l.Do(tb, from, "sh", "-c", "printf 'GET / HTTP/1.0\r\n\r\n' | nc -w 2 "+ip+" "+port); r.Code != 0 || !strings.Contains(r.Stdout, "hello") {
		return fmt.Errorf("%s from %s: %s %s", at, from, r.Stdout, r.Stderr)
	}
	return nil
}
