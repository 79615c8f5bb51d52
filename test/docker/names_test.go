//go:build docker

package docker

import (
	"fmt"
	"strings"
	"testing"

	"github.com/ovlnet/ovl/internal/lab"
	"github.com/ovlnet/ovl/internal/lab/labtest"
)

// answer is what a container's own resolver says about a name, with the applet of
// busybox, as programs do: by way of the engine.
func (e *engine) answer(tb testing.TB, container, name string) string {
	tb.Helper()
	r := e.try(tb, "exec", container, "nslookup", "-type=a", name)
	var found []string
	_, rest, _ := strings.Cut(r.Stdout, "\n\n") // after whom it asked
	for line := range strings.Lines(rest) {
		if a, ok := strings.CutPrefix(strings.TrimSpace(line), "Address: "); ok {
			found = append(found, a)
		}
		if _, of, ok := strings.Cut(line, "name = "); ok {
			found = append(found, strings.TrimSpace(of))
		}
	}
	switch {
	case len(found) > 0:
		return strings.Join(found, " ")
	case strings.Contains(r.Stdout+r.Stderr, "NXDOMAIN"):
		return "NXDOMAIN"
	}
	return strings.TrimSpace(r.Stdout + r.Stderr)
}

// knows waits until a name means something to a container.
func (e *engine) knows(tb testing.TB, container, name, want string) {
	tb.Helper()
	labtest.Until(tb, fmt.Sprintf("%s on %s knows %s as %s", container, e.host, name, want), func() error {
		if got := e.answer(tb, container, name); got != want {
			return fmt.Errorf("answered %q", got)
		}
		return nil
	})
}

// pings sends one packet to a name or an address, which must be answered.
func (e *engine) pings(tb testing.TB, container, to string) {
	tb.Helper()
	if r := e.try(tb, "exec", container, "ping", "-c", "1", "-W", "2", to); r.Code != 0 {
		tb.Errorf("%s on %s does not reach %s: %s%s", container, e.host, to, r.Stdout, r.Stderr)
	}
}

// TestNames: containers find each other across hosts by what their engines call them,
// at any time.
func TestNames(t *testing.T) {
	everyEngine(t, func(t *testing.T, v version) {
		l, one, two := twoEngines(t, v, config{})
		l.Run(t, "control", "ovlctl", "network", "create", "blue")
		l.Run(t, "control", "ovlctl", "network", "create", "vault", "--internal")
		for _, e := range []*engine{one, two} {
			e.network(t, "blue")
			e.network(t, "vault")
		}
		id := one.run(t, "--name", "Web_1", "--network", "blue", "--network-alias", "www", "--network-alias", "shared")
		two.run(t, "--name", "db", "--network", "blue", "--network-alias", "shared")
		web, db := one.address(t, "Web_1", "blue"), two.address(t, "db", "blue")
		for _, name := range []string{"web_1", "Web_1", "www", id[:12], "web_1.blue", "www.blue.ovl.internal"} {
			two.knows(t, "db", name, web)
		}
		one.knows(t, "Web_1", "db", db)
		one.pings(t, "Web_1", "db")
		two.pings(t, "db", "www")
		for name, want := range map[string]string{"nosuch": "NXDOMAIN", "nosuch.blue": "NXDOMAIN"} {
			if got := two.answer(t, "db", name); got != want {
				t.Errorf("%s: %s, want %s", name, got, want)
			}
		}
		reverse := strings.Split(web, ".")
		ptr := two.docker(t, "exec", "db", "nslookup", "-type=ptr", reverse[3]+"."+reverse[2]+"."+reverse[1]+"."+reverse[0]+".in-addr.arpa")
		if !strings.Contains(ptr, "name = web_1.blue.ovl.internal") {
			t.Errorf("the name of %s: %s", web, ptr)
		}

		// What changes is known at once.
		one.docker(t, "rename", "Web_1", "front")
		two.knows(t, "db", "front", web)
		two.knows(t, "db", "web_1", "NXDOMAIN")
		one.docker(t, "network", "connect", "--alias", "safe", "vault", "front")
		two.docker(t, "network", "connect", "vault", "db")
		two.knows(t, "db", "safe", one.address(t, "front", "vault"))
		one.docker(t, "network", "disconnect", "vault", "front")
		two.knows(t, "db", "safe", "NXDOMAIN")
		one.docker(t, "rm", "-f", "front")
		two.knows(t, "db", "front", "NXDOMAIN")
		one.run(t, "--name", "front", "--network", "blue")
		two.knows(t, "db", "front", one.address(t, "front", "blue"))

		// On an internal network alone there are names, and no way out.
		one.run(t, "--name", "inner", "--network", "vault")
		two.run(t, "--name", "other", "--network", "vault")
		two.knows(t, "other", "inner", one.address(t, "inner", "vault"))
		two.pings(t, "other", "inner")
		if r := two.try(t, "exec", "other", "ping", "-c1", "-W1", "192.168.77.254"); r.Code == 0 {
			t.Error("a container of an internal network reaches the outside")
		}
		// A name that no container of the cluster can have is told of.
		one.run(t, "--name", "a.b", "--network", "blue", "--network-alias", "dotted")
		two.knows(t, "db", "dotted", one.address(t, "a.b", "blue"))
		problem(t, l, "h1", `container "a.b"`, "no DNS label")
	})
}

// TestNamesOfOthers: the line in daemon.json is for all containers of an engine: those
// that are on no network of ours ask there too, and get what the host would.
func TestNamesOfOthers(t *testing.T) {
	everyEngine(t, func(t *testing.T, v version) {
		l := labtest.Up(t, lab.Config{Hosts: 1})
		l.NameServer(t)
		e := startEngine(t, l, "h1", v, config{})
		l.Run(t, "control", "ovlctl", "network", "create", "blue")
		e.network(t, "blue")
		e.docker(t, "network", "create", "plain")
		e.run(t, "--name", "web", "--network", "blue")
		e.run(t, "--name", "onbridge")
		e.run(t, "--name", "onplain", "--network", "plain")
		e.run(t, "--name", "onhost", "--network", "host")
		for _, c := range []string{"web", "onbridge", "onplain", "onhost"} {
			e.knows(t, c, "www.example.com", "198.51.100.7")
		}
		for _, c := range []string{"onbridge", "onplain", "onhost"} {
			if got := e.answer(t, c, "web.blue.ovl.internal"); got == e.address(t, "web", "blue") {
				t.Errorf("%s is on none of our networks and knows web: %s", c, got)
			}
		}
		// On both, it knows both, whichever its default route leads to.
		e.docker(t, "network", "connect", "blue", "onplain")
		e.knows(t, "onplain", "web", e.address(t, "web", "blue"))
		e.knows(t, "onplain", "www.example.com", "198.51.100.7")
		// Nobody on the underlay is served.
		if r := l.Do(t, lab.Outside, "sh", "-c", "ip route add 169.254.53.53 via 192.168.77.1 && timeout 3 dig +tries=1 +time=1 @169.254.53.53 www.example.com"); r.Code == 0 {
			t.Errorf("a stranger is answered: %s", r.Stdout)
		}
	})
}
