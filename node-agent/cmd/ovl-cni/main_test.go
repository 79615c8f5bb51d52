package main

import (
	"errors"
	"io"
	"maps"
	"net"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/containernetworking/cni/pkg/skel"
	"github.com/containernetworking/cni/pkg/types"
	types040 "github.com/containernetworking/cni/pkg/types/040"
	types100 "github.com/containernetworking/cni/pkg/types/100"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	ovlv1 "github.com/ovlnet/ovl/proto/ovl/v1"
)

func TestAdd(t *testing.T) {
	f := startAgent(t)
	c := f.call("ADD", "0123abcd", "eth0")
	c.args = "IgnoreUnknown=1;K8S_POD_NAMESPACE=shop;K8S_POD_NAME=web-0;K8S_POD_INFRA_CONTAINER_ID=0123abcd"
	c.conf = `{"cniVersion":"1.1.0","name":"pods","type":"ovl","network":"blue","dns":{"nameservers":["10.64.3.1"]},
		"runtimeConfig":{"mac":"02:00:00:00:00:09","ips":["10.64.3.9/24"],"aliases":["www"]}}`
	var res types100.Result
	c.must(t, &res)

	r := f.requests[0]
	if r.GetId() != attachmentID("0123abcd", "eth0") || r.GetName() != "web-0-shop" || r.GetNetns() != c.netns {
		t.Errorf("asked for %v", r)
	}
	if i := r.GetInterfaces()[0]; i.GetNetwork() != "blue" || i.GetName() != "eth0" || i.GetMac() != "02:00:00:00:00:09" || !slices.Equal(i.GetAddresses(), []string{"10.64.3.9"}) || !slices.Equal(i.GetAliases(), []string{"www"}) {
		t.Errorf("asked for interface %v", i)
	}
	if want := map[string]string{labelNetwork: "pods", labelContainerID: "0123abcd", labelIfName: "eth0", labelPod: "web-0", labelNamespace: "shop"}; !maps.Equal(r.GetLabels(), want) {
		t.Errorf("labels %v, want %v", r.GetLabels(), want)
	}
	if len(res.Interfaces) != 2 || res.Interfaces[0].Sandbox != "" || res.Interfaces[1].Name != "eth0" || res.Interfaces[1].Sandbox != c.netns || res.Interfaces[1].Mac != "02:00:00:00:00:09" {
		t.Errorf("interfaces %v", res.Interfaces)
	}
	if len(res.IPs) != 2 || res.IPs[0].Address.String() != "10.64.3.9/24" || res.IPs[0].Gateway.String() != "10.64.3.1" || *res.IPs[0].Interface != 1 || res.IPs[1].Gateway.String() != "fd64::1" {
		t.Errorf("addresses %v", res.IPs)
	}
	if len(res.Routes) != 2 || res.Routes[0].Dst.String() != "0.0.0.0/0" || res.Routes[0].GW.String() != "10.64.3.1" {
		t.Errorf("routes %v: want the two default ones", res.Routes)
	}
	if len(res.DNS.Nameservers) != 1 || res.CNIVersion != "1.1.0" {
		t.Errorf("DNS %v, version %s", res.DNS, res.CNIVersion)
	}
	var again types100.Result
	c.must(t, &again)
	if !reflect.DeepEqual(again, res) {
		t.Errorf("added again: %v, want %v", again, res)
	}
}

// Podman gives the aliases of each network by its name, its own container's among
// them, which need be no DNS label.
func TestAddAliasesOfPodman(t *testing.T) {
	for name, want := range map[string][]string{"web": {"0123abcd", "www"}, "Web_1": {"0123abcd", "www"}} {
		f := startAgent(t)
		c := f.call("ADD", "0123abcd", "eth0")
		c.args = "IgnoreUnknown=1;K8S_POD_NAME=" + name
		c.conf = `{"cniVersion":"1.0.0","name":"blue","type":"ovl","runtimeConfig":{"aliases":{"red":["no"],"blue":["0123abcd","` + name + `","www"]}}}`
		var res types100.Result
		c.must(t, &res)
		if got := f.requests[0].GetInterfaces()[0].GetAliases(); !slices.Equal(got, want) {
			t.Errorf("%s: aliases %v, want %v", name, got, want)
		}
	}
	f := startAgent(t)
	c := f.call("ADD", "0123abcd", "eth0")
	c.conf = `{"cniVersion":"1.0.0","name":"blue","type":"ovl","runtimeConfig":{"aliases":{"blue":"www"}}}`
	c.fails(t, types.ErrDecodingFailure, "aliases")
}

// A container on two networks publishes its ports once, however often it is added.
func TestAddPortsOfTwoNetworks(t *testing.T) {
	f := startAgent(t)
	ports := []int{1, 0, 1, 0}
	for i, network := range []string{"blue", "red", "blue", "red"} {
		c := f.call("ADD", "0123abcd", map[string]string{"blue": "eth0", "red": "eth1"}[network])
		c.conf = `{"cniVersion":"1.0.0","name":"` + network + `","type":"ovl","runtimeConfig":{"portMappings":[{"hostPort":8080,"containerPort":80,"protocol":"tcp"}]}}`
		var res types100.Result
		c.must(t, &res)
		if got := f.requests[i].GetPorts(); len(got) != ports[i] {
			t.Errorf("request %d, on %s: ports %v, want %d of them", i, network, got, ports[i])
		}
	}
}

func TestAddVersions(t *testing.T) {
	f := startAgent(t)
	for _, v := range []string{"0.3.1", "0.4.0"} {
		c := f.call("ADD", "c"+v, "eth0")
		c.conf = `{"cniVersion":"` + v + `","name":"blue","type":"ovl"}`
		var res types040.Result
		c.must(t, &res)
		if res.CNIVersion != v || len(res.IPs) != 2 || res.IPs[0].Version != "4" {
			t.Errorf("%s: %+v", v, res)
		}
	}
	c := f.call("ADD", "x", "eth0")
	c.conf = `{"cniVersion":"0.2.0","name":"blue","type":"ovl"}`
	c.fails(t, types.ErrIncompatibleCNIVersion, "incompatible")
}

// What a plugin before this one did stays in the result.
func TestAddChained(t *testing.T) {
	f := startAgent(t)
	c := f.call("ADD", "0123abcd", "eth1")
	c.conf = `{"cniVersion":"1.0.0","name":"blue","type":"ovl","prevResult":{"cniVersion":"1.0.0","interfaces":[{"name":"eth0","sandbox":"/run/netns/nowhere"}],
		"ips":[{"interface":0,"address":"192.0.2.9/24"}]}}`
	var res types100.Result
	c.must(t, &res)
	if len(res.Interfaces) != 3 || len(res.IPs) != 3 || res.IPs[0].Address.String() != "192.0.2.9/24" || *res.IPs[1].Interface != 2 || res.Interfaces[2].Name != "eth1" {
		t.Errorf("result %+v", res)
	}
}

// Without a name server in the configuration those of the network are it.
func TestAddTellsWhoAnswersAboutNames(t *testing.T) {
	f := startAgent(t)
	c := f.call("ADD", "0123abcd", "eth0")
	c.conf = `{"cniVersion":"1.0.0","name":"blue","type":"ovl"}`
	var res types100.Result
	c.must(t, &res)
	if !slices.Equal(res.DNS.Nameservers, []string{"10.64.3.1", "fd64::1"}) || !slices.Equal(res.DNS.Search, []string{"blue.ovl.internal"}) {
		t.Errorf("DNS %+v", res.DNS)
	}
}

// What the runtime asks for by the capabilities' names goes to the agent, or into
// the result.
func TestAddCapabilities(t *testing.T) {
	f := startAgent(t)
	c := f.call("ADD", "0123abcd", "eth0")
	c.conf = `{"cniVersion":"1.1.0","name":"blue","type":"ovl","dns":{"nameservers":["192.0.2.1"],"domain":"example.org"},"runtimeConfig":{
		"portMappings":[{"hostPort":8080,"containerPort":80,"protocol":"TCP"},{"hostPort":53,"containerPort":53,"protocol":"udp","hostIP":"::"},{"hostPort":9,"containerPort":9}],
		"bandwidth":{"ingressRate":1000000,"ingressBurst":80000,"egressRate":2000000,"egressBurst":90000},
		"dns":{"servers":["192.0.2.53"],"searches":["a.example"],"options":["ndots:5"]}}}`
	var res types100.Result
	c.must(t, &res)
	want := []*ovlv1.Port{
		{Protocol: "tcp", HostPort: 8080, ContainerPort: 80}, {Protocol: "udp", HostPort: 53, ContainerPort: 53, HostIp: "::"}, {Protocol: "tcp", HostPort: 9, ContainerPort: 9},
	}
	if got := f.requests[0].GetPorts(); !slices.EqualFunc(got, want, func(a, b *ovlv1.Port) bool { return proto.Equal(a, b) }) {
		t.Errorf("ports %v, want %v", got, want)
	}
	if got, want := f.requests[0].GetInterfaces()[0].GetBandwidth(), (&ovlv1.Bandwidth{IngressRate: 1e6, IngressBurst: 8e4, EgressRate: 2e6, EgressBurst: 9e4}); !proto.Equal(got, want) {
		t.Errorf("bandwidth %v, want %v", got, want)
	}
	if d := res.DNS; !slices.Equal(d.Nameservers, []string{"192.0.2.53"}) || d.Domain != "example.org" || !slices.Equal(d.Search, []string{"a.example"}) || !slices.Equal(d.Options, []string{"ndots:5"}) {
		t.Errorf("DNS %+v", res.DNS)
	}
}

func TestAddRefused(t *testing.T) {
	for code, want := range map[codes.Code]uint{
		codes.NotFound: types.ErrInvalidNetworkConfig, codes.InvalidArgument: types.ErrInvalidNetworkConfig, codes.Unavailable: types.ErrTryAgainLater,
		codes.ResourceExhausted: types.ErrTryAgainLater, codes.AlreadyExists: errTaken, codes.Unimplemented: types.ErrPluginNotAvailable,
	} {
		f := startAgent(t)
		f.refusal = status.Error(code, "attach web: because of "+code.String())
		f.call("ADD", "web", "eth0").fails(t, want, "because of "+code.String())
	}
	for name, tc := range map[string]struct {
		change func(*call)
		code   uint
	}{
		"no agent":       {func(c *call) { c.socket += "x" }, types.ErrTryAgainLater},
		"no JSON":        {func(c *call) { c.conf = "{" }, types.ErrDecodingFailure},
		"nothing":        {func(c *call) { c.conf = "" }, types.ErrDecodingFailure},
		"endless":        {func(c *call) { c.conf = strings.Repeat(" ", maxStdin+1) }, types.ErrDecodingFailure},
		"ipam":           {func(c *call) { c.conf = `{"cniVersion":"1.0.0","name":"blue","ipam":{"type":"host-local"}}` }, types.ErrInvalidNetworkConfig},
		"network":        {func(c *call) { c.conf = `{"cniVersion":"1.0.0","name":"My_Net"}` }, types.ErrInvalidNetworkConfig},
		"address":        {func(c *call) { c.conf = `{"cniVersion":"1.0.0","name":"blue","args":{"cni":{"ips":["x"]}}}` }, types.ErrInvalidNetworkConfig},
		"no container":   {func(c *call) { c.id = "" }, types.ErrInvalidEnvironmentVariables},
		"no namespace":   {func(c *call) { c.netns = "" }, types.ErrInvalidEnvironmentVariables},
		"namespace gone": {func(c *call) { c.netns = "/run/netns/gone" }, types.ErrInvalidEnvironmentVariables},
		"unknown arg":    {func(c *call) { c.args = "A=B" }, types.ErrInvalidEnvironmentVariables},
		"own namespace":  {func(c *call) { c.netns = "/proc/self/ns/net" }, types.ErrInvalidNetNS},
		"command":        {func(c *call) { c.command = "FROB" }, types.ErrInvalidEnvironmentVariables},
	} {
		t.Run(name, func(t *testing.T) {
			c := startAgent(t).call("ADD", "web", "eth0")
			tc.change(&c)
			c.fails(t, tc.code, "")
		})
	}
}

func TestDel(t *testing.T) {
	f := startAgent(t)
	var res types100.Result
	f.call("ADD", "web", "eth0").must(t, &res)
	c := f.call("DEL", "web", "eth0")
	c.netns = "" // its namespace is gone
	c.conf = `{"cniVersion":"1.0.0","name":"Renamed_Since","type":"ovl","network":["blue"],"mtu":"1400","ipam":{"type":"host-local"}}`
	c.must(t, nil)
	if len(f.atts) != 0 {
		t.Errorf("still attached: %v", f.atts)
	}
	c.must(t, nil) // again
	f.refusal = status.Error(codes.Unavailable, "the disk is full")
	c.fails(t, types.ErrTryAgainLater, "the disk is full")
}

func TestCheck(t *testing.T) {
	f := startAgent(t)
	var res types100.Result
	f.call("ADD", "web", "eth0").must(t, &res)
	c := f.call("CHECK", "web", "eth0")
	prev := func(addr string) string {
		return `{"cniVersion":"1.0.0","name":"blue","type":"ovl","prevResult":{"cniVersion":"1.0.0","ips":[{"address":"` + addr + `"},{"address":"fd64::2/64"}]}}`
	}
	c.conf = prev("10.64.3.2/24")
	c.must(t, nil)

	f.ops = []*ovlv1.Op{
		{Verb: "create", Row: &ovlv1.Row{Namespace: c.netns, Key: "netns " + c.netns + " route 0.0.0.0/0"}},
		{Verb: "update", Row: &ovlv1.Row{Namespace: "host", Key: "link ove0123456789ab"}},
	}
	c.fails(t, errNotInPlace, "2 rows are not in place; the agent would create netns "+c.netns+" route 0.0.0.0/0, update link ove0123456789ab")
	for range maxTold {
		f.ops = append(f.ops, f.ops[1])
	}
	c.fails(t, errNotInPlace, "34 rows")

	f.ops = nil
	c.conf = prev("10.64.3.77/24")
	c.fails(t, errNotInPlace, "10.64.3.2/24 is not in prevResult")
	c.conf = prev("10.64.3.2/24")
	c.netns = "/run/netns/else"
	c.fails(t, errNotInPlace, "was attached in")
	c.id = "db"
	c.fails(t, types.ErrUnknownContainer, "not attached")
	c.conf = `{"cniVersion":"1.0.0","name":"blue","type":"ovl"}`
	c.fails(t, types.ErrInvalidNetworkConfig, "prevResult")
	c.conf = `{"cniVersion":"0.3.1","name":"blue","type":"ovl"}`
	c.fails(t, types.ErrIncompatibleCNIVersion, "CHECK")
}

func TestGC(t *testing.T) {
	f := startAgent(t)
	var res types100.Result
	for _, id := range []string{"a", "b"} {
		f.call("ADD", id, "eth0").must(t, &res)
	}
	other := f.call("ADD", "c", "eth0")
	other.conf = `{"cniVersion":"1.1.0","name":"red","type":"ovl"}`
	other.must(t, &res)
	f.atts["web"] = &ovlv1.Attachment{Id: "web", Name: "web"} // of ovlctl

	c := call{command: "GC", socket: f.socket}
	left := func(want ...string) {
		t.Helper()
		if got := slices.Sorted(maps.Keys(f.atts)); !slices.Equal(got, slices.Sorted(slices.Values(want))) {
			t.Errorf("left %v, want %v", got, want)
		}
	}
	c.conf = `{"cniVersion":"1.1.0","name":"blue","type":"ovl"}`
	c.fails(t, types.ErrInvalidNetworkConfig, "valid-attachments is missing")
	left(attachmentID("a", "eth0"), attachmentID("b", "eth0"), attachmentID("c", "eth0"), "web")
	c.conf = `{"cniVersion":"1.1.0","name":"blue","type":"ovl","cni.dev/valid-attachments":[{"containerID":"b","ifname":"eth0"}]}`
	c.must(t, nil)
	left(attachmentID("b", "eth0"), attachmentID("c", "eth0"), "web")
	c.conf = `{"cniVersion":"1.1.0","name":"blue","type":"ovl","cni.dev/valid-attachments":null}`
	c.must(t, nil)
	left(attachmentID("c", "eth0"), "web")
}

func TestStatus(t *testing.T) {
	f := startAgent(t)
	c := call{command: "STATUS", socket: f.socket, conf: `{"cniVersion":"1.1.0","name":"blue","type":"ovl"}`}
	c.must(t, nil)
	for text, s := range map[string]*ovlv1.AgentStatus{
		"draining": {Passes: 1, Ownership: "held", Host: &ovlv1.Host{Draining: true}},
		"fenced":   {Passes: 1, Ownership: "fenced"},
	} {
		f.status = s
		c.fails(t, types.ErrPluginNotAvailable, text)
	}
	for text, s := range map[string]*ovlv1.AgentStatus{
		"another host":  {Passes: 1, Ownership: "conflict"},
		"eth0 has gone": {Passes: 1, Ownership: "held", Problems: []*ovlv1.Problem{{Severity: "error", Subject: "underlay", What: "eth0 has gone"}}},
	} {
		f.status = s
		c.fails(t, types.ErrLimitedConnectivity, text)
	}
	f.status = &ovlv1.AgentStatus{Passes: 1, Ownership: "held", Problems: []*ovlv1.Problem{{Severity: "error", Subject: "network red", What: "x"}}}
	c.must(t, nil)
}

// An agent that is away, or has only just started, is given some time.
func TestStatusWaits(t *testing.T) {
	f := startAgent(t)
	ask := func(socket string, comeback time.Duration) error {
		p := plugin{getenv: func(string) string { return socket }, stdout: io.Discard, patience: time.Minute, comeback: comeback}
		return p.status(&skel.CmdArgs{StdinData: []byte(`{"cniVersion":"1.1.0","name":"blue","type":"ovl"}`)})
	}
	fails := func(err error, says string) {
		t.Helper()
		if e, ok := errors.AsType[*types.Error](err); !ok || e.Code != types.ErrPluginNotAvailable || !strings.Contains(e.Msg, says) {
			t.Errorf("%v, want code %d and %q", err, types.ErrPluginNotAvailable, says)
		}
	}
	fails(ask(f.socket+"x", 200*time.Millisecond), "no ovl-agent answers at "+f.socket+"x: connect: no such file or directory")
	f.started(0)
	fails(ask(f.socket, 200*time.Millisecond), "just started")

	asked := make(chan error, 1)
	go func() { asked <- ask(f.socket, time.Minute) }()
	f.started(1)
	if err := <-asked; err != nil {
		t.Errorf("of an agent that has started meanwhile: %v", err)
	}
	late := filepath.Join(t.TempDir(), "agent.sock")
	go func() { asked <- ask(late, time.Minute) }()
	if err := os.Symlink(f.socket, late); err != nil {
		t.Fatal(err)
	}
	if err := <-asked; err != nil {
		t.Errorf("of an agent that has come back: %v", err)
	}
}

// started has the fake agent say how many passes it has made.
func (f *fakeAgent) started(passes uint32) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.status = &ovlv1.AgentStatus{Passes: passes, Ownership: "held"}
}

func TestVersionAndAbout(t *testing.T) {
	var v struct{ SupportedVersions []string }
	call{command: "VERSION"}.must(t, &v)
	if want := []string{"0.3.1", "0.4.0", "1.0.0", "1.1.0"}; !slices.Equal(v.SupportedVersions, want) {
		t.Errorf("supports %v, want %v", v.SupportedVersions, want)
	}
	if said, ok := (call{}).run(t); !ok || !strings.Contains(said, "CNI plugin ovl") {
		t.Errorf("without CNI_COMMAND: %q (%v)", said, ok)
	}
}

// What a configuration of the reference bridge plugin says is taken if it is so, passed
// on if only the agent knows, and refused if it is not so.
func TestAddAsABridge(t *testing.T) {
	f := startAgent(t)
	c := f.call("ADD", "0123abcd", "eth0")
	with := func(fields string) { c.conf = `{"cniVersion":"1.0.0","name":"blue","type":"ovl",` + fields + `}` }
	with(`"bridge":"cni0","isGateway":true,"isDefaultGateway":true,"forceAddress":true,"hairpinMode":true,"promiscMode":true,"macspoofchk":true,
		"ipMasq":false,"ipMasqBackend":"nftables","mtu":1400,"enabledad":true,"preserveDefaultVlan":false,
		"args":{"cni":{"ips":["10.64.3.9/24"],"mac":"02:00:00:00:00:77","labels":[{"key":"app","value":"x"},{"key":"cni.dev/network","value":"forged"},{"key":"","value":"y"}]}}`)
	var res types100.Result
	c.must(t, &res)
	r := f.requests[0]
	i := r.GetInterfaces()[0]
	if i.Masquerade == nil || i.GetMasquerade() || i.GetMtu() != 1400 || i.GetMac() != "02:00:00:00:00:77" || !slices.Equal(i.GetAddresses(), []string{"10.64.3.9"}) {
		t.Errorf("asked for %v", i)
	}
	if l := r.GetLabels(); l["app"] != "x" || l[labelNetwork] != "blue" || len(l) != 4 {
		t.Errorf("labels %v", l)
	}
	c.id = "x"
	for fields, says := range map[string]string{
		`"isGateway":false`: "--internal", `"isDefaultGateway":false`: "--internal", `"macspoofchk":false`: "macspoofchk", `"vlan":7`: "vlan",
		`"vlanTrunk":[{"id":1}]`: "vlan", `"disableContainerInterface":true`: "disableContainerInterface", `"portIsolation":true`: "portIsolation", `"mtu":-1`: "mtu",
	} {
		with(fields)
		c.fails(t, types.ErrInvalidNetworkConfig, says)
	}
}

// An agent that takes the call and never answers does not hang the runtime.
func TestPatience(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "agent.sock")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	p := plugin{getenv: func(string) string { return socket }, stdout: io.Discard, patience: 200 * time.Millisecond, comeback: comeback}
	args := &skel.CmdArgs{ContainerID: "web", IfName: "eth0", Netns: "/run/netns/nowhere", StdinData: []byte(`{"cniVersion":"1.1.0","name":"blue","type":"ovl","prevResult":{"cniVersion":"1.1.0"},"cni.dev/valid-attachments":[]}`)}
	for name, verb := range map[string]func(*skel.CmdArgs) error{"DEL": p.del, "CHECK": p.check, "GC": p.gc} {
		if e, ok := errors.AsType[*types.Error](verb(args)); !ok || e.Code != types.ErrTryAgainLater {
			t.Errorf("%s: %v, want to be told to try again later", name, e)
		}
	}
	if e, ok := errors.AsType[*types.Error](p.status(args)); !ok || e.Code != types.ErrPluginNotAvailable {
		t.Errorf("STATUS: %v", e)
	}
}
