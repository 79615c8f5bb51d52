package integration

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/ovlnet/ovl/internal/lab"
	"github.com/ovlnet/ovl/internal/lab/labtest"
)

// twoColours is a lab of two hosts with the networks blue and red, and a
// container of each on the second host.
func twoColours(t *testing.T) (l *labtest.Lab, blue, red labtest.Container) {
	t.Helper()
	l = labtest.Up(t, lab.Config{Hosts: 2})
	l.Run(t, "h1", "ovlctl", "network", "create", "blue", "--subnet", "10.64.0.0/16")
	l.Run(t, "h1", "ovlctl", "network", "create", "red", "--subnet", "10.65.0.0/16")
	return l, l.Sandbox(t, "h2", "farblue", "--network", "blue"), l.Sandbox(t, "h2", "farred", "--network", "red")
}

// reaches waits for a ping to be answered: the other host has to hear of a new
// subnet first.
func reaches(t *testing.T, from labtest.Container, to netip.Addr) {
	t.Helper()
	labtest.Until(t, fmt.Sprintf("%s reaches %s", from, to), func() error { return from.Reaches(t, to) })
}

// way returns the link of a container's default route, as the kernel has it.
func way(t *testing.T, c labtest.Container) string {
	t.Helper()
	var routes []struct {
		Dev string `json:"dev"`
	}
	c.Lab.JSON(t, &routes, c.Host, "ovlctl", "exec", c.Name, "--", "ip", "-j", "route", "show", "default")
	if len(routes) != 1 {
		t.Fatalf("%s has the default routes %v, want one", c, routes)
	}
	return routes[0].Dev
}

func TestConnectAndDisconnectLoseNothing(t *testing.T) {
	t.Parallel()
	l, farBlue, farRed := twoColours(t)
	web := l.Sandbox(t, "h1", "web", "--network", "blue")
	reaches(t, web, farBlue.Addr(t))
	ping := web.StartPing(t, farBlue.Addr(t))
	for range 5 {
		l.Run(t, "h1", "ovlctl", "connect", "red", "web")
		reaches(t, web, farRed.Addr(t))
		if got := way(t, web); got != "eth0" {
			t.Errorf("default route by %s, want it to stay with blue", got)
		}
		l.Run(t, "h1", "ovlctl", "disconnect", "red", "web")
	}
	if err := web.Reaches(t, farRed.Addr(t)); err == nil {
		t.Error("red is reached after it was disconnected")
	}
	ping.NoneLost(t)
	atRest(t, l)
}

func TestTheDefaultRouteMovesOn(t *testing.T) {
	t.Parallel()
	l, farBlue, farRed := twoColours(t)
	l.Run(t, "h1", "ovlctl", "network", "create", "vault", "--subnet", "10.66.0.0/16", "--internal")
	web := l.Sandbox(t, "h1", "web", "--network", "vault", "--network", "blue,alias=front", "--network", "red,mac=02:00:00:00:00:77")
	reaches(t, web, farBlue.Addr(t))
	reaches(t, web, farRed.Addr(t))
	if got := way(t, web); got != "eth1" {
		t.Fatalf("default route by %s, want eth1: the first network that is not internal", got)
	}
	if out := web.Run(t, "cat", "/sys/class/net/eth2/address"); out != "02:00:00:00:00:77" {
		t.Errorf("MAC on red is %s", out)
	}
	ping := web.StartPing(t, farRed.Addr(t))
	out := addressOf(t, l, lab.Outside)
	reaches(t, web, out)
	l.Run(t, "h1", "ovlctl", "disconnect", "blue", "web")
	if got := way(t, web); got != "eth2" {
		t.Errorf("default route by %s, want eth2", got)
	}
	if err := web.Reaches(t, out); err != nil {
		t.Errorf("the outside, after the default route moved: %v", err)
	}
	l.Run(t, "h1", "ovlctl", "connect", "blue", "web", "--alias", "back")
	if got := way(t, web); got != "eth2" {
		t.Errorf("default route by %s, want it to stay with red", got)
	}
	reaches(t, web, farBlue.Addr(t))
	ping.NoneLost(t)
	atRest(t, l)
}

func TestConnectRefusals(t *testing.T) {
	t.Parallel()
	l := labtest.Up(t, lab.Config{Hosts: 1})
	l.Run(t, "h1", "ovlctl", "network", "create", "blue", "--subnet", "10.64.0.0/16")
	l.Run(t, "h1", "ovlctl", "network", "create", "red", "--subnet", "10.65.0.0/16")
	web := l.Sandbox(t, "h1", "web", "--network", "blue")
	l.Sandbox(t, "h1", "side", "--network", "container:web")
	l.Sandbox(t, "h1", "bare", "--network", "host")
	before := l.Dump(t, "h1")
	for _, c := range []struct {
		args string
		code int
		says string
	}{
		{"connect nope web", notFound, "nope"},
		{"connect red nope", notFound, "nope"},
		{"connect red web --ip 10.9.9.9", usage, "10.9.9.9"},
		{"connect blue web --alias other", conflict, "blue"},
		{"connect blue web --ip " + web.Addr(t).Next().String(), conflict, "blue"},
		{"connect red side", conflict, "web"},
		{"connect red bare", conflict, "host"},
		{"disconnect red web", notFound, "red"},
		{"disconnect red nope", notFound, "nope"},
		{"run -d --name x --network container:nope", notFound, "nope"},
		{"run -d --name x --network host --network blue", usage, "host"},
		{"rm web", conflict, "side"},
	} {
		t.Run(c.args, func(t *testing.T) {
			refused(t, l.Do(t, "h1", append([]string{"ovlctl"}, strings.Fields(c.args)...)...), c.code, c.says)
		})
	}
	if after := l.Dump(t, "h1"); after != before {
		t.Errorf("the host is not as before: %s", labtest.Difference(before, after))
	}
	l.Run(t, "h1", "ovlctl", "connect", "blue", "web") // identically: it is on it already
}

func TestModes(t *testing.T) {
	t.Parallel()
	l := labtest.Up(t, lab.Config{Hosts: 1})
	l.Run(t, "h1", "ovlctl", "network", "create", "blue", "--subnet", "10.64.0.0/16")
	web := l.Sandbox(t, "h1", "web", "--network", "blue", "--", "sleep", "1000")
	side := l.Sandbox(t, "h1", "side", "--network", "container:web", "--hostname", "car", "--", "sleep", "1000")
	alone := l.Sandbox(t, "h1", "alone", "--network", "none")
	bare := l.Sandbox(t, "h1", "bare", "--network", "host", "--", "sleep", "1000")

	t.Run("none has only a loopback", func(t *testing.T) {
		if out := alone.Run(t, "ls", "/sys/class/net"); out != "lo" {
			t.Errorf("links: %s", out)
		}
	})
	t.Run("host has the host's network and its own name", func(t *testing.T) {
		const netns = "readlink /proc/self/ns/net"
		if in, out := bare.Run(t, "sh", "-c", netns), l.Run(t, "h1", "sh", "-c", netns); in != out {
			t.Errorf("namespace %s, the host's is %s", in, out)
		}
		if out := bare.Run(t, "hostname"); out != "bare" {
			t.Errorf("hostname %s", out)
		}
		if in, out := bare.Run(t, "readlink", "/proc/self/ns/mnt"), l.Run(t, "h1", "readlink", "/proc/self/ns/mnt"); in == out {
			t.Error("its mounts are the host's")
		}
		if out := bare.Run(t, "getent", "hosts", "bare"); !strings.HasPrefix(out, "127.0.1.1") {
			t.Errorf("it finds itself at %q", out)
		}
		if out := l.Run(t, "h1", "ovlctl", "endpoint", "ls", "-o", "name"); strings.Contains(out, "bare") {
			t.Errorf("the cluster knows of it: %s", out)
		}
	})
	t.Run("container:OTHER has its network and its own name", func(t *testing.T) {
		if got, want := side.Addr(t), web.Addr(t); got != want {
			t.Errorf("address %s, want %s", got, want)
		}
		if out := side.Run(t, "hostname") + " " + web.Run(t, "hostname"); out != "car web" {
			t.Errorf("hostnames %s, want car and web", out)
		}
		if out := side.Run(t, "getent", "hosts", "car"); !strings.HasPrefix(out, web.Addr(t).String()) {
			t.Errorf("it finds itself at %q", out)
		}
	})
	t.Run("ps shows them", func(t *testing.T) {
		out := l.Run(t, "h1", "ovlctl", "ps")
		for _, want := range []string{"container:web", " host ", " none ", " blue "} {
			if !strings.Contains(out, want) {
				t.Errorf("no %q in\n%s", want, out)
			}
		}
	})
	t.Run("force takes what is its own and no more", func(t *testing.T) {
		l.Run(t, "h1", "ovlctl", "rm", "-f", "bare")
		l.Run(t, "h1", "ovlctl", "rm", "-f", "web")
		if out := l.Run(t, "h1", "ovlctl", "ps"); strings.Count(out, "running") != 1 {
			t.Errorf("want side to run on:\n%s", out)
		}
		if out := side.Run(t, "ls", "/sys/class/net"); out != "lo" {
			t.Errorf("after its network is gone it has %s", out)
		}
		l.Run(t, "h1", "ovlctl", "agent", "status") // what shared the agent's network has not taken it along
		l.Run(t, "h1", "ovlctl", "rm", "-f", "side", "alone")
		gone(t, l, "h1", "side")
	})
}

func TestFilesOfAContainer(t *testing.T) {
	t.Parallel()
	l := labtest.Up(t, lab.Config{Hosts: 1})
	l.Run(t, "h1", "ovlctl", "network", "create", "blue", "--subnet", "10.64.0.0/16")
	l.Run(t, "h1", "ovlctl", "network", "create", "red", "--subnet", "10.65.0.0/16")
	web := l.Sandbox(t, "h1", "web", "--network", "blue", "--hostname", "www.example", "--add-host", "db:10.9.9.9", "--add-host", "me:host-gateway",
		"--dns", "192.0.2.53", "--dns-search", "example", "--dns-option", "ndots:2", "--", "sleep", "1000")
	for path, want := range map[string][]string{
		"/etc/hosts":       {"10.9.9.9\tdb", web.Addr(t).String() + "\twww.example web", "127.0.0.1\tlocalhost"},
		"/etc/resolv.conf": {"nameserver 192.0.2.53", "search example", "options ndots:2"},
		"/etc/hostname":    {"www.example"},
	} {
		text := web.Run(t, "cat", path)
		for _, line := range want {
			if !strings.Contains(text, line) {
				t.Errorf("no %q in %s: %s", line, path, text)
			}
		}
		if out := l.Run(t, "h1", "ip", "netns", "exec", "web", "cat", path); out != text {
			t.Errorf("ip netns exec shows another %s: %s, want %s", path, out, text)
		}
	}
	if r := web.Do(t, "ping", "-n", "-c1", "-W2", "me"); r.Code != 0 {
		t.Errorf("the host is not reached at host-gateway: %+v", r)
	}
	// What runs already sees its networks come and go.
	sees := func() string {
		return l.Run(t, "h1", "sh", "-c", "cd /proc/$(ip netns pids web | head -n1)/root && cat etc/hosts")
	}
	l.Run(t, "h1", "ovlctl", "connect", "red", "web")
	red := web.Addrs(t, "eth1")[0].String()
	if out := sees(); !strings.Contains(out, red+"\twww.example web") || !strings.Contains(out, web.Addr(t).String()) {
		t.Errorf("after a connect: %s", out)
	}
	l.Run(t, "h1", "ovlctl", "disconnect", "blue", "web")
	if out := sees(); strings.Contains(out, "10.64.") || !strings.Contains(out, "10.9.9.9\tdb") || !strings.Contains(out, "\tme") {
		t.Errorf("after a disconnect: %s", out)
	}
	if r := web.Do(t, "ping", "-n", "-c1", "-W2", "me"); r.Code != 0 {
		t.Errorf("the host is not reached at host-gateway by the other network: %+v", r)
	}
	l.Run(t, "h1", "ovlctl", "rm", "-f", "web")
	if r := l.Do(t, "h1", "ls", "/etc/netns/web"); r.Code == 0 {
		t.Errorf("left: %s", r.Stdout)
	}
}
