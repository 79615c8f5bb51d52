package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"

	ovlv1 "github.com/ovlnet/ovl/proto/ovl/v1"
)

func (w *world) attachment(name string) *ovlv1.Attachment {
	return &ovlv1.Attachment{Id: name, Name: name, Netns: "/proc/1/ns/net"}
}

func fill(c *fakeController) {
	c.networks = []*ovlv1.Network{
		{Name: "blue", Vni: 100, Driver: ovlv1.Driver_overlay, Subnets: []string{"10.64.0.0/16"}, HostPrefixes: []uint32{24}, Masquerade: true, Revision: 7},
		{Name: "red", Vni: 101, Driver: ovlv1.Driver_overlay, Subnets: []string{"10.65.0.0/16", "fd65::/48"}, HostPrefixes: []uint32{24, 64}, Internal: true},
	}
	c.hosts = []*ovlv1.Host{
		{Id: "aa", Name: "h1", Underlay: []string{"192.0.2.1"}, State: "ready", Subnets: 1, Endpoints: 2, Version: "v1", Started: timestamppb.New(now.Add(-90 * time.Second))},
		{Id: "bb", Name: "h2", Underlay: []string{"192.0.2.2"}, State: "ready", Version: "v1"},
	}
	c.subnets = []*ovlv1.Subnet{{Network: "blue", Prefix: "10.64.3.0/24", Host: "h1", HostId: "aa", Underlay: []string{"192.0.2.1"}, VtepMac: "02:00:00:00:00:01"}}
	c.endpoints = []*ovlv1.Endpoint{{Id: "web", Name: "web", Network: "blue", Host: "h1", Addresses: []string{"10.64.3.2"}, Mac: "02:00:00:00:00:02"}}
	c.status = &ovlv1.ControllerStatus{Version: "v1", Started: timestamppb.New(now.Add(-time.Hour)), EtcdEmbedded: true, EtcdHealthy: true, Revision: 9, Hosts: 2, HostsReady: 2, Networks: 2, Subnets: 1, Endpoints: 1}
}

func TestTables(t *testing.T) {
	w := newWorld(t)
	fill(w.controller)
	for args, want := range map[string]string{
		"network ls": `NAME   DRIVER    VNI   SUBNETS                  HOST-PREFIX   OUTSIDE
blue   overlay   100   10.64.0.0/16             /24           masquerade
red    overlay   101   10.65.0.0/16,fd65::/48   /24,/64       none
`,
		"network ls -o name": "blue\nred\n",
		"host ls": `NAME   ID   UNDERLAY    STATE   SUBNETS   ENDPOINTS   VERSION
h1     aa   192.0.2.1   ready   1         2           v1
h2     bb   192.0.2.2   ready   0         0           v1
`,
		"subnet ls": `NETWORK   SUBNET         HOST   UNDERLAY    VTEP-MAC
blue      10.64.3.0/24   h1     192.0.2.1   02:00:00:00:00:01
`,
		"endpoint ls": `NAME   NETWORK   HOST   ADDRESSES   MAC
web    blue      h1     10.64.3.2   02:00:00:00:00:02
`,
		"endpoint inspect 10.64.3.2": `NAME        web
NETWORK     blue
HOST        h1
ADDRESSES   10.64.3.2
MAC         02:00:00:00:00:02
ALIASES     -
LABELS      -
ID          web
HOST-ID     -
`,
		"subnet ls -o name": "blue/10.64.3.0/24\n",
		"status": `controller   ADDRESS, version v1, up 1h0m
etcd         embedded, healthy, revision 9
hosts        2 of 2 ready
networks     2, with 1 subnets and 1 endpoints

NAME   ID   UNDERLAY    STATE   SUBNETS   ENDPOINTS   VERSION
h1     aa   192.0.2.1   ready   1         2           v1
h2     bb   192.0.2.2   ready   0         0           v1

NAME   DRIVER    VNI   SUBNETS                  HOST-PREFIX   OUTSIDE
blue   overlay   100   10.64.0.0/16             /24           masquerade
red    overlay   101   10.65.0.0/16,fd65::/48   /24,/64       none

healthy
`,
		"__complete network inspect ''": "blue\nred\n:4\n",
		"__complete host drain ''":      "h1\nh2\n:4\n",
		"__complete network rm red ''":  "blue\n:4\n",
		"__complete endpoint inspect w": "web\n:4\n",
		"network create new":            "new\n",
		"host drain h1":                 "h1\n",
		"network rm red --yes":          "red\n",
	} {
		t.Run(args, func(t *testing.T) {
			w.t = t
			words := strings.Fields(strings.ReplaceAll(args, "''", " EMPTY "))
			for i, word := range words {
				if word == "EMPTY" {
					words[i] = ""
				}
			}
			code := w.run(words...)
			want := strings.ReplaceAll(want, "ADDRESS,", w.env["OVL_CONTROLLER"]+",")
			if code != 0 || w.out.String() != want {
				t.Errorf("exit code %d, %s\n--- got\n%s--- want\n%s", code, &w.err, &w.out, want)
			}
		})
	}
}

func TestJSON(t *testing.T) {
	w := newWorld(t)
	w.want(0, "[]\n", "", "network", "ls", "-o", "json")
	w.want(0, "[]\n", "", "host", "ls", "-o", "yaml")
	fill(w.controller)
	w.controller.subnets[0].Revision = 5
	w.want(0, `[
  {
    "network": "blue",
    "prefix": "10.64.3.0/24",
    "hostId": "aa",
    "host": "h1",
    "underlay": [
      "192.0.2.1"
    ],
    "vtepMac": "02:00:00:00:00:01",
    "revision": "5"
  }
]
`, "", "subnet", "ls", "-o", "json")
	w.want(0, `- host: h1
  hostId: aa
  network: blue
  prefix: 10.64.3.0/24
  revision: "5"
  underlay:
  - 192.0.2.1
  vtepMac: "02:00:00:00:00:01"
`, "", "subnet", "ls", "-o", "yaml")
}

// Static addresses can be seen alone, and left out: there may be thousands.
func TestStaticSubnets(t *testing.T) {
	w := newWorld(t)
	for _, p := range []string{"10.64.3.0/24", "10.64.9.9/32", "fd64::/64", "fd64::9/128"} {
		w.controller.subnets = append(w.controller.subnets, &ovlv1.Subnet{Network: "blue", Prefix: p, Host: "h1"})
	}
	subnets, static := "blue/10.64.3.0/24\nblue/fd64::/64\n", "blue/10.64.9.9/32\nblue/fd64::9/128\n"
	w.want(0, static, "", "subnet", "ls", "-o", "name", "--static")
	w.want(0, subnets, "", "subnet", "ls", "-o", "name", "--static=false")
	w.want(0, "blue/10.64.3.0/24\nblue/10.64.9.9/32\nblue/fd64::/64\nblue/fd64::9/128\n", "", "subnet", "ls", "-o", "name")
}

func TestAgentAtRestPrintsNothing(t *testing.T) {
	w := newWorld(t)
	w.agent.diff, w.agent.plan = &ovlv1.GetDiffResponse{}, &ovlv1.GetPlanResponse{}
	w.want(0, "", "", "agent", "diff")
	w.want(0, "[]\n", "", "agent", "diff", "-o", "json")
	w.want(0, "[]\n", "", "agent", "plan", "-o", "json")

	row := &ovlv1.Row{Table: "fdb", Namespace: "host", Key: "k", Text: "02:00:00:00:00:01 dev ovx100 dst 192.0.2.2"}
	w.agent.plan.Rows = []*ovlv1.Row{row}
	w.agent.diff.Ops = []*ovlv1.Op{{Verb: "create", Row: row, Why: "absent"}}
	w.want(0, "TABLE   NAMESPACE   ROW\nfdb     host        02:00:00:00:00:01 dev ovx100 dst 192.0.2.2\n", "", "agent", "plan")
	w.want(0, "VERB     TABLE   NAMESPACE   ROW                                          WHY\ncreate   fdb     host        02:00:00:00:00:01 dev ovx100 dst 192.0.2.2   absent\n", "", "agent", "diff")
}

func TestARowOfSeveralLinesGoesOnBelow(t *testing.T) {
	w := newWorld(t)
	w.agent.plan = &ovlv1.GetPlanResponse{Rows: []*ovlv1.Row{
		{Table: "chain", Namespace: "host", Text: "chain ipv4 nat OVL-X 1 rules\n    -j RETURN\x1b[2J"},
		{Table: "link", Namespace: "host", Text: "link ovb1"},
	}}
	w.want(0, `TABLE   NAMESPACE   ROW
chain   host        chain ipv4 nat OVL-X 1 rules
                        -j RETURN?[2J
link    host        link ovb1
`, "", "agent", "plan")
}

func TestUnhealthyIsAnExitCode(t *testing.T) {
	w := newWorld(t)
	for name, spoil := range map[string]func(){
		"etcd": func() { w.controller.status.EtcdHealthy = false },
		"host": func() { w.controller.hosts[1].State = "down" },
		"problem": func() {
			w.controller.status.Problems = []*ovlv1.Problem{{Severity: "error", Subject: "h2", What: "its subnet is lost", Hint: "drain it"}}
		},
	} {
		fill(w.controller)
		spoil()
		if code := w.run("status"); code != exitUnhealthy || !strings.HasSuffix(w.out.String(), "unhealthy\n") || w.err.Len() > 0 {
			t.Errorf("%s: exit code %d\n%s%s", name, code, &w.out, &w.err)
		}
		if code := w.run("status", "-o", "json"); code != exitUnhealthy {
			t.Errorf("%s as JSON: exit code %d", name, code)
		}
	}
	fill(w.controller)
	w.controller.hosts[1].State = "draining" // as somebody asked for
	if code := w.run("status"); code != 0 {
		t.Errorf("a draining host: exit code %d", code)
	}
	w.agent.status = &ovlv1.AgentStatus{EtcdConnected: true, Ownership: "held"}
	if code := w.run("agent", "status"); code != 0 {
		t.Errorf("agent: exit code %d\n%s", code, &w.out)
	}
	w.agent.status.Failing = []*ovlv1.RowStatus{{Key: "link host ovx100", Outcome: "failed", Error: "no such device"}}
	if code := w.run("agent", "status"); code != exitUnhealthy || !strings.Contains(w.out.String(), "no such device") {
		t.Errorf("agent with a failing row: exit code %d\n%s", code, &w.out)
	}
}

func TestWhois(t *testing.T) {
	w := newWorld(t)
	w.agent.whois = &ovlv1.WhoisResponse{}
	w.want(exitNotFound, "", "ovlctl: whois x: nothing on this host knows it; try ovlctl endpoint inspect x\n", "whois", "x")
	w.agent.whois.Matches = []*ovlv1.WhoisMatch{{Kind: "container", Host: "h1", Network: "blue", Container: "web"}}
	w.want(0, "web\n", "", "whois", "x", "-o", "name")
}

func TestRequestsOfFlags(t *testing.T) {
	w := newWorld(t)
	w.run("network", "create", "blue", "--subnet", "10.64.0.0/16", "--subnet", "fd64::/48", "--host-prefix", "24", "--host-prefix", "64",
		"--internal", "--no-masquerade", "--nat66", "--direct-routing", "--services", "--mtu", "1400", "--vni", "7", "--static-range", "10.64.255.0/24",
		"--dns-domain", "x.example", "--parent", "eth0", "--label", "a=b", "--driver", "bridge")
	r, ok := w.controller.last.(*ovlv1.CreateNetworkRequest)
	if !ok || r.GetName() != "blue" || list(r.GetSubnets()) != "10.64.0.0/16,fd64::/48" || len(r.GetHostPrefixes()) != 2 || r.GetHostPrefixes()[1] != 64 ||
		!r.GetInternal() || r.Masquerade == nil || r.GetMasquerade() || !r.GetNat66() || !r.GetDirectRouting() || !r.GetServices() || r.GetMtu() != 1400 || r.GetVni() != 7 ||
		!slices.Equal(r.GetStaticRanges(), []string{"10.64.255.0/24"}) || r.GetDnsDomain() != "x.example" || r.GetParent() != "eth0" || r.GetLabels()["a"] != "b" ||
		r.GetDriver() != ovlv1.Driver_bridge {
		t.Errorf("create: %v (%s)", r, &w.err)
	}
	w.run("network", "create", "blue")
	if r, ok := w.controller.last.(*ovlv1.CreateNetworkRequest); !ok || r.Masquerade != nil {
		t.Errorf("create without flags: masquerade is %v, want the controller's default", r.Masquerade)
	}
	w.run("network", "update", "blue", "--internal=false", "--nat66", "--services=false", "--label", "")
	if r, ok := w.controller.last.(*ovlv1.UpdateNetworkRequest); !ok || r.Internal == nil || r.GetInternal() || !r.GetNat66() || r.Services == nil || r.GetServices() || r.Mtu != nil || !r.GetSetLabels() || len(r.GetLabels()) != 0 {
		t.Errorf("update: %v", r)
	}
}

func TestPruneSparesWhatIsInUse(t *testing.T) {
	w := newWorld(t)
	fill(w.controller) // blue has an endpoint
	w.want(0, "red\n", "", "network", "prune", "--yes")
	w.controller.inUse = map[string]bool{"red": true} // since the list was read
	w.want(0, "", "", "network", "prune", "--yes")
}

func TestDestroyingAsks(t *testing.T) {
	w := newWorld(t)
	w.terminal = func(any) bool { return true }
	w.stdin = strings.NewReader("n\n")
	w.want(exitFailed, "", "remove network blue? [y/N] ovlctl: remove network blue: not confirmed, nothing done\n", "network", "rm", "blue")
	if w.controller.last != nil {
		t.Errorf("the controller was asked: %v", w.controller.last)
	}
	w.stdin = strings.NewReader("yes\n")
	w.want(0, "blue\n", "remove network blue? [y/N] ", "network", "rm", "blue")
}

func TestErrorsOfCalls(t *testing.T) {
	bad, err := status.New(codes.InvalidArgument, "bad request").WithDetails(&errdetails.BadRequest{
		FieldViolations: []*errdetails.BadRequest_FieldViolation{{Field: "vni", Description: "too large"}, {Field: "name", Description: "too long"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		err  error
		code int
		text string
	}{
		{status.Error(codes.NotFound, "no such thing"), exitNotFound, "create network b: no such thing"},
		{status.Error(codes.AlreadyExists, "create network b: it exists"), exitConflict, "create network b: it exists"},
		{status.Error(codes.FailedPrecondition, "it overlaps"), exitConflict, "create network b: it overlaps"},
		{status.Error(codes.Aborted, "it changed"), exitConflict, "create network b: it changed"},
		{status.Error(codes.Internal, "two\nlines \x1b[2J"), exitFailed, "create network b: two; lines ?[2J"},
		{status.Error(codes.Unavailable, "no etcd"), exitUnreachable, "create network b: controller ADDRESS: no etcd"},
		{status.Error(codes.DeadlineExceeded, ""), exitUnreachable, "create network b: no answer from controller ADDRESS in time; give it longer with --timeout"},
		{bad.Err(), exitUsage, "create network b: vni: too large; name: too long"},
	} {
		w := newWorld(t)
		w.controller.err = test.err
		text := strings.ReplaceAll(test.text, "ADDRESS", w.env["OVL_CONTROLLER"])
		w.want(test.code, "", "ovlctl: "+text+"\n", "network", "create", "b")
	}
}

func TestNoController(t *testing.T) {
	w := newWorld(t)
	w.env["OVL_CONTROLLER"] = "127.0.0.1:1"
	w.want(exitUnreachable, "", "ovlctl: list networks: no controller at 127.0.0.1:1: connection refused; is ovl-controller running? (--controller)\n", "network", "ls")
}

func TestContexts(t *testing.T) {
	w := newWorld(t)
	fill(w.controller)
	address := w.env["OVL_CONTROLLER"]
	delete(w.env, "OVL_CONTROLLER")
	file := filepath.Join(w.env["HOME"], ".config", "ovl", "config.yaml")
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		t.Fatal(err)
	}
	write := func(text string) {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("currentContext: here\ncontexts:\n- name: here\n  controller: " + address + "\n- name: there\n  controller: 127.0.0.1:1\n")
	w.want(0, "blue\nred\n", "", "network", "ls", "-o", "name")
	if code := w.run("--context", "there", "network", "ls"); code != exitUnreachable {
		t.Errorf("--context there: exit code %d, %s", code, &w.err)
	}
	w.want(exitUsage, "", "ovlctl: context \"nowhere\" is not in "+file+"; see ovlctl context ls\n", "--context", "nowhere", "network", "ls")
	if w.run("__complete", "--context", ""); w.out.String() != "here\nthere\n:4\n" {
		t.Errorf("completion of --context: %q", &w.out)
	}
}

func FuzzParseConfig(f *testing.F) {
	f.Add([]byte("currentContext: a\ncontexts:\n- name: a\n  controller: 192.0.2.1:6790\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := parseConfig(b)
		if err != nil {
			return
		}
		for _, x := range c.Contexts {
			if x.Name == "" {
				t.Errorf("%q: a context without a name is accepted", b)
			}
		}
	})
}
