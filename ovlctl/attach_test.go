package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// foreign makes a file where ip netns would mount a namespace: the agent looks
// closer than ovlctl does.
func (w *world) foreign(name string) string {
	w.t.Helper()
	path := filepath.Join(w.paths.NetNS, name)
	if err := os.MkdirAll(w.paths.NetNS, 0o755); err != nil {
		w.t.Fatal(err)
	}
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { _ = os.Remove(path) })
	return path
}

func TestAttachTellsTheAgentAll(t *testing.T) {
	w := newWorld(t)
	path := w.foreign("fw")
	w.want(0, "web\n", "", "attach", "--netns", "fw", "--name", "web", "--network", "blue", "--network", "red,ip=10.65.0.9,interface=lan",
		"--interface", "wan", "--ip", "10.64.0.2", "--mac", "02:00:00:00:00:01", "--alias", "www", "--label", "a=b", "-p", "8080:80")
	r := w.agent.request
	if r.GetId() != "web" || r.GetName() != "web" || r.GetNetns() != path || r.GetLabels()["a"] != "b" || len(r.GetInterfaces()) != 2 ||
		len(r.GetPorts()) != 1 || r.GetPorts()[0].GetHostPort() != 8080 {
		t.Errorf("request: %v", r)
	}
	blue, red := r.GetInterfaces()[0], r.GetInterfaces()[1]
	if blue.GetNetwork() != "blue" || blue.GetName() != "wan" || list(blue.GetAddresses()) != "10.64.0.2" || blue.GetMac() != "02:00:00:00:00:01" || list(blue.GetAliases()) != "www" {
		t.Errorf("first interface: %v", blue)
	}
	if red.GetNetwork() != "red" || red.GetName() != "lan" || list(red.GetAddresses()) != "10.65.0.9" || list(red.GetAliases()) != "www" {
		t.Errorf("second interface: %v", red)
	}
	w.want(0, "web\n", "", "attach", "--netns", path, "--name", "web", "--network", "blue", "-o", "name")
	if code := w.run("attach", "--netns", path, "--name", "web", "--network", "blue", "-o", "table"); code != 0 || !strings.HasPrefix(w.out.String(), "NAME ") {
		t.Errorf("as a table: code %d\n%s", code, &w.out)
	}
	w.want(exitConflict, "", "ovlctl: remove sandbox web: it is no sandbox of ovlctl run: its runtime removes it; what ovlctl attach attached, ovlctl detach detaches\n", "rm", "web")
	w.want(exitNotFound, "web\n", "ovlctl: detach db: there is no such container on this host; see ovlctl ps\n", "detach", "web", "db")
	w.want(exitNotFound, "", "ovlctl: detach web: there is no such container on this host; see ovlctl ps\n", "detach", "web")
}

func TestAttachAndSandboxesKeepApart(t *testing.T) {
	w := newWorld(t)
	w.want(0, "web\n", "", "run", "--name", "web", "--network", "none")
	w.want(exitConflict, "", "ovlctl: attach web: there is a sandbox of that name: put it on networks with ovlctl connect, or choose another name\n",
		"attach", "--netns", "web", "--name", "web", "--network", "blue")
	w.want(exitConflict, "", "ovlctl: detach web: it is a sandbox: take it off a network with ovlctl disconnect, or remove it with ovlctl rm\n", "detach", "web")
	w.want(0, "web\n", "", "rm", "web")
	w.nothingLeft()
}

func TestAttachOfNothing(t *testing.T) {
	w := newWorld(t)
	w.want(exitNotFound, "", "ovlctl: attach web: "+w.paths.NetNS+"/fw: there is no such network namespace; see ip netns, or name a process in it with --pid\n",
		"attach", "--netns", "fw", "--name", "web", "--network", "blue")
	cmd := exec.Command("true")
	if err := cmd.Run(); err != nil {
		t.Fatal(err)
	}
	pid := fmt.Sprint(cmd.Process.Pid) // waited for: it has no such process any more
	w.want(exitNotFound, "", "ovlctl: attach web: /proc/"+pid+"/ns/net: there is no such network namespace; see ip netns, or name a process in it with --pid\n",
		"attach", "--pid", pid, "--name", "web", "--network", "blue")
	w.foreign("fw")
	w.env["OVL_SOCKET"] = "/nowhere/agent.sock"
	w.want(exitUnreachable, "", "ovlctl: attach web: no agent on this host at /nowhere/agent.sock: is ovl-agent running? (--socket)\n",
		"attach", "--netns", "fw", "--name", "web", "--network", "blue")
}

func TestAttachWritesWhoKnowsNames(t *testing.T) {
	w := newWorld(t)
	w.foreign("fw")
	file := filepath.Join(t.TempDir(), "resolv.conf")
	args := []string{"attach", "--netns", "fw", "--name", "web", "--network", "blue", "--resolv-conf", file}
	w.agent.domain = "blue.ovl.internal"
	w.want(0, "web\n", "", args...)
	text, err := os.ReadFile(file)
	if err != nil || !strings.Contains(string(text), "\nnameserver 10.64.0.1\nsearch blue.ovl.internal") {
		t.Errorf("it is %q, %v", text, err)
	}
	w.want(0, "web\n", "", args...)
	w.want(0, "web\n", "", "detach", "web")
	if err := os.WriteFile(file, []byte("nameserver 192.0.2.53\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	w.want(exitFailed, "", "ovlctl: write "+file+": it is not of ovl's making: name another file, or remove this one\n", args...)
	if len(w.agent.attached) != 0 {
		t.Error("attached though the file could not be written")
	}
}

func TestWatchProcess(t *testing.T) {
	cmd := exec.Command("cat")
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	p, err := watchProcess(cmd.Process.Pid)
	if err != nil || p.ended() {
		t.Fatalf("a process that runs: ended %v, %v", p.ended(), err)
	}
	defer p.close()
	_ = in.Close()
	_ = cmd.Wait()
	if !p.ended() {
		t.Error("it has ended and is not known to")
	}
	if _, err := watchProcess(cmd.Process.Pid); err == nil {
		t.Error("opened what has ended")
	}
}
