package integration

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/ovlnet/ovl/internal/lab"
	"github.com/ovlnet/ovl/internal/lab/labtest"
)

// client is somebody who asks the echo behind a published port.
type client struct {
	who string
	do  func(testing.TB, ...string) labtest.Result
}

func onHost(l *labtest.Lab, host string) client {
	return client{host, func(tb testing.TB, args ...string) labtest.Result {
		tb.Helper()
		return l.Do(tb, host, args...)
	}}
}

func within(c labtest.Container) client { return client{c.String(), c.Do} }

// sees asks the echo over TCP or UDP and returns which address it sees.
func (c client) sees(t *testing.T, network string, at netip.AddrPort) (netip.Addr, error) {
	t.Helper()
	args := []string{"ovlctl", "lab", "ask", at.String(), "--timeout", "2s"}
	if network == "udp" {
		args = append(args, "--udp")
	}
	r := c.do(t, args...)
	if r.Code != 0 {
		return netip.Addr{}, fmt.Errorf("%s asks %s/%s: exit code %d: %s", c.who, at, network, r.Code, strings.TrimSpace(r.Stderr))
	}
	return netip.ParseAddr(strings.TrimSpace(r.Stdout))
}

// question is one client's question and the address that the answer must name.
type question struct {
	client
	at   netip.AddrPort
	seen netip.Addr
}

// answered asks every question over TCP and UDP.
func answered(t *testing.T, questions []question) {
	t.Helper()
	for _, q := range questions {
		for _, network := range []string{"tcp", "udp"} {
			got, err := q.sees(t, network, q.at)
			if err != nil {
				t.Error(err)
			} else if got != q.seen {
				t.Errorf("%s asks %s/%s and is seen as %s, want %s", q.who, q.at, network, got, q.seen)
			}
		}
	}
}

// echo starts an echo with published ports and waits until it answers.
func echo(t *testing.T, l *labtest.Lab, host, name, network string, ports ...string) labtest.Container {
	t.Helper()
	args := []string{"--network", network}
	for _, p := range ports {
		args = append(args, "-p", p)
	}
	c := l.Sandbox(t, host, name, append(args, "--", "ovlctl", "lab", "echo", fmt.Sprintf(":%d", lab.EchoPort))...)
	labtest.Until(t, "the echo "+c.String()+" listens", func() error {
		for _, a := range c.Addrs(t, "eth0") {
			if _, err := within(c).sees(t, "tcp", netip.AddrPortFrom(a, lab.EchoPort)); err != nil {
				return err
			}
		}
		return nil
	})
	return c
}

func at(a netip.Addr, port uint16) netip.AddrPort { return netip.AddrPortFrom(a, port) }

func defaultGateway(t *testing.T, c labtest.Container) netip.Addr {
	t.Helper()
	return netip.MustParseAddr(c.Run(t, "sh", "-c", "ip route show default | cut -d' ' -f3"))
}

func TestPublishedPorts(t *testing.T) {
	t.Parallel()
	l := labtest.Up(t, lab.Config{Hosts: 2})
	l.Run(t, "h1", "ovlctl", "network", "create", "blue", "--subnet", "10.64.0.0/16")
	l.Run(t, "h1", "ovlctl", "network", "create", "red", "--subnet", "10.65.0.0/16")
	l.Run(t, "h1", "ovlctl", "network", "create", "plain", "--subnet", "10.66.0.0/16", "--no-masquerade")
	l.Run(t, "h1", "ovlctl", "network", "create", "quiet", "--subnet", "10.67.0.0/16", "--internal")
	h1, h2, stranger := addressOf(t, l, "h1"), addressOf(t, l, "h2"), addressOf(t, l, lab.Outside)
	loopback := netip.MustParseAddr("127.0.0.1")

	web := echo(t, l, "h1", "web", "blue", "8080:7777", "8080:7777/udp", "8100-8101:7777-7778", "8100-8101:7777-7778/udp",
		"127.0.0.1:8081:7777", "127.0.0.1:8081:7777/udp", h1.String()+":8082:7777", h1.String()+":8082:7777/udp")
	bare := echo(t, l, "h1", "bare", "plain", "8090:7777", "8090:7777/udp")
	near, far := l.Sandbox(t, "h1", "near", "--network", "blue"), l.Sandbox(t, "h2", "far", "--network", "blue")
	redNear, redFar := l.Sandbox(t, "h1", "red-near", "--network", "red"), l.Sandbox(t, "h2", "red-far", "--network", "red")
	plainFar := l.Sandbox(t, "h2", "plain-far", "--network", "plain")
	quiet := l.Sandbox(t, "h1", "quiet", "--network", "quiet")
	complete(t, []labtest.Container{near, far})
	complete(t, []labtest.Container{bare, plainFar})
	gateway := defaultGateway(t, web)

	all := []question{
		{onHost(l, lab.Outside), at(h1, 8080), stranger},
		{onHost(l, lab.Outside), at(h1, 8100), stranger},
		{onHost(l, lab.Outside), at(h1, 8082), stranger},
		{onHost(l, "h2"), at(h1, 8080), h2},
		{onHost(l, "h1"), at(h1, 8080), h1},
		{onHost(l, "h1"), at(loopback, 8080), gateway},
		{onHost(l, "h1"), at(loopback, 8081), gateway},
		{within(web), at(h1, 8080), gateway},
		{within(near), at(h1, 8080), gateway},
		{within(near), at(gateway, 8080), gateway},
		{within(far), at(h1, 8080), h2},
		{within(far), at(gateway, 8080), gateway},
		{within(redNear), at(h1, 8080), gateway},
		{within(redFar), at(h1, 8080), h2},
		// Nobody translates these on the way, and the answer would go by the
		// tunnel, untracked.
		{within(plainFar), at(h1, 8090), defaultGateway(t, bare)},
	}
	t.Run("all reach them, and are seen as who they are", func(t *testing.T) { answered(t, all) })
	t.Run("nobody reaches more", func(t *testing.T) {
		l.Run(t, lab.Outside, "ip", "route", "replace", web.Addr(t).String(), "via", h1.String())
		for _, q := range []question{
			{onHost(l, lab.Outside), at(h1, 8081), stranger},              // published at 127.0.0.1
			{onHost(l, lab.Outside), at(h1, 8101), stranger},              // nobody listens there
			{onHost(l, lab.Outside), at(web.Addr(t), 7777), stranger},     // no published port
			{onHost(l, "h1"), at(loopback, 8082), gateway},                // published at another address
			{within(quiet), at(h1, 8080), gateway},                        // no way out
			{within(quiet), at(gatewayOfSubnet(t, quiet), 8080), gateway}, // of its own network
			{within(redNear), at(web.Addr(t), 7777), gateway},             // other network, no published port
		} {
			if got, err := q.sees(t, "tcp", q.at); err == nil {
				t.Errorf("%s reaches %s and is seen as %s", q.who, q.at, got)
			}
		}
	})
	t.Run("the host's loopback is out of reach", func(t *testing.T) {
		for _, c := range []struct {
			client
			via netip.Addr
		}{{onHost(l, lab.Outside), h1}, {within(near), gateway}} {
			// Whoever may set up his own machine can send this to a neighbour.
			script := fmt.Sprintf("echo 1 >/proc/sys/net/ipv4/conf/all/route_localnet && ip address del 127.0.0.1/8 dev lo && ip route add 127.0.0.1 via %s", c.via)
			if r := c.do(t, "sh", "-c", script); r.Code != 0 {
				t.Fatalf("%s: %s", c.who, r.Stderr)
			}
			for _, port := range []uint16{8080, 8081} {
				if got, err := c.sees(t, "tcp", at(loopback, port)); err == nil {
					t.Errorf("%s reaches the loopback of h1 at %d and is seen as %s", c.who, port, got)
				}
			}
		}
	})
	t.Run("a port that is taken is a conflict", func(t *testing.T) {
		for flag, owner := range map[string]string{
			"8080:80": "web", h1.String() + ":8080:80": "web", "8000-8090:8000-8090": "web", "8081:80": "web", "4789:80/udp": "tunnel",
		} {
			r := l.Do(t, "h1", "ovlctl", "run", "-d", "--name", "second", "--network", "blue", "-p", flag)
			if r.Code != conflict || !strings.Contains(r.Stderr, owner) || strings.Count(r.Stderr, "\n") != 1 {
				t.Errorf("-p %s: %+v, want code %d and one line that names %s", flag, r, conflict, owner)
			}
		}
		second := l.Sandbox(t, "h1", "second", "--network", "blue", "-p", h1.String()+":8081:7777")
		l.Run(t, "h1", "ovlctl", "rm", "-f", second.Name)
	})
	t.Run("ps shows them", func(t *testing.T) {
		if out := l.Run(t, "h1", "ovlctl", "ps"); !strings.Contains(out, "8100-8101->7777-7778/tcp") || !strings.Contains(out, "127.0.0.1:8081->7777/udp") {
			t.Errorf("ps shows %s", out)
		}
	})
	t.Run("they come back after somebody flushed the rules", func(t *testing.T) {
		for _, flush := range []string{"iptables -F", "iptables -t nat -F", "iptables -t raw -F"} {
			l.Run(t, "h1", strings.Fields(flush)...)
		}
		labtest.Until(t, "h1 is at rest", func() error { return l.AtRest(t, "h1") })
		answered(t, all)
	})
	t.Run("a policy of DROP stops nobody", func(t *testing.T) {
		l.Run(t, "h1", "iptables", "-P", "FORWARD", "DROP")
		answered(t, all[:6])
	})
	t.Run("an agent that starts again keeps them", func(t *testing.T) {
		if err := l.Stop(t.Context(), "h1", lab.Agent); err != nil {
			t.Fatal(err)
		}
		answered(t, all[:6])
		l.Run(t, "h1", "iptables", "-t", "nat", "-F", "OVL-PREROUTING")
		if err := l.Start(t.Context(), "h1", lab.Agent); err != nil {
			t.Fatal(err)
		}
		labtest.Until(t, "h1 is at rest", func() error { return l.AtRest(t, "h1") })
		answered(t, all)
		if r := l.Do(t, "h1", "ovlctl", "run", "-d", "--name", "second", "--network", "blue", "-p", "8080:80"); r.Code != conflict {
			t.Errorf("a taken port after a restart: %+v, want code %d", r, conflict)
		}
	})
	t.Run("they go with their container", func(t *testing.T) {
		for _, c := range []labtest.Container{web, bare} {
			l.Run(t, "h1", "ovlctl", "rm", "-f", c.Name)
		}
		if rules := l.Run(t, "h1", "iptables-save", "-t", "nat"); strings.Contains(rules, "DNAT") {
			t.Errorf("rules are left: %s", rules)
		}
		l.Run(t, "h1", "ovlctl", "run", "-d", "--name", "second", "--network", "blue", "-p", "8080:80")
		atRest(t, l)
	})
}

// gatewayOfSubnet returns the gateway of a container without a default route.
func gatewayOfSubnet(t *testing.T, c labtest.Container) netip.Addr {
	t.Helper()
	p, err := c.Addr(t).Prefix(24)
	if err != nil {
		t.Fatal(err)
	}
	return p.Addr().Next()
}

func TestPublishedPortsOfBothFamilies(t *testing.T) {
	t.Parallel()
	for name, flag := range map[string]string{"routed": "--nat66=false", "translated": "--nat66"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := labtest.Up(t, lab.Config{Hosts: 2, IPv6: true})
			l.Run(t, "h1", "ovlctl", "network", "create", "blue", "--subnet", "10.64.0.0/16", "--subnet", "fd64::/48", flag)
			l.Run(t, "h1", "ovlctl", "network", "create", "red", "--subnet", "10.65.0.0/16", "--subnet", "fd65::/48", flag)
			h1, h2, stranger := addressOf(t, l, "h1"), addressOf(t, l, "h2"), addressOf(t, l, lab.Outside)
			web := echo(t, l, "h1", "web", "blue", "8080:7777", "8080:7777/udp", "["+h1.String()+"]:8082:7777", "["+h1.String()+"]:8082:7777/udp")
			near, far := l.Sandbox(t, "h1", "near", "--network", "blue"), l.Sandbox(t, "h2", "far", "--network", "blue")
			red := l.Sandbox(t, "h1", "red", "--network", "red")
			complete(t, []labtest.Container{near, far})
			four := defaultGateway(t, web)
			six := netip.MustParseAddr(web.Run(t, "sh", "-c", "ip -6 route show default | cut -d' ' -f3"))
			seen := map[string]netip.Addr{"routed": six, "translated": h2}[name]
			all := []question{
				{onHost(l, lab.Outside), at(h1, 8080), stranger},
				{onHost(l, lab.Outside), at(h1, 8082), stranger},
				{onHost(l, "h2"), at(h1, 8080), h2},
				{onHost(l, "h1"), at(h1, 8080), h1},
				{onHost(l, "h1"), at(netip.MustParseAddr("127.0.0.1"), 8080), four},
				{within(web), at(h1, 8080), six},
				{within(near), at(h1, 8080), six},
				{within(near), at(four, 8080), four},
				{within(far), at(h1, 8080), seen},
				{within(far), at(six, 8080), six},
				{within(red), at(h1, 8080), six},
			}
			answered(t, all)
			if r := l.Do(t, "h1", "ovlctl", "run", "-d", "--name", "lo", "--network", "blue", "-p", "[::1]:9000:80"); r.Code != 2 {
				t.Errorf("a port at ::1: %+v, want code 2", r)
			}
			// Linux does not carry ::1 to another device: refused at once, not lost.
			if r := l.Do(t, "h1", "curl", "-s", "-m", "20", "http://[::1]:8080/"); r.Code != 7 {
				t.Errorf("the port at ::1: %+v, want curl's code 7: refused", r)
			}
			l.Run(t, lab.Outside, "ip", "route", "replace", web.Addrs(t, "eth0")[1].String(), "via", h1.String())
			for _, q := range []question{
				{onHost(l, lab.Outside), at(web.Addrs(t, "eth0")[1], 7777), stranger}, // no published port
				{within(red), at(web.Addrs(t, "eth0")[1], 7777), six},
			} {
				if got, err := q.sees(t, "tcp", q.at); err == nil {
					t.Errorf("%s reaches %s and is seen as %s", q.who, q.at, got)
				}
			}
			l.Run(t, "h1", "sh", "-ec", "ip6tables -P FORWARD DROP; ip6tables -t nat -F; ip6tables -F")
			labtest.Until(t, "h1 is at rest", func() error { return l.AtRest(t, "h1") })
			answered(t, all)
		})
	}
}

// TestManyPublishedPorts holds that what one more port costs does not depend on
// how many there are: one short chain a family is written.
func TestManyPublishedPorts(t *testing.T) {
	t.Parallel()
	l := labtest.Up(t, lab.Config{Hosts: 1})
	l.Run(t, "h1", "ovlctl", "network", "create", "blue", "--subnet", "10.64.0.0/16")
	const each = 1000
	for i := range 5 {
		first := 10000 + i*each
		ports := fmt.Sprintf("%d-%d:1-%d", first, first+each-1, each)
		l.Sandbox(t, "h1", fmt.Sprintf("many%d", i), "--network", "blue", "-p", ports)
	}
	web := echo(t, l, "h1", "web", "blue", "9999:7777", "9999:7777/udp")
	stranger := addressOf(t, l, lab.Outside)
	answered(t, []question{{onHost(l, lab.Outside), at(addressOf(t, l, "h1"), 9999), stranger}})
	save := l.Run(t, "h1", "iptables-save", "-t", "nat")
	rules := map[string]int{}
	for line := range strings.Lines(save) {
		if f := strings.Fields(line); len(f) > 2 && f[0] == "-A" {
			rules[f[1]]++
		}
	}
	total := 0
	for chain, n := range rules {
		total += n
		if n > 128 && strings.HasPrefix(chain, "OVL-") {
			t.Errorf("chain %s has %d rules, want at most those of 128 ports", chain, n)
		}
	}
	if total < 5*each {
		t.Errorf("%d rules for %d ports", total, 5*each)
	}
	atRest(t, l)
	l.Run(t, "h1", "ovlctl", "rm", "-f", web.Name)
	atRest(t, l)
}
