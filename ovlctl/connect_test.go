package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// file returns a file of a sandbox.
func (w *world) file(sandbox, name string) string {
	w.t.Helper()
	b, err := os.ReadFile(filepath.Join(w.paths.Etc, sandbox, name))
	if err != nil {
		w.t.Error(err)
	}
	return string(b)
}

func (w *world) wantInFile(sandbox, name string, want bool, text string) {
	w.t.Helper()
	if got := w.file(sandbox, name); strings.Contains(got, text) != want {
		w.t.Errorf("%s of %s: %q; want %q in it: %v", name, sandbox, got, text, want)
	}
}

func TestConnectAndDisconnectUpdateTheFiles(t *testing.T) {
	w := newWorld(t)
	w.want(0, "web\n", "", "run", "--name", "web", "--network", "blue", "--add-host", "me:host-gateway", "--add-host", "db:10.0.0.9")
	w.want(0, "side\n", "", "run", "--name", "side", "--network", "container:web", "--hostname", "car")
	w.wantInFile("web", "hosts", true, "10.64.0.2\tweb\n10.64.0.1\tme\n10.0.0.9\tdb\n")
	w.wantInFile("side", "hosts", true, "10.64.0.2\tcar side\n")

	w.want(0, "", "", "connect", "red", "web", "--ip", "10.64.1.2", "--alias", "www", "--mac", "02:00:00:00:00:01")
	if i := w.agent.connect.GetInterface(); w.agent.connect.GetId() != "web" || i.GetNetwork() != "red" || list(i.GetAddresses()) != "10.64.1.2" ||
		list(i.GetAliases()) != "www" || i.GetMac() != "02:00:00:00:00:01" {
		t.Errorf("request: %v", w.agent.connect)
	}
	for _, name := range []string{"web", "side"} {
		w.wantInFile(name, "hosts", true, "10.64.1.2\t")
	}
	w.want(0, "", "", "disconnect", "blue", "web")
	for _, name := range []string{"web", "side"} {
		w.wantInFile(name, "hosts", true, "10.64.1.2\t")
		w.wantInFile(name, "hosts", false, "10.64.0.2")
	}
	w.wantInFile("web", "hosts", true, "10.64.1.1\tme\n10.0.0.9\tdb\n")
	w.want(exitNotFound, "", "ovlctl: disconnect container web from network blue: it is not on this network; see ovlctl ps\n", "disconnect", "blue", "web")
	w.want(0, "", "", "disconnect", "red", "web")
	w.wantInFile("web", "hosts", true, "127.0.1.1\tweb\n10.0.0.9\tdb\n")
	w.want(0, "side\n", "", "rm", "side")
	w.want(0, "web\n", "", "rm", "web")
	w.nothingLeft()
}

func TestConnectErrors(t *testing.T) {
	w := newWorld(t)
	w.want(0, "web\n", "", "run", "--name", "web", "--network", "blue")
	w.want(0, "side\n", "", "run", "--name", "side", "--network", "container:web")
	w.want(0, "host\n", "", "run", "--name", "host", "--network", "host")
	w.want(exitConflict, "", "ovlctl: connect container side to network red: it shares the network of web: connect or disconnect that\n", "connect", "red", "side")
	w.want(exitConflict, "", "ovlctl: disconnect container host from network red: it is on the host's network; run it anew on networks of its own\n", "disconnect", "red", "host")
	w.want(exitNotFound, "", "ovlctl: connect container nope to network red: no such attachment\n", "connect", "red", "nope")
	w.agent.refuse = status.Error(codes.NotFound, "there is no network red")
	w.want(exitNotFound, "", "ovlctl: connect container web to network red: there is no network red\n", "connect", "red", "web")
	w.agent.refuse = nil
	for _, name := range []string{"side", "host", "web"} {
		w.want(0, name+"\n", "", "rm", name)
	}
	w.nothingLeft()
}

// A sandbox that was on no network is the agent's from its first one on.
func TestConnectOneThatIsOnNone(t *testing.T) {
	w := newWorld(t)
	w.want(0, "web\n", "", "run", "--name", "web", "--network", "none", "--hostname", "www")
	w.wantInFile("web", "hosts", true, "127.0.1.1\twww web\n")
	w.want(0, "", "", "connect", "blue", "web", "--alias", "db")
	if r := w.agent.request; r.GetNetns() != filepath.Join(w.paths.NetNS, "web") || r.GetHostname() != "www" || list(r.GetInterfaces()[0].GetAliases()) != "db" {
		t.Errorf("request: %v", r)
	}
	w.wantInFile("web", "hosts", true, "10.64.0.2\twww web\n")
	w.want(0, "web\n", "", "rm", "web")
	w.nothingLeft()
}

func TestModesInPs(t *testing.T) {
	w := newWorld(t)
	socket := w.env["OVL_SOCKET"]
	w.want(0, "web\n", "", "run", "--name", "web", "--network", "none")
	w.env["OVL_SOCKET"] = "/nowhere/agent.sock"
	w.want(0, "onhost\n", "", "run", "-d", "--name", "onhost", "--network", "host", "--", "sleep", "1000")
	w.env["OVL_SOCKET"] = socket
	w.want(0, "side\n", "", "run", "-d", "--name", "side", "--network", "container:web", "--", "sleep", "1000")
	w.run("ps")
	for _, want := range []string{"none", "host", "container:web"} {
		if !strings.Contains(w.out.String(), " "+want+" ") {
			t.Errorf("ps does not tell of %s:\n%s", want, &w.out)
		}
	}
	w.run("ps", "-o", "json")
	if !strings.Contains(strings.ReplaceAll(w.out.String(), " ", ""), `"mode":"container:web"`) {
		t.Errorf("ps -o json: %s", &w.out)
	}
	w.want(exitConflict, "", "ovlctl: remove sandbox web: side shares its network; remove that first, or say -f\n", "rm", "web")
	w.run("rm", "side")
	if !strings.Contains(w.err.String(), "runs in it") {
		t.Errorf("rm of a running one: %s", &w.err)
	}
	w.want(0, "web\n", "", "rm", "-f", "web")
	w.run("ps")
	if strings.Count(w.out.String(), "running") != 2 {
		t.Errorf("removing web by force ends another sandbox's command:\n%s", &w.out)
	}
	bystander := exec.Command("sleep", "1000") // in the same network namespace as the sandbox on the host's
	if err := bystander.Start(); err != nil {
		t.Fatal(err)
	}
	w.want(0, "onhost\n", "", "rm", "-f", "onhost")
	w.want(0, "side\n", "", "rm", "-f", "side")
	if err := bystander.Process.Kill(); err != nil {
		t.Errorf("rm -f of a sandbox on the host's network ends what is not its own: %v", err)
	}
	_ = bystander.Wait()
	w.nothingLeft()
}

func TestRunSharesWhat(t *testing.T) {
	w := newWorld(t)
	w.want(exitNotFound, "", "ovlctl: run sandbox side: there is no container web on this host; see ovlctl ps\n",
		"run", "--name", "side", "--network", "container:web")
	w.want(0, "web\n", "", "run", "--name", "web", "--network", "blue", "--dns", "192.0.2.53", "--dns-search", "example", "--dns-option", "ndots:2")
	w.want(0, "side\n", "", "run", "--name", "side", "--network", "container:web", "--dns-search", "other")
	w.want(0, "third\n", "", "run", "--name", "third", "--network", "container:side")
	if got := w.file("side", "resolv.conf"); got != "nameserver 192.0.2.53\nsearch other\noptions ndots:2\n" {
		t.Errorf("resolv.conf: %s", got)
	}
	w.run("ps", "-o", "json")
	if strings.Count(w.out.String(), "container:web") != 2 {
		t.Errorf("one that shares with a sharer shares with the first: %s", &w.out)
	}
	for _, name := range []string{"third", "side", "web"} {
		w.want(0, name+"\n", "", "rm", name)
	}
	w.nothingLeft()
}

func TestRunNetworkOptions(t *testing.T) {
	w := newWorld(t)
	w.want(0, "web\n", "", "run", "--name", "web", "--network", "blue,alias=b", "--network", "red,ip=10.65.1.9,mac=02:00:00:00:00:02,alias=r", "--alias", "www")
	blue, red := w.agent.request.GetInterfaces()[0], w.agent.request.GetInterfaces()[1]
	if list(blue.GetAliases()) != "b,www" || list(red.GetAliases()) != "r,www" || list(red.GetAddresses()) != "10.65.1.9" || red.GetMac() != "02:00:00:00:00:02" {
		t.Errorf("request: %v", w.agent.request)
	}
	w.want(0, "web\n", "", "rm", "web")
}

// FuzzNetworkFlag: what --network holds is refused in one line, or names
// nothing that could reach a file or a shell.
func FuzzNetworkFlag(f *testing.F) {
	f.Add("blue,ip=10.64.1.9,mac=02:00:00:00:00:01,alias=db")
	f.Add("container:web")
	f.Fuzz(func(t *testing.T, s string) {
		if _, is, err := parseMode(s); is || err != nil {
			return
		}
		i, err := parseNetwork(s)
		if err != nil {
			if exitCode(err) != exitUsage {
				t.Errorf("%q: exit code %d", s, exitCode(err))
			}
			return
		}
		for _, word := range append(i.GetAliases(), i.GetNetwork()) {
			if word == "" || strings.ContainsAny(word, " \n/") {
				t.Errorf("%q: accepts %q", s, word)
			}
		}
	})
}
