package integration

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/ovlnet/ovl/internal/lab"
	"github.com/ovlnet/ovl/internal/lab/labtest"
)

// link is what `ip -j link` says that these tests ask.
type link struct {
	Name  string `json:"ifname"`
	Alias string `json:"ifalias"`
}

// ourLinks returns the links of a host that carry ovl's mark.
func ourLinks(t *testing.T, l *labtest.Lab, host string) []string {
	t.Helper()
	var links []link
	l.JSON(t, &links, host, "ip", "-j", "-d", "link")
	var names []string
	for _, l := range links {
		if strings.HasPrefix(l.Alias, "ovl/") {
			names = append(names, l.Name)
		}
	}
	return names
}

func TestLifeOfASandbox(t *testing.T) {
	t.Parallel()
	l := labtest.Up(t, lab.Config{Hosts: 1})
	l.Run(t, "h1", "ovlctl", "network", "create", "blue", "--subnet", "10.64.0.0/16")

	t.Run("a command in the foreground passes its exit code on", func(t *testing.T) {
		r := l.Do(t, "h1", "ovlctl", "run", "--name", "once", "--network", "blue", "--", "sh", "-c", "echo out; echo err >&2; exit 7")
		if r.Code != 7 || r.Stdout != "out\n" || !strings.Contains(r.Stderr, "err") {
			t.Errorf("run ended with %+v, want code 7 and both streams", r)
		}
		l.Do(t, "h1", "ovlctl", "rm", "-f", "once") // it may have gone by itself
	})
	web := l.Sandbox(t, "h1", "web", "--network", "blue", "--hostname", "www", "--add-host", "db:10.9.9.9")
	t.Run("it has what was asked for", func(t *testing.T) {
		if got := web.Addr(t).String(); !strings.HasPrefix(got, "10.64.") {
			t.Errorf("address %s, want one of 10.64.0.0/16", got)
		}
		if got := web.Run(t, "hostname"); got != "www" {
			t.Errorf("hostname %s, want www", got)
		}
		hosts := web.Run(t, "cat", "/etc/hosts")
		for _, want := range []string{"10.9.9.9", web.Addr(t).String()} {
			if !strings.Contains(hosts, want) {
				t.Errorf("/etc/hosts has no %s: %s", want, hosts)
			}
		}
	})
	t.Run("its namespace is an ordinary named one", func(t *testing.T) {
		out := l.Run(t, "h1", "ip", "netns", "exec", "web", "ip", "-o", "-4", "address", "show", "dev", "eth0")
		if !strings.Contains(out, web.Addr(t).String()) {
			t.Errorf("ip netns exec shows %s, want %s", out, web.Addr(t))
		}
	})
	t.Run("exec passes the exit code on", func(t *testing.T) {
		if r := web.Do(t, "sh", "-c", "exit 9"); r.Code != 9 {
			t.Errorf("exec ended with %+v, want code 9", r)
		}
	})
	t.Run("ps and whois know it", func(t *testing.T) {
		for _, args := range [][]string{{"ps"}, {"whois", web.Addr(t).String()}, {"whois", "web"}, {"endpoint", "inspect", "web"}} {
			if out := l.Run(t, "h1", append([]string{"ovlctl"}, args...)...); !strings.Contains(out, "web") {
				t.Errorf("ovlctl %v does not tell of web: %s", args, out)
			}
		}
	})
	t.Run("its name is taken", func(t *testing.T) {
		if r := l.Do(t, "h1", "ovlctl", "run", "-d", "--name", "web", "--network", "blue", "--hostname", "other"); r.Code != 4 {
			t.Errorf("a second web: %+v, want code 4", r)
		}
	})
	t.Run("an address of the host's subnet can be had", func(t *testing.T) {
		want := web.Addr(t).Next().Next()
		fixed := l.Sandbox(t, "h1", "fixed", "--network", "blue", "--ip", want.String())
		if got := fixed.Addr(t); got != want {
			t.Errorf("address %s, want %s", got, want)
		}
		if r := l.Do(t, "h1", "ovlctl", "run", "-d", "--name", "second", "--network", "blue", "--ip", want.String()); r.Code != conflict {
			t.Errorf("the same address again: %+v, want code %d", r, conflict)
		}
		l.Run(t, "h1", "ovlctl", "rm", "-f", "fixed")
	})
	t.Run("rm leaves nothing of it", func(t *testing.T) {
		l.Run(t, "h1", "ovlctl", "rm", "-f", "web")
		gone(t, l, "h1", "web")
		if r := web.Do(t, "true"); r.Code != 3 {
			t.Errorf("exec in a sandbox that is gone: %+v, want code 3", r)
		}
	})
}

// gone waits until nothing is left of the only sandbox of a host: its
// namespace, its veth, its endpoint in the cluster.
func gone(t *testing.T, l *labtest.Lab, host, name string) {
	t.Helper()
	labtest.Until(t, name+" is gone", func() error {
		if out := l.Run(t, host, "ip", "netns"); out != "" {
			return fmt.Errorf("namespaces: %s", out)
		}
		veths := slices.DeleteFunc(ourLinks(t, l, host), func(n string) bool { return !strings.HasPrefix(n, "ove") })
		if len(veths) > 0 {
			return fmt.Errorf("links: %v", veths)
		}
		if out := l.Run(t, host, "ovlctl", "endpoint", "ls", "-o", "name"); out != "" {
			return fmt.Errorf("endpoints: %s", out)
		}
		return l.AtRest(t, host)
	})
}

func TestASandboxWhoseNamespaceVanishedIsCleanedUp(t *testing.T) {
	t.Parallel()
	l := labtest.Up(t, lab.Config{Hosts: 1})
	l.Run(t, "h1", "ovlctl", "network", "create", "blue", "--subnet", "10.64.0.0/16")
	l.Sandbox(t, "h1", "web", "--network", "blue", "--", "sleep", "1000")
	l.Run(t, "h1", "sh", "-c", "ip netns pids web | xargs -r kill -9")
	l.Do(t, "h1", "ip", "netns", "delete", "web") // the agent may be quicker
	gone(t, l, "h1", "web")
	l.Do(t, "h1", "ovlctl", "rm", "-f", "web") // what the sandbox's own files are
	l.Sandbox(t, "h1", "web", "--network", "blue")
}

func TestAHostTakesASecondSubnetWhenTheFirstIsFull(t *testing.T) {
	t.Parallel()
	l := labtest.Up(t, lab.Config{Hosts: 2})
	// A /29 has eight addresses: the network's, the gateway, the broadcast
	// address, and five for containers.
	l.Run(t, "h1", "ovlctl", "network", "create", "small", "--subnet", "10.66.0.0/24", "--host-prefix", "29")
	far := l.Sandbox(t, "h2", "far", "--network", "small")
	near := []labtest.Container{far}
	seen := map[netip.Addr]bool{}
	for i := range 7 {
		c := l.Sandbox(t, "h1", fmt.Sprintf("s%d", i), "--network", "small")
		near = append(near, c)
		seen[c.Addr(t)] = true
	}
	if len(seen) != 7 {
		t.Errorf("seven sandboxes have the addresses %v", seen)
	}
	subnets := strings.Fields(l.Run(t, "h2", "ovlctl", "subnet", "ls", "--network", "small", "--host", "h1", "-o", "name"))
	if len(subnets) != 2 {
		t.Errorf("h1 holds %v, want two subnets", subnets)
	}
	complete(t, near)
	atRest(t, l)
}
