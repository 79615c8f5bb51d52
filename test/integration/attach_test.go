package integration

import (
	"fmt"
	"io"
	"net/netip"
	"os/exec"
	"strconv"
	"strings"
	"testing"

	"github.com/ovlnet/ovl/internal/lab"
	"github.com/ovlnet/ovl/internal/lab/labtest"
)

// inside runs a command in a named namespace of a host as `ip netns exec` does.
func inside(t *testing.T, l *labtest.Lab, host, netns string, args ...string) labtest.Result {
	t.Helper()
	return l.Do(t, host, append([]string{"ip", "netns", "exec", netns}, args...)...)
}

// answers reports whether a ping from a named namespace is answered.
func answers(t *testing.T, l *labtest.Lab, host, netns, to string) error {
	t.Helper()
	if r := inside(t, l, host, netns, "ping", "-n", "-c1", "-W2", to); r.Code != 0 {
		return fmt.Errorf("%s on %s does not reach %s: %s%s", netns, host, to, r.Stdout, r.Stderr)
	}
	return nil
}

// attachment is what `ovlctl attach -o json` says that these tests ask.
type attachment struct {
	Interfaces []struct {
		Network, Name, Mac string
		Addresses          []netip.Prefix
	}
}

// TestAttach puts a namespace that ovl has not made on networks, and off them.
func TestAttach(t *testing.T) {
	t.Parallel()
	l := labtest.Up(t, lab.Config{Hosts: 2})
	l.Run(t, "h1", "ovlctl", "network", "create", "blue", "--subnet", "10.64.0.0/16")
	l.Run(t, "h1", "ovlctl", "network", "create", "red", "--subnet", "10.65.0.0/16")
	db := l.Sandbox(t, "h2", "db", "--network", "blue", "--network", "red")
	l.Run(t, "h1", "ip", "netns", "add", "fw")
	l.Run(t, "h1", "mkdir", "-p", "/etc/netns/fw")
	before := l.DumpNamespace(t, "h1", "fw")

	attach := []string{
		"ovlctl", "attach", "--netns", "fw", "--name", "web", "--network", "blue", "--alias", "www",
		"-p", "8080:80", "--label", "a=b", "--resolv-conf", "/etc/netns/fw/resolv.conf",
	}
	var a attachment
	l.JSON(t, &a, "h1", append(attach, "-o", "json")...)
	if len(a.Interfaces) != 1 || a.Interfaces[0].Name != "eth0" || len(a.Interfaces[0].Addresses) != 1 {
		t.Fatalf("attached: %+v", a)
	}
	addr := a.Interfaces[0].Addresses[0].Addr()
	t.Run("it reaches others, and they it, by address and by name", func(t *testing.T) {
		for _, to := range []string{db.Addr(t).String(), "db", "db.blue"} {
			labtest.Until(t, "fw reaches "+to, func() error { return answers(t, l, "h1", "fw", to) })
		}
		for _, to := range []string{addr.String(), "web", "www"} {
			labtest.Until(t, "db reaches "+to, func() error {
				if r := db.Do(t, "ping", "-n", "-c1", "-W2", to); r.Code != 0 {
					return fmt.Errorf("%s%s", r.Stdout, r.Stderr)
				}
				return nil
			})
		}
	})
	t.Run("its port is published", func(t *testing.T) {
		serve(t, l, "h1", "fw", "80", "hello")
		labtest.Until(t, "the port answers", func() error {
			if got := l.Do(t, "h2", "curl", "-s", "-m5", "http://h1:8080/"); got.Stdout != "hello" {
				return fmt.Errorf("%+v", got)
			}
			return nil
		})
	})
	t.Run("again it is the same, otherwise it is refused", func(t *testing.T) {
		var again attachment
		l.JSON(t, &again, "h1", append(attach, "-o", "json")...)
		if fmt.Sprint(again) != fmt.Sprint(a) {
			t.Errorf("again: %+v, want %+v", again, a)
		}
		refused(t, l.Do(t, "h1", append(attach, "--alias", "other")...), conflict, "detach that first")
		refused(t, l.Do(t, "h1", "ovlctl", "attach", "--netns", "fw", "--name", "two", "--network", "blue", "--interface", "eth0"), conflict, "in use by container web")
	})
	t.Run("ps and whois know it, and rm does not touch it", func(t *testing.T) {
		for _, args := range [][]string{{"ps", "-o", "wide"}, {"whois", addr.String()}, {"whois", "web"}, {"endpoint", "inspect", "web"}} {
			if out := l.Run(t, "h1", append([]string{"ovlctl"}, args...)...); !strings.Contains(out, "web") {
				t.Errorf("ovlctl %v does not tell of web: %s", args, out)
			}
		}
		refused(t, l.Do(t, "h1", "ovlctl", "rm", "-f", "web"), conflict, "ovlctl detach")
		refused(t, l.Do(t, "h1", "ovlctl", "run", "--name", "web", "--network", "blue"), conflict, "in use")
	})
	t.Run("more networks come and go", func(t *testing.T) {
		l.Run(t, "h1", "ovlctl", "connect", "red", "web")
		labtest.Until(t, "it reaches db on red", func() error { return answers(t, l, "h1", "fw", db.Addrs(t, "eth1")[0].String()) })
		l.Run(t, "h1", "ovlctl", "disconnect", "red", "web")
	})
	t.Run("the agent may be killed", func(t *testing.T) {
		if err := l.Kill(t.Context(), "h1", "agent"); err != nil {
			t.Fatal(err)
		}
		refused(t, l.Do(t, "h1", attach...), 6, "is ovl-agent running?")
		if err := l.Start(t.Context(), "h1", "agent"); err != nil {
			t.Fatal(err)
		}
		l.Run(t, "h1", attach...)
		if err := answers(t, l, "h1", "fw", "db"); err != nil {
			t.Error(err)
		}
	})
	t.Run("detached it is as it was", func(t *testing.T) {
		l.Run(t, "h1", "ovlctl", "detach", "web")
		if d := labtest.Difference(before, l.DumpNamespace(t, "h1", "fw")); d != "" {
			t.Error(d)
		}
		refused(t, l.Do(t, "h1", "ovlctl", "detach", "web"), 3, "there is no such container")
		l.Run(t, "h1", "ip", "netns", "delete", "fw")
		l.Run(t, "h2", "ovlctl", "rm", "-f", "db")
		gone(t, l, "h1", "web")
	})
}

// serve answers HTTP on a port within a named namespace until the test ends.
func serve(t *testing.T, l *labtest.Lab, host, netns, port, text string) {
	t.Helper()
	script := "while true; do printf 'HTTP/1.0 200 OK\\r\\n\\r\\n%s' " + text + " | nc -l -N -p " + port + "; done"
	l.StartDaemon(t, host, "http", "ip", "netns", "exec", netns, "sh", "-c", script)
}

// neighbour is a process in a namespace of its own on a host.
type neighbour struct {
	pid int
	cmd *exec.Cmd
	in  io.WriteCloser
}

// startNeighbour starts one; script is run before it waits for its input to end.
func startNeighbour(t *testing.T, l *labtest.Lab, host, script string) *neighbour {
	t.Helper()
	cmd, err := l.Command(t.Context(), host, "unshare", "-n", "sh", "-c", script)
	if err != nil {
		t.Fatal(err)
	}
	n := &neighbour{cmd: cmd}
	if n.in, err = cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(n.end)
	if _, err := fmt.Fscan(out, &n.pid); err != nil {
		t.Fatalf("start a process on %s: %v", host, err)
	}
	return n
}

func (n *neighbour) end() {
	_ = n.in.Close()
	_ = n.cmd.Wait()
}

// TestAttachAProcess: a namespace named by a process is attached as long as that
// process is the one that was meant.
func TestAttachAProcess(t *testing.T) {
	t.Parallel()
	l := labtest.Up(t, lab.Config{Hosts: 1})
	l.Run(t, "h1", "ovlctl", "network", "create", "blue", "--subnet", "10.64.0.0/16")
	first := startNeighbour(t, l, "h1", "echo $$; exec cat")
	pid := strconv.Itoa(first.pid)
	attach := []string{"ovlctl", "attach", "--pid", pid, "--name", "web", "--network", "blue"}
	l.Run(t, "h1", attach...)
	l.Run(t, "h1", "nsenter", "-t", pid, "-n", "sh", "-c", "ping -n -c1 -W2 $(ip route show default | cut -d' ' -f3)")
	first.end()
	gone(t, l, "h1", "web")
	refused(t, l.Do(t, "h1", attach...), 3, "there is no such network namespace")

	t.Run("a later process of that number gets nothing of it", func(t *testing.T) {
		second := startNeighbour(t, l, "h1", "echo $$; exec cat")
		pid := strconv.Itoa(second.pid)
		l.Run(t, "h1", "ovlctl", "attach", "--pid", pid, "--name", "web", "--network", "blue")
		if err := l.Kill(t.Context(), "h1", "agent"); err != nil {
			t.Fatal(err)
		}
		second.end()
		var third *neighbour
		labtest.Until(t, "the number is another's", func() error {
			n := startNeighbour(t, l, "h1", "exec 3<&0; echo "+strconv.Itoa(second.pid-1)+" >/proc/sys/kernel/ns_last_pid; cat <&3 & echo $!; wait")
			if n.pid != second.pid {
				n.end()
				return fmt.Errorf("it is %d's", n.pid)
			}
			third = n
			return nil
		})
		if err := l.Start(t.Context(), "h1", "agent"); err != nil {
			t.Fatal(err)
		}
		gone(t, l, "h1", "web")
		if out := l.Run(t, "h1", "nsenter", "-t", pid, "-n", "ip", "-br", "link"); strings.Contains(out, "eth0") || !strings.HasPrefix(out, "lo") {
			t.Errorf("the later process has\n%s", out)
		}
		l.Run(t, "h1", "ovlctl", "attach", "--pid", pid, "--name", "web", "--network", "blue")
		if out := l.Run(t, "h1", "nsenter", "-t", pid, "-n", "ip", "-br", "link"); !strings.Contains(out, "eth0") {
			t.Errorf("attached itself it has\n%s", out)
		}
		third.end()
		gone(t, l, "h1", "web")
	})
}

// TestAttachRefuses asks for what cannot be, and finds nothing left of it.
func TestAttachRefuses(t *testing.T) {
	t.Parallel()
	l := labtest.Up(t, lab.Config{Hosts: 2})
	l.Run(t, "h1", "ovlctl", "network", "create", "blue", "--subnet", "10.64.0.0/16")
	taken := l.Sandbox(t, "h2", "taken", "--network", "blue")
	l.Run(t, "h1", "sh", "-c", "ip netns add fw; ip netns add full; ip netns add other; touch /run/file; ip -n full link add eth0 type veth peer name eth1")
	l.Run(t, "h1", "ovlctl", "attach", "--netns", "other", "--name", "other", "--network", "blue", "-p", "80:80")
	before, host := l.DumpNamespace(t, "h1", "fw"), l.Dump(t, "h1")
	for _, c := range []struct {
		args string
		code int
		says string
	}{
		{"--netns nowhere --network blue", 3, "there is no such network namespace"},
		{"--pid 4194305 --network blue", 3, "there is no such network namespace"},
		{"--netns /run/file --network blue", conflict, "no network namespace is there"},
		{"--netns /run --network blue", conflict, "no network namespace is there"},
		{"--netns /proc/1/ns/mnt --network blue", conflict, "no network namespace is there"},
		{"--netns fw --network green", 3, "there is no network green"},
		{"--netns fw --network blue --name other", conflict, "in use"},
		{"--netns fw --network blue -p 80:80", conflict, "other"},
		{"--netns fw --network blue --ip 10.99.0.1", 2, "10.99.0.1"},
		{"--netns fw --network blue --ip " + taken.Addr(t).String(), conflict, "host h2 holds the subnet"},
		{"--netns fw --network blue --interface lo", 2, "reserved"},
		{"--netns fw --network blue,interface=a/b", 2, "a/b"},
		{"--netns full --network blue", conflict, "eth0"},
		{"--netns fw --network blue --resolv-conf /etc/resolv.conf", 1, "not of ovl's making"},
		{"--netns fw --network blue --resolv-conf /nowhere/resolv.conf", 1, "/nowhere"},
	} {
		refused(t, l.Do(t, "h1", append([]string{"ovlctl", "attach", "--name", "web"}, strings.Fields(c.args)...)...), c.code, c.says)
	}
	own := l.Run(t, "h1", "sh", "-c", "cat /run/ovl/agent.pid")
	refused(t, l.Do(t, "h1", "ovlctl", "attach", "--pid", own, "--name", "web", "--network", "blue"), conflict, "it is the host's own")
	for _, d := range []string{labtest.Difference(before, l.DumpNamespace(t, "h1", "fw")), labtest.Difference(host, l.Dump(t, "h1"))} {
		if d != "" {
			t.Error(d)
		}
	}
	if out := l.Run(t, "h1", "ovlctl", "ps", "-o", "name"); out != "other" {
		t.Errorf("attached: %s", out)
	}
}

// TestAttachOutlivesItsNamespace: a name that is given anew, as at a boot, is
// attached as before; one that is not is forgotten.
func TestAttachOutlivesItsNamespace(t *testing.T) {
	t.Parallel()
	l := labtest.Up(t, lab.Config{Hosts: 1})
	l.Run(t, "h1", "ovlctl", "network", "create", "blue", "--subnet", "10.64.0.0/16")
	l.Run(t, "h1", "ip", "netns", "add", "fw")
	attach := []string{"ovlctl", "attach", "--netns", "fw", "--name", "web", "--network", "blue"}
	l.Run(t, "h1", attach...)
	addr := l.Run(t, "h1", "ip", "-n", "fw", "-br", "-4", "address", "show", "dev", "eth0")
	if err := l.Kill(t.Context(), "h1", "agent"); err != nil {
		t.Fatal(err)
	}
	l.Run(t, "h1", "sh", "-c", "ip netns delete fw; ip netns add fw")
	if err := l.Start(t.Context(), "h1", "agent"); err != nil {
		t.Fatal(err)
	}
	l.Run(t, "h1", attach...)
	if got := l.Run(t, "h1", "ip", "-n", "fw", "-br", "-4", "address", "show", "dev", "eth0"); strings.Fields(got)[2] != strings.Fields(addr)[2] {
		t.Errorf("it has %s, and had %s", got, addr)
	}
	l.Run(t, "h1", "ip", "netns", "delete", "fw")
	gone(t, l, "h1", "web")
}
