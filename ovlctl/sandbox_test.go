package main

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// nothingLeft fails if a sandbox or a part of one is there.
func (w *world) nothingLeft() {
	w.t.Helper()
	for _, dir := range []string{w.paths.NetNS, w.paths.Etc, w.paths.State} {
		entries, err := os.ReadDir(dir)
		if err == nil && len(entries) > 0 {
			w.t.Errorf("%s is left in %s", entries[0].Name(), filepath.Base(dir))
		}
	}
	if n := len(w.agent.attached); n > 0 {
		w.t.Errorf("%d attachments are left", n)
	}
}

func TestRunForegroundPassesTheExitCodeOn(t *testing.T) {
	w := newWorld(t)
	w.want(7, "hello\n", "", "run", "--name", "web", "--network", "blue", "--", "sh", "-c", "echo hello; exit 7")
	w.run("ps")
	if !strings.Contains(w.out.String(), "exited(7)") {
		t.Errorf("ps: want exited(7), got\n%s", &w.out)
	}
	w.want(0, "web\n", "", "rm", "web")
	w.nothingLeft()
}

func TestRunRm(t *testing.T) {
	w := newWorld(t)
	w.want(3, "", "", "run", "--rm", "--name", "web", "--network", "blue", "--", "sh", "-c", "exit 3")
	w.nothingLeft()
}

func TestRunTellsTheAgentAll(t *testing.T) {
	w := newWorld(t)
	w.want(0, "web\n", "", "run", "--name", "web", "--network", "blue", "--network", "red", "--ip", "10.64.0.2",
		"--mac", "02:00:00:00:00:01", "--alias", "www", "--hostname", "web.example", "--label", "a=b",
		"--dns", "192.0.2.53", "--dns-search", "example", "--add-host", "db:10.0.0.9")
	r := w.agent.request
	if r.GetId() != "web" || r.GetName() != "web" || r.GetNetns() != filepath.Join(w.paths.NetNS, "web") ||
		r.GetHostname() != "web.example" || r.GetLabels()["a"] != "b" || len(r.GetInterfaces()) != 2 {
		t.Errorf("request: %v", r)
	}
	blue, red := r.GetInterfaces()[0], r.GetInterfaces()[1]
	if blue.GetNetwork() != "blue" || list(blue.GetAddresses()) != "10.64.0.2" || blue.GetMac() != "02:00:00:00:00:01" || list(blue.GetAliases()) != "www" {
		t.Errorf("first interface: %v", blue)
	}
	if red.GetNetwork() != "red" || len(red.GetAddresses()) != 0 || red.GetMac() != "" || list(red.GetAliases()) != "www" {
		t.Errorf("second interface: %v", red)
	}
	for file, want := range map[string]string{
		"hosts":       "10.64.0.2\tweb.example web\n10.64.1.2\tweb.example web\n10.0.0.9\tdb\n",
		"resolv.conf": "nameserver 192.0.2.53\nsearch example\n",
		"hostname":    "web.example\n",
	} {
		b, err := os.ReadFile(filepath.Join(w.paths.Etc, "web", file))
		if err != nil || !strings.HasSuffix(string(b), want) && !strings.HasPrefix(string(b), want) {
			t.Errorf("%s: %q, %v, want %q", file, b, err, want)
		}
	}
	w.want(0, "web\n", "", "rm", "web")
	w.nothingLeft()
}

func TestRunThatFailsLeavesNothing(t *testing.T) {
	w := newWorld(t)
	run := func(args ...string) []string {
		return append([]string{"run", "--name", "web", "--network", "blue"}, args...)
	}
	w.agent.refuse = status.Error(codes.NotFound, "network blue does not exist")
	w.want(exitNotFound, "", "ovlctl: run sandbox web: attach: network blue does not exist\n", run()...)
	w.nothingLeft()
	w.agent.refuse = status.Error(codes.DeadlineExceeded, "")
	w.want(exitUnreachable, "", "ovlctl: run sandbox web: attach: no answer from agent "+w.env["OVL_SOCKET"]+" in time; give it longer with --timeout\n", run()...)
	w.nothingLeft()
	if w.agent.detaching != 2 {
		t.Errorf("detached %d times, want 2: an attachment whose answer was lost must go", w.agent.detaching)
	}
	w.agent.refuse = nil
	w.want(exitCommandMissing, "", "ovlctl: run sandbox web: no-such-command: command not found\n", run("--", "no-such-command")...)
	w.nothingLeft()
	script := filepath.Join(t.TempDir(), "script")
	if err := os.WriteFile(script, []byte("#!/no/such/interpreter\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	w.want(exitCommandMissing, "", "ovlctl: run sandbox web: start command in sandbox web: "+script+": command not found: its interpreter is missing\n", run("--", script)...)
	w.nothingLeft()
}

func TestRunRefusesANameInUse(t *testing.T) {
	w := newWorld(t)
	w.want(0, "web\n", "", "run", "--name", "web", "--network", "blue")
	w.want(exitConflict, "", "ovlctl: run sandbox web: the name is in use: "+w.paths.State+"/web: exists; see ovlctl ps\n",
		"run", "--name", "web", "--network", "blue")
	w.want(0, "web\n", "", "rm", "web")

	w.agent.attached["web"] = w.attachment("web")
	w.want(exitConflict, "", "ovlctl: run sandbox web: the name is in use by an attachment of this host; see ovlctl ps\n",
		"run", "--name", "web", "--network", "blue")
	w.want(exitConflict, "", "ovlctl: remove sandbox web: it is no sandbox of ovlctl run: its runtime removes it; what ovlctl attach attached, ovlctl detach detaches\n", "rm", "web")
	delete(w.agent.attached, "web")
	w.nothingLeft()
}

func TestRunWithoutAgent(t *testing.T) {
	w := newWorld(t)
	w.env["OVL_SOCKET"] = "/nowhere/agent.sock"
	w.want(exitUnreachable, "", "ovlctl: run sandbox web: ask for attachments: no agent on this host at /nowhere/agent.sock: is ovl-agent running? (--socket)\n",
		"run", "--name", "web", "--network", "blue")
	w.nothingLeft()
}

func TestNetworkNoneNeedsNoAgent(t *testing.T) {
	w := newWorld(t)
	socket := w.env["OVL_SOCKET"]
	w.env["OVL_SOCKET"] = "/nowhere/agent.sock"
	w.want(0, "alone\n", "", "run", "--name", "alone", "--network", "none")
	w.env["OVL_SOCKET"] = socket
	w.want(0, "alone\n", "", "ps", "-o", "name")
	w.want(0, "alone\n", "", "rm", "alone")
	w.nothingLeft()
}

func TestRmWithoutAgent(t *testing.T) {
	w := newWorld(t)
	w.want(0, "web\n", "", "run", "--name", "web", "--network", "blue")
	w.env["OVL_SOCKET"] = "/nowhere/agent.sock"
	w.want(exitUnreachable, "", "ovlctl: remove sandbox web: no agent on this host at /nowhere/agent.sock: is ovl-agent running? (--socket)\n", "rm", "web")
	w.want(0, "web\n", "sandbox web: the agent does not answer; it will give the addresses back when it is up\n", "rm", "-f", "web")
	clear(w.agent.attached)
	w.nothingLeft()
}

func TestDetachedRunsOnAndIsRemovedByForce(t *testing.T) {
	w := newWorld(t)
	w.want(0, "web\n", "", "run", "-d", "--name", "web", "--network", "blue", "--", "sh", "-c", "echo words; exec sleep 1000")
	w.run("ps")
	if !strings.Contains(w.out.String(), "running") {
		t.Errorf("ps: want it running, got\n%s", &w.out)
	}
	if code := w.run("rm", "web"); code != exitConflict || !strings.Contains(w.err.String(), "runs in it; end it, or say -f") {
		t.Errorf("rm of a running one: %d %s", code, &w.err)
	}
	w.want(0, "web\n", "", "rm", "-f", "web")
	w.nothingLeft()
}

func TestLogs(t *testing.T) {
	w := newWorld(t)
	w.want(0, "web\n", "", "run", "-d", "--name", "web", "--network", "blue", "--", "true")
	s, err := w.paths.Sandbox("web")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(s.LogPath(), []byte("words\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	w.want(0, "words\n", "", "logs", "web")
	w.want(0, "web\n", "", "rm", "-f", "web")
	w.want(exitNotFound, "", "ovlctl: show log of sandbox web: there is none on this host; see ovlctl ps\n", "logs", "web")
}

func TestPsJSONIsAnArrayOfAttachments(t *testing.T) {
	w := newWorld(t)
	w.want(0, "[]\n", "", "ps", "-o", "json")
	w.want(0, "web\n", "", "run", "--name", "web", "--network", "blue")
	w.run("ps", "-o", "json")
	var got []struct {
		Name       string
		Netns      string
		Interfaces []struct {
			Network   string
			Addresses []string
		}
	}
	if err := json.Unmarshal(w.out.Bytes(), &got); err != nil {
		t.Fatal(err)
	}
	if len(got) != 1 || got[0].Name != "web" || got[0].Interfaces[0].Addresses[0] != "10.64.0.2/24" {
		t.Errorf("got %+v", got)
	}
	w.want(0, "web\n", "", "rm", "web")
}

// exec replaces its process, so it gets one, and with it the default paths.
func TestExec(t *testing.T) {
	w := newWorld(t)
	w.paths = newOptions().paths
	w.paths.Etc = filepath.Join(t.TempDir(), "etc")
	w.want(0, "web\n", "", "run", "--name", "web", "--network", "blue")
	for _, test := range []struct {
		script string
		code   int
		out    string
	}{
		{"exit 0", 0, ""},
		{"exit 9", 9, ""},
		{"ls /sys/class/net", 0, "lo\n"},
	} {
		out, code := ovlctl(t, "exec", "web", "--", "sh", "-c", test.script)
		if code != test.code || out != test.out {
			t.Errorf("exec %q: code %d, %q; want %d, %q", test.script, code, out, test.code, test.out)
		}
	}
	if out, code := ovlctl(t, "exec", "web", "no-such-command"); code != exitCommandMissing || out != "ovlctl: no-such-command: command not found\n" {
		t.Errorf("exec of nothing: code %d, %q", code, out)
	}
	if _, code := ovlctl(t, "exec", "web", "/"); code != exitNotExecutable {
		t.Errorf("exec of a directory: code %d", code)
	}
	w.want(0, "web\n", "", "rm", "web")
	if _, code := ovlctl(t, "exec", "web", "true"); code != exitNotFound {
		t.Errorf("exec in what is gone: code %d", code)
	}
}

// ovlctl runs the test binary as ovlctl.
func ovlctl(t *testing.T, args ...string) (out string, code int) {
	t.Helper()
	cmd := exec.Command("/proc/self/exe", append([]string{mainCommand}, args...)...)
	b, err := cmd.CombinedOutput()
	if err != nil && cmd.ProcessState == nil {
		t.Fatal(err)
	}
	return string(b), cmd.ProcessState.ExitCode()
}
