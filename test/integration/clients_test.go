package integration

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/ovlnet/ovl/internal/lab"
	"github.com/ovlnet/ovl/internal/lab/labtest"
)

// TestRealClients uses the programs that people use: a web server that writes
// down who asks, curl, nc and iperf3.
func TestRealClients(t *testing.T) {
	t.Parallel()
	l := labtest.Up(t, lab.Config{Hosts: 2})
	l.Run(t, "h1", "ovlctl", "network", "create", "blue", "--subnet", "10.64.0.0/16", "--subnet", "fd64::/48")
	web := l.Sandbox(t, "h1", "web", "--network", "blue", "-p", "8080:80", "--", "sh", "-c",
		"mkdir -p /run/www && head -c 3000000 /dev/urandom > /run/www/big && exec python3 -u -m http.server --bind :: --directory /run/www 80")
	far := l.Sandbox(t, "h2", "far", "--network", "blue")
	near := l.Sandbox(t, "h1", "near", "--network", "blue")
	addrs := web.Addrs(t, "eth0")
	h1, outside := addressOf(t, l, "h1"), addressOf(t, l, lab.Outside)
	complete(t, []labtest.Container{web, far, near})

	t.Run("a web server behind a published port", func(t *testing.T) {
		get := "curl -sSf --retry 9 --retry-connrefused -m 20 http://%s/big | sha256sum"
		want := strings.Fields(web.Run(t, "sha256sum", "/run/www/big"))[0]
		for _, c := range []struct {
			client
			at   string
			seen string // by the server
		}{
			{onHost(l, lab.Outside), h1.String() + ":8080", outside.String()},
			{onHost(l, "h2"), h1.String() + ":8080", addressOf(t, l, "h2").String()},
			{onHost(l, "h1"), "127.0.0.1:8080", defaultGateway(t, web).String()},
			{within(near), h1.String() + ":8080", defaultGateway(t, web).String()},
			{within(far), "web", ""}, // by name, of either family
			{within(far), netip.AddrPortFrom(addrs[0], 80).String(), far.Addrs(t, "eth0")[0].String()},
			{within(far), netip.AddrPortFrom(addrs[1], 80).String(), far.Addrs(t, "eth0")[1].String()},
		} {
			r := c.do(t, "sh", "-c", fmt.Sprintf(get, c.at))
			if got := strings.Fields(r.Stdout); r.Code != 0 || len(got) == 0 || got[0] != want {
				t.Errorf("%s gets from http://%s: %+v, want the sum %s", c.who, c.at, r, want)
			}
			log := strings.Split(l.Run(t, "h1", "ovlctl", "logs", "web"), "\n")
			if last := log[len(log)-1]; c.seen != "" && !strings.HasPrefix(strings.TrimPrefix(last, "::ffff:"), c.seen+" ") {
				t.Errorf("%s asks http://%s, and the server writes %q, want it to be %s", c.who, c.at, last, c.seen)
			}
		}
	})
	t.Run("nc", func(t *testing.T) {
		for i, a := range addrs {
			for _, udp := range []bool{false, true} {
				saysHello(t, web, far, a, 7000+i, udp)
			}
		}
	})
	t.Run("iperf3", func(t *testing.T) {
		l.Sandbox(t, "h1", "meter", "--network", "container:web", "--", "iperf3", "-s")
		for _, a := range addrs {
			for _, more := range []string{"", "-R", "-P 4", "-u -b 20M", "-u -b 20M -R"} {
				measured(t, far, a, more)
			}
		}
	})
	atRest(t, l)
}

// saysHello sends a word from one container to nc in another, over TCP or UDP.
func saysHello(t *testing.T, to, from labtest.Container, addr netip.Addr, port int, udp bool) {
	t.Helper()
	listen, send, file := "nc -l", "nc -N -w 5", fmt.Sprintf("/run/hello-%d-%v", port, udp)
	if udp {
		listen, send = "nc -u -l", "nc -u -w 1"
	}
	word := fmt.Sprintf("hello by %s, UDP %v", addr, udp)
	// The listener says when it listens: its socket is in the kernel's table.
	to.Run(t, "sh", "-c", fmt.Sprintf("%s %s %d >%s 2>&1 </dev/null &", listen, addr, port, file))
	labtest.Until(t, fmt.Sprintf("nc listens at %s port %d", addr, port), func() error {
		if out := to.Run(t, "ss", "-Hlnut", "sport", fmt.Sprintf("= :%d", port)); !strings.Contains(out, "udp") && udp || !strings.Contains(out, "tcp") && !udp {
			return fmt.Errorf("sockets: %q", out)
		}
		return nil
	})
	from.Run(t, "sh", "-c", fmt.Sprintf("echo '%s' | %s %s %d", word, send, addr, port))
	labtest.Until(t, word+" arrives", func() error {
		if got := to.Run(t, "cat", file); got != word {
			return fmt.Errorf("%s has %q", to, got)
		}
		return nil
	})
}

// measured runs iperf3, and wants a good part to have arrived when it ends: the
// sender stops when it has handed over all, not when all is there.
func measured(t *testing.T, from labtest.Container, addr netip.Addr, more string) {
	t.Helper()
	size, want := "16M", 1<<20
	if strings.HasPrefix(more, "-u") {
		size, want = "1M", 1<<19 // UDP gives no promises
	}
	args := append([]string{"iperf3", "-J", "-c", addr.String()}, strings.Fields(more+" -n "+size)...)
	var r labtest.Result
	labtest.Until(t, "iperf3 answers", func() error {
		if r = from.Do(t, args...); strings.Contains(r.Stdout, "Connection refused") || strings.Contains(r.Stdout, "busy") {
			return errors.New("it does not listen yet, or ends with the one before")
		}
		return nil
	})
	type sum struct {
		Bytes int `json:"bytes"`
	}
	var said struct {
		Error string
		End   struct {
			Received sum `json:"sum_received"`
			Sum      sum `json:"sum"`
		}
	}
	if err := json.Unmarshal([]byte(r.Stdout), &said); err != nil {
		t.Fatalf("iperf3 %s: %v: %+v", more, err, r)
	}
	got := max(said.End.Received.Bytes, said.End.Sum.Bytes)
	if r.Code != 0 || said.Error != "" || got < want {
		t.Errorf("iperf3 from %s to %s %s: %d bytes arrived, want %d; error %q, exit code %d", from, addr, more, got, want, said.Error, r.Code)
	}
}

// TestBesideDocker has Docker's rules on a host: its chains first in FORWARD, and
// a policy of DROP.
func TestBesideDocker(t *testing.T) {
	t.Parallel()
	l := labtest.Up(t, lab.Config{Hosts: 2})
	for _, rule := range []string{
		"-N DOCKER-USER", "-N DOCKER-FORWARD", "-P FORWARD DROP", "-A FORWARD -j DOCKER-USER", "-A FORWARD -j DOCKER-FORWARD",
		"-A DOCKER-FORWARD -o docker0 -j ACCEPT", "-A DOCKER-FORWARD -j DROP", // more than Docker does
	} {
		l.Run(t, "h1", append([]string{"iptables"}, strings.Fields(rule)...)...)
	}
	l.Run(t, "h1", "ovlctl", "network", "create", "blue", "--subnet", "10.64.0.0/16")
	web := echo(t, l, "h1", "web", "blue", "8080:7777", "8080:7777/udp")
	far := l.Sandbox(t, "h2", "far", "--network", "blue")
	h1, outside := addressOf(t, l, "h1"), addressOf(t, l, lab.Outside)
	check := func() {
		t.Helper()
		complete(t, []labtest.Container{web, far})
		answered(t, []question{{onHost(l, lab.Outside), at(h1, 8080), outside}, {within(far), at(h1, 8080), addressOf(t, l, "h2")}})
		if got := ask(t, web, outside); got != h1 {
			t.Errorf("seen outside as %s, want %s", got, h1)
		}
	}
	check()
	// A Docker that starts again makes its chain anew, empty.
	l.Run(t, "h1", "sh", "-c", "iptables -F DOCKER-USER && iptables -A DOCKER-USER -j RETURN")
	labtest.Until(t, "h1 is at rest", func() error { return l.AtRest(t, "h1") })
	check()
}
