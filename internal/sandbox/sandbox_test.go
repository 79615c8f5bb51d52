package sandbox

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/ovlnet/ovl/internal/lab/nsexec"
)

// enterCommand makes the test binary do what ovlctl exec does.
const enterCommand = "sandbox-test-enter"

func TestMain(m *testing.M) {
	switch {
	case len(os.Args) > 1 && os.Args[1] == InitCommand:
		Init(os.Args[2:])
		os.Exit(1)
	case len(os.Args) > 1 && os.Args[1] == enterCommand:
		enterAndExec(os.Args[2:])
	}
	nsexec.Main(m)
}

func enterAndExec(args []string) {
	s, err := (Paths{NetNS: args[0], Etc: args[1], State: args[2]}).Sandbox(args[3])
	if err == nil {
		err = s.Enter()
	}
	if err == nil {
		err = Exec(args[4:])
	}
	os.Stderr.WriteString(err.Error() + "\n")
	os.Exit(99)
}

// newSandbox makes a sandbox in directories of the test's own.
func newSandbox(t *testing.T, name string) Sandbox {
	t.Helper()
	s := nameSandbox(t, testPaths(t), name)
	if err := s.Create(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Stop(t.Context()); err != nil && !errors.Is(err, ErrMissing) {
			t.Error(err)
		}
		if err := s.Remove(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func testPaths(t *testing.T) Paths {
	t.Helper()
	dir := t.TempDir()
	p := Paths{NetNS: filepath.Join(dir, "netns"), Etc: filepath.Join(dir, "etc"), State: filepath.Join(dir, "state")}
	t.Cleanup(func() { _ = unix.Unmount(p.NetNS, unix.MNT_DETACH) })
	return p
}

func nameSandbox(t *testing.T, p Paths, name string) Sandbox {
	t.Helper()
	s, err := p.Sandbox(name)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// inside runs a command in the sandbox as ovlctl exec does.
func inside(t *testing.T, s Sandbox, argv ...string) string {
	t.Helper()
	cmd := exec.Command("/proc/self/exe", append([]string{enterCommand, s.paths.NetNS, s.paths.Etc, s.paths.State, s.Name}, argv...)...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("run %q in the sandbox: %v\n%s", argv, err, out)
	}
	return strings.TrimSpace(string(out))
}

func TestCreateGivesANamespaceOfItsOwnWithLoopback(t *testing.T) {
	s := newSandbox(t, "web")
	id, err := namespaceID(s.NetNS())
	if err != nil {
		t.Fatal(err)
	}
	own, err := namespaceID("/proc/self/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	if !isNamespace(s.NetNS()) || id == own {
		t.Fatalf("%s: want a network namespace other than ours", s.NetNS())
	}
	links := inside(t, s, "cat", "/proc/net/dev")
	if strings.Count(links, ":") != 1 || !strings.Contains(links, "lo:") {
		t.Errorf("want nothing but lo in the sandbox, got\n%s", links)
	}
	// The local table has 127.0.0.1 only while lo is up.
	if trie := inside(t, s, "cat", "/proc/net/fib_trie"); !strings.Contains(trie, "127.0.0.1") {
		t.Errorf("want lo up, got\n%s", trie)
	}
}

func TestTheThreadThatMadeTheNamespaceIsNotReused(t *testing.T) {
	own, err := namespaceID(threadNetNS)
	if err != nil {
		t.Fatal(err)
	}
	newSandbox(t, "web")
	for range 50 {
		done := make(chan nsID)
		go func() {
			id, _ := namespaceID(threadNetNS)
			done <- id
		}()
		if got := <-done; got != own {
			t.Fatalf("a goroutine runs in namespace %v, want %v", got, own)
		}
	}
}

func TestIPNetnsSeesIt(t *testing.T) {
	ip, err := exec.LookPath("ip")
	if err != nil {
		t.Skip("no ip(8) here")
	}
	s := nameSandbox(t, DefaultPaths(), "web") // the /run is the test's own
	s.paths.Etc = t.TempDir()
	if err := s.Create(); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command(ip, "netns", "exec", "web", "cat", "/proc/net/dev").CombinedOutput()
	if err != nil || !strings.Contains(string(out), "lo:") {
		t.Errorf("ip netns exec: %v\n%s", err, out)
	}
	if err := s.Remove(); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command(ip, "netns", "list").CombinedOutput(); err != nil || len(out) > 0 {
		t.Errorf("ip netns list after Remove: %v %q, want nothing", err, out)
	}
}

func TestCreateTwice(t *testing.T) {
	s := newSandbox(t, "web")
	if err := s.Create(); !errors.Is(err, ErrExists) {
		t.Fatalf("second Create: %v, want ErrExists", err)
	}
	if !isNamespace(s.NetNS()) {
		t.Error("the refused Create took the first one's namespace away")
	}
}

func TestCreateTakesNothingThatIsNotOurs(t *testing.T) {
	for name, prepare := range map[string]func(s Sandbox) error{
		"a namespace": func(s Sandbox) error {
			return errors.Join(os.MkdirAll(s.paths.NetNS, 0o755), os.WriteFile(s.NetNS(), nil, 0o600))
		},
		"files in etc": func(s Sandbox) error {
			return errors.Join(os.MkdirAll(s.etc(), 0o755),
				os.WriteFile(filepath.Join(s.etc(), "resolv.conf"), []byte("nameserver 192.0.2.1\n"), 0o600))
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := nameSandbox(t, testPaths(t), "web")
			if err := prepare(s); err != nil {
				t.Fatal(err)
			}
			if err := s.Create(); !errors.Is(err, ErrExists) {
				t.Errorf("Create: %v, want ErrExists", err)
			}
			if s.Exists() {
				t.Error("the refused Create left a sandbox behind")
			}
		})
	}
}

func TestRemoveLeavesNothing(t *testing.T) {
	p := testPaths(t)
	s := nameSandbox(t, p, "web")
	if err := s.Create(); err != nil {
		t.Fatal(err)
	}
	if err := s.WriteFiles(Files{Hostname: "web"}); err != nil {
		t.Fatal(err)
	}
	for range 2 { // the second finds nothing, which is success
		if err := s.Remove(); err != nil {
			t.Fatal(err)
		}
	}
	for _, dir := range []string{p.NetNS, p.Etc, p.State} {
		entries, err := os.ReadDir(dir)
		if err != nil || len(entries) > 0 {
			t.Errorf("%s after Remove: %v %v, want it empty", dir, entries, err)
		}
	}
}

func TestFilesOfALastBootAreTakenOver(t *testing.T) {
	s := nameSandbox(t, testPaths(t), "web")
	if err := s.WriteFiles(Files{Hostname: "web"}); err != nil { // no Create: /run is empty after a boot
		t.Fatal(err)
	}
	if err := s.Free(); err != nil {
		t.Errorf("Free: %v, want the name free", err)
	}
}

func TestInsideReadsItsOwnFiles(t *testing.T) {
	s := newSandbox(t, "web")
	err := s.WriteFiles(Files{
		Hostname: "web.example",
		Hosts:    []HostLine{{Addr: addr("10.64.3.2"), Names: []string{"web.example", "web"}}},
		Resolv:   Resolv{Servers: addrs("192.0.2.53"), Search: []string{"example"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	for file, want := range map[string]string{
		"/etc/hosts":                "10.64.3.2\tweb.example web",
		"/etc/resolv.conf":          "nameserver 192.0.2.53\nsearch example",
		"/proc/sys/kernel/hostname": "web.example",
	} {
		if _, err := os.Stat(file); err != nil {
			t.Logf("%s: this machine has none to bind over", file)
			continue
		}
		if got := inside(t, s, "cat", file); !strings.Contains(got, want) {
			t.Errorf("%s in the sandbox:\n%s\nwant it to contain %q", file, got, want)
		}
		if b, _ := os.ReadFile(file); strings.Contains(string(b), want) {
			t.Errorf("%s outside has the sandbox's text", file)
		}
	}
}

func TestInsideSysShowsItsOwnLinks(t *testing.T) {
	s := newSandbox(t, "web")
	if got := inside(t, s, "ls", "/sys/class/net"); got != "lo" {
		t.Errorf("/sys/class/net in the sandbox: %q, want lo alone", got)
	}
}

func TestEnterWhatIsNot(t *testing.T) {
	p := testPaths(t)
	s := nameSandbox(t, p, "nobody")
	done := make(chan error)
	go func() { done <- s.Enter() }() // its thread ends with it
	if err := <-done; !errors.Is(err, ErrMissing) {
		t.Errorf("Enter: %v, want ErrMissing", err)
	}
}

func TestExitCodes(t *testing.T) {
	for script, want := range map[string]int{"exit 0": 0, "exit 42": 42, "kill -TERM $$": 128 + 15} {
		t.Run(script, func(t *testing.T) {
			s := newSandbox(t, "web")
			p, err := s.Start([]string{"sh", "-c", script}, Stdio{}, false)
			if err != nil {
				t.Fatal(err)
			}
			code, err := p.Wait()
			if err != nil || code != want {
				t.Fatalf("Wait: %d, %v, want %d", code, err, want)
			}
			st, err := s.Status()
			if err != nil || st.Phase != Exited || st.ExitCode == nil || *st.ExitCode != want {
				t.Errorf("Status: %+v, %v, want it exited with %d", st, err, want)
			}
		})
	}
}

func TestStartOfNoCommandSaysSo(t *testing.T) {
	s := newSandbox(t, "web")
	if _, err := s.Start([]string{"no-such-command-anywhere"}, Stdio{}, false); !errors.Is(err, ErrNotFound) {
		t.Errorf("Start: %v, want ErrNotFound", err)
	}
	file := filepath.Join(t.TempDir(), "script")
	if err := os.WriteFile(file, []byte("#!/no/such/interpreter\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Start([]string{file}, Stdio{}, false); !errors.Is(err, ErrNotFound) {
		t.Errorf("Start of a script without interpreter: %v, want ErrNotFound", err)
	}
	if _, err := s.Start([]string{t.TempDir()}, Stdio{}, false); !errors.Is(err, ErrNotExecutable) {
		t.Errorf("Start of a directory: %v, want ErrNotExecutable", err)
	}
	if st, err := s.Status(); err != nil || st.Phase != Idle {
		t.Errorf("Status after refused starts: %+v, %v, want idle", st, err)
	}
}

// running starts a command that says when it is there and then stays.
func running(t *testing.T, s Sandbox, script string) *Process {
	t.Helper()
	r, w := io.Pipe()
	p, err := s.Start([]string{"sh", "-c", script}, Stdio{Out: w}, false)
	if err != nil {
		t.Fatal(err)
	}
	go func() { _, _ = p.Wait(); w.Close() }()
	if line, err := bufio.NewReader(r).ReadString('\n'); err != nil {
		t.Fatalf("read from the command: %q, %v", line, err)
	}
	return p
}

func TestStopKillsAllOfIt(t *testing.T) {
	s := newSandbox(t, "web")
	p := running(t, s, "sleep 1000 & setsid sleep 1000 & echo ready; wait")
	st, err := s.Status()
	if err != nil || st.Phase != Running || st.PID != p.PID() {
		t.Fatalf("Status: %+v, %v, want running as %d", st, err, p.PID())
	}
	pids, err := s.Processes()
	if err != nil || len(pids) < 2 || !slices.Contains(pids, p.PID()) || slices.Contains(pids, os.Getpid()) {
		t.Fatalf("Processes: %v, %v, want the command %d and its children, not us", pids, err, p.PID())
	}
	if err := s.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	if left, err := s.Processes(); err != nil || len(left) > 0 {
		t.Errorf("Processes after Stop: %v, %v, want none", left, err)
	}
}

func TestStopSparesASandboxBesideIt(t *testing.T) {
	p := testPaths(t)
	var both []Sandbox
	for _, name := range []string{"web", "db"} {
		s := nameSandbox(t, p, name)
		if err := s.Create(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = s.Stop(t.Context()); _ = s.Remove() })
		both = append(both, s)
	}
	keep := running(t, both[1], "echo ready; sleep 1000")
	if err := both[0].Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	if st, err := both[1].Status(); err != nil || st.Phase != Running || st.PID != keep.PID() {
		t.Errorf("Status of the other: %+v, %v, want it running", st, err)
	}
	if err := both[1].Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func TestAReusedPIDIsNotKilled(t *testing.T) {
	s := newSandbox(t, "web")
	bystander := exec.Command("sleep", "1000")
	if err := bystander.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = bystander.Process.Kill(); _ = bystander.Wait() }()
	start, err := startTime(bystander.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	// The sandbox had that PID in an earlier life of the number.
	if err := s.record(func(st *state) {
		st.Command, st.PID, st.Start = []string{"x"}, bystander.Process.Pid, start-1
	}); err != nil {
		t.Fatal(err)
	}
	if st, err := s.Status(); err != nil || st.Phase != Exited {
		t.Errorf("Status: %+v, %v, want exited", st, err)
	}
	if err := s.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := startTime(bystander.Process.Pid); err != nil {
		t.Errorf("the bystander is dead: %v", err)
	}
}

func TestDetachedWritesToItsLog(t *testing.T) {
	s := newSandbox(t, "web")
	p, err := s.Start([]string{"sh", "-c", "echo out; echo err >&2"}, Stdio{}, true)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.Wait(); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(s.LogPath())
	if err != nil || !bytes.Equal(b, []byte("out\nerr\n")) {
		t.Errorf("log: %q, %v", b, err)
	}
}

func TestStatusOfAVanishedNamespace(t *testing.T) {
	s := newSandbox(t, "web")
	if err := unix.Unmount(s.NetNS(), unix.MNT_DETACH); err != nil {
		t.Fatal(err)
	}
	if st, err := s.Status(); err != nil || st.Phase != Gone {
		t.Errorf("Status: %+v, %v, want gone", st, err)
	}
}

func TestListFindsOnlySandboxes(t *testing.T) {
	p := testPaths(t)
	for _, dir := range []string{"web", "db", "Not_A_Name"} {
		if err := os.MkdirAll(filepath.Join(p.State, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if names, err := p.List(); err != nil || !slices.Equal(names, []string{"db", "web"}) {
		t.Errorf("List: %v, %v", names, err)
	}
}

func TestNamesAreNoPaths(t *testing.T) {
	for _, name := range []string{"", ".", "..", "a/b", "../web", "Web", "a b", strings.Repeat("a", 64)} {
		if _, err := DefaultPaths().Sandbox(name); err == nil {
			t.Errorf("Sandbox(%q): want an error", name)
		}
	}
}
