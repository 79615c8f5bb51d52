package sandbox

import (
	"net/netip"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// joined makes a sandbox in the network namespace at netns, with its files.
func joined(t *testing.T, p Paths, name string, mode Mode, netns string) Sandbox {
	t.Helper()
	s := nameSandbox(t, p, name)
	if err := s.Join(mode, netns); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Stop(t.Context()); _ = s.Remove() })
	if err := s.WriteFiles(Files{Hostname: name}); err != nil {
		t.Fatal(err)
	}
	return s
}

func TestJoinSharesTheNamespaceAndNothingElse(t *testing.T) {
	p := testPaths(t)
	web := nameSandbox(t, p, "web")
	if err := web.Create(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = web.Stop(t.Context()); _ = web.Remove() })
	side := joined(t, p, "side", ContainerMode("web"), web.NetNS())
	a, _ := namespaceID(web.NetNS())
	if b, err := namespaceID(side.NetNS()); err != nil || a != b {
		t.Fatalf("namespace %v, %v, want %v", b, err, a)
	}
	if out := inside(t, side, "hostname"); out != "side" {
		t.Errorf("hostname %s", out)
	}
	if sharing, err := web.Sharing(); err != nil || !slices.Equal(sharing, []string{"side"}) {
		t.Errorf("sharing: %v, %v", sharing, err)
	}
	if st, err := side.Status(); err != nil || st.Mode != "container:web" || st.Phase != Idle {
		t.Errorf("status %+v, %v", st, err)
	}
	keep := running(t, side, "sleep 1000 & echo ready; wait")
	own := running(t, web, "echo ready; exec sleep 1000")
	if pids, err := web.Processes(); err != nil || !slices.Equal(pids, []int{own.PID()}) {
		t.Errorf("processes of web: %v, %v, want %d", pids, err, own.PID())
	}
	if pids, err := side.Processes(); err != nil || len(pids) != 2 || !slices.Contains(pids, keep.PID()) {
		t.Errorf("processes of side: %v, %v, want %d and its child", pids, err, keep.PID())
	}
	// The namespace outlives the one that made it.
	if err := web.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := web.Remove(); err != nil {
		t.Fatal(err)
	}
	if st, err := side.Status(); err != nil || st.Phase != Running || inside(t, side, "hostname") != "side" {
		t.Errorf("after the other was removed: %+v, %v", st, err)
	}
}

// In the host's network namespace everything else runs too, in mount namespaces
// of all kinds: none of it may be taken for the sandbox's.
func TestOnTheHostsNetworkOnlyItsOwnIsKilled(t *testing.T) {
	p := testPaths(t)
	s := joined(t, p, "web", HostMode, HostNetNS)
	bystander := exec.Command("unshare", "-m", "sh", "-c", "echo ready; exec sleep 1000")
	out, err := bystander.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := bystander.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = bystander.Process.Kill(); _ = bystander.Wait() }()
	if _, err := out.Read(make([]byte, 16)); err != nil {
		t.Fatal(err)
	}
	main := running(t, s, "setsid sleep 1000 & echo ready; wait")
	if pids, err := s.Processes(); err != nil || len(pids) != 2 || !slices.Contains(pids, main.PID()) {
		t.Fatalf("processes: %v, %v, want %d and its child", pids, err, main.PID())
	}
	if err := s.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := startTime(bystander.Process.Pid); err != nil {
		t.Errorf("a process beside the sandbox was killed: %v", err)
	}
	if err := s.Remove(); err != nil || isNamespace(s.NetNS()) || !isNamespace(HostNetNS) {
		t.Errorf("Remove: %v", err)
	}
}

func TestJoinOfNothing(t *testing.T) {
	p := testPaths(t)
	s := nameSandbox(t, p, "side")
	if err := s.Join(ContainerMode("web"), filepath.Join(p.NetNS, "web")); err == nil || s.Exists() {
		t.Errorf("joined nothing: %v", err)
	}
}

// What runs sees its files change, and the wish for them is kept.
func TestUpdateFiles(t *testing.T) {
	s := newSandbox(t, "web")
	w := Wish{
		Hostname: "www", Hosts: []HostLine{{Names: []string{"me"}}, {Addr: netip.MustParseAddr("10.9.9.9"), Names: []string{"db"}}},
		Servers: []netip.Addr{netip.MustParseAddr("fd64::1")}, Search: []string{"a"}, Options: []string{"ndots:2"},
	}
	if err := s.Keep(w); err != nil {
		t.Fatal(err)
	}
	if mode, got, err := s.Kept(); err != nil || mode != "" || got.Hosts[0].Addr.IsValid() || got.Hosts[1].Addr != w.Hosts[1].Addr || got.Servers[0] != w.Servers[0] {
		t.Errorf("kept %q %+v, %v", mode, got, err)
	}
	long := Files{Hostname: "www", Hosts: []HostLine{{Addr: netip.MustParseAddr("10.64.0.2"), Names: []string{"www", "web", "with", "many", "names"}}}}
	if err := s.WriteFiles(long); err != nil {
		t.Fatal(err)
	}
	p := running(t, s, "echo ready; sleep 1000")
	long.Hosts[0] = HostLine{Addr: netip.MustParseAddr("10.65.0.2"), Names: []string{"www"}}
	if err := s.UpdateFiles(long); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command("nsenter", "-m", "-t", strconv.Itoa(p.PID()), "cat", "/etc/hosts").CombinedOutput()
	if err != nil || !strings.HasSuffix(string(out), "\n10.65.0.2\twww\n") || strings.Contains(string(out), "10.64") {
		t.Errorf("what runs sees %s, %v", out, err)
	}
}
