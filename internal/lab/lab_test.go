package lab

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

func TestHostsReachEachOtherAndOutsideSeesThem(t *testing.T) {
	t.Parallel()
	for _, ipv6 := range []bool{false, true} {
		c := Config{Hosts: 3, IPv6: ipv6, MTU: 1400, Bare: true}
		l := up(t, c)
		for _, from := range l.Members() {
			for _, to := range l.Hosts() {
				run(t, l, from, "ping", "-c1", "-W5", to.Name)
			}
			if got := run(t, l, from, "hostname"); got != from {
				t.Errorf("hostname on %s is %q", from, got)
			}
			if got := run(t, l, from, "cat", "/sys/class/net/eth0/mtu"); got != "1400" {
				t.Errorf("MTU on %s is %s, want 1400", from, got)
			}
		}
		if err := l.Down(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
}

func TestEachHostHasItsOwnDirectories(t *testing.T) {
	t.Parallel()
	l := up(t, Config{Hosts: 2, Bare: true})
	for _, dir := range []string{"/run", "/run/ovl", "/var/lib/ovl", "/var/log/ovl", "/etc/netns", "/etc"} {
		file := filepath.Join(dir, "lab-of-ovl")
		run(t, l, "h1", "touch", file)
		if _, err := l.Exec(t.Context(), "h2", "test", "-e", file); err == nil {
			t.Errorf("h2 sees %s of h1", file)
		}
		if _, err := os.Stat(file); err == nil {
			t.Errorf("this machine sees %s of h1", file)
		}
	}
	run(t, l, "h1", "ip", "netns", "add", "web")
	if got := run(t, l, "h2", "ip", "netns"); got != "" {
		t.Errorf("h2 sees namespace %q of h1", got)
	}
	run(t, l, "h1", "ip", "netns", "exec", "web", "ip", "link", "set", "lo", "up")
}

func TestExecPassesTheExitCodeOn(t *testing.T) {
	t.Parallel()
	l := up(t, Config{Hosts: 1, Bare: true})
	_, err := l.Exec(t.Context(), "h1", "sh", "-c", "echo why >&2; exit 7")
	if exit, ok := errors.AsType[*exec.ExitError](err); !ok || exit.ExitCode() != 7 {
		t.Errorf("exit of a command: %v, want code 7", err)
	}
	if err == nil || !strings.Contains(err.Error(), "why") {
		t.Errorf("error %v, want what the command wrote to stderr", err)
	}
	if _, err := l.Exec(t.Context(), "h2", "true"); !errors.Is(err, ErrNotFound) {
		t.Errorf("exec on a host that is not there: %v, want %v", err, ErrNotFound)
	}
}

func TestCutAndMend(t *testing.T) {
	t.Parallel()
	for _, ipv6 := range []bool{false, true} {
		l := up(t, Config{Hosts: 2, IPv6: ipv6, Bare: true})
		// A ping that shall arrive is tried again for a while: one that failed
		// during the cut leaves a neighbour entry that fails for some seconds.
		reaches := func(from, to string, patience string) bool {
			_, err := l.Exec(t.Context(), from, "ping", "-c1", patience, to)
			return err == nil
		}
		check := func(when string, want map[string]bool) {
			t.Helper()
			var all sync.WaitGroup
			for to, want := range want {
				for _, pair := range [][2]string{{"h1", to}, {to, "h1"}} {
					all.Go(func() {
						patience := "-W1"
						if want {
							patience = "-w10"
						}
						if got := reaches(pair[0], pair[1], patience); got != want {
							t.Errorf("%s: %s reaches %s: %v, want %v", when, pair[0], pair[1], got, want)
						}
					})
				}
			}
			all.Wait()
		}
		must(t, l.Cut(t.Context(), "h1", false))
		check("cut", map[string]bool{"h2": false, Control: false})
		must(t, l.Mend(t.Context(), "h1", false))
		check("mended", map[string]bool{"h2": true, Control: true})
		must(t, l.Cut(t.Context(), "h1", true))
		check("cut from etcd", map[string]bool{"h2": true, Control: false})
		must(t, l.Mend(t.Context(), "h1", true))
		check("mended with etcd", map[string]bool{"h2": true, Control: true})
		must(t, l.Down(t.Context()))
	}
}

func TestDaemonsStartStopAndDie(t *testing.T) {
	t.Parallel()
	l := up(t, Config{Hosts: 2})
	pid := run(t, l, "h1", "cat", "/run/ovl/agent.pid")
	run(t, l, "h1", "kill", "-0", pid)
	if got := runs(t, l); got != "control:controller outside: h1:agent h2:agent" {
		t.Errorf("runs %s", got)
	}
	must(t, l.Kill(t.Context(), "h1", ""))
	must(t, l.Stop(t.Context(), Control, Etcd))
	if got := runs(t, l); got != "control: outside: h1: h2:agent" {
		t.Errorf("after stopping two: runs %s", got)
	}
	must(t, l.Start(t.Context(), Control, ""))
	must(t, l.Stop(t.Context(), "h2", Agent))
	must(t, l.Start(t.Context(), "h2", Agent))
	if err := l.Start(t.Context(), "h1", Controller); err == nil {
		t.Error("a controller starts on h1")
	}
	if err := l.Stop(t.Context(), Outside, ""); err == nil {
		t.Error("something stops on outside, where nothing runs")
	}
}

func TestStartSaysWhyADaemonEnded(t *testing.T) {
	t.Parallel()
	l := up(t, Config{Hosts: 1})
	must(t, l.Kill(t.Context(), "h1", Agent))
	run(t, l, "h1", "rm", "-r", "/run/ovl")
	run(t, l, "h1", "mkdir", "-p", "/run/ovl/agent.sock/in-the-way")
	err := l.Start(t.Context(), "h1", Agent)
	if err == nil || !strings.Contains(err.Error(), "exit code 1") || !strings.Contains(err.Error(), "agent.sock") {
		t.Errorf("start an agent that cannot listen: %v, want its exit code and its own words", err)
	}
}

func TestOrphansAreReaped(t *testing.T) {
	t.Parallel()
	l := up(t, Config{Hosts: 1, Bare: true})
	// The shell ends before its child, which the keeper inherits.
	pid := run(t, l, "h1", "sh", "-c", "sleep 0 >/dev/null 2>&1 & echo $!")
	poll(t, "the keeper reaps an orphan", func() bool {
		_, err := l.Exec(t.Context(), "h1", "test", "-e", "/proc/"+pid)
		return err != nil
	})
}

func run(t *testing.T, l *Lab, host string, args ...string) string {
	t.Helper()
	out, err := l.Exec(t.Context(), host, args...)
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(out)
}

func runs(t *testing.T, l *Lab) string {
	t.Helper()
	status, err := l.Status(t.Context())
	must(t, err)
	var all []string
	for _, h := range status {
		all = append(all, h.Name+":"+strings.Join(h.Runs, ","))
	}
	return strings.Join(all, " ")
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestSteadyHostsHaveTheSameIDsInEveryLab(t *testing.T) {
	t.Parallel()
	var ids []string
	for range 2 {
		l := up(t, Config{Hosts: 2, Bare: true, Steady: true})
		for _, host := range l.Members() {
			ids = append(ids, run(t, l, host, "cat", "/var/lib/ovl/host-id"))
		}
	}
	if ids[0] != ids[2] || ids[1] != ids[3] || ids[0] == ids[1] {
		t.Errorf("the IDs of h1 and h2 in two labs are %v", ids)
	}
}
