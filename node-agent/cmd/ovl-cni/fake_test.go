package main

import (
	"bytes"
	"context"
	"encoding/json"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/containernetworking/cni/pkg/types"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	ovlv1 "github.com/ovlnet/ovl/proto/ovl/v1"
)

// asPlugin makes the test binary the plugin.
const asPlugin = "OVL_CNI_TEST_PLUGIN"

func TestMain(m *testing.M) {
	if os.Getenv(asPlugin) != "" {
		main()
		return
	}
	os.Exit(m.Run())
}

// fakeAgent answers on a unix socket as the agent does.
type fakeAgent struct {
	ovlv1.UnimplementedAttachmentServiceServer
	ovlv1.UnimplementedAgentServiceServer
	socket string

	mu       sync.Mutex
	requests []*ovlv1.AttachRequest
	atts     map[string]*ovlv1.Attachment
	ops      []*ovlv1.Op
	status   *ovlv1.AgentStatus
	refusal  error // of every call
	detached []string
}

func startAgent(t *testing.T) *fakeAgent {
	t.Helper()
	f := &fakeAgent{
		socket: filepath.Join(t.TempDir(), "agent.sock"), atts: map[string]*ovlv1.Attachment{},
		status: &ovlv1.AgentStatus{Passes: 1, Ownership: "held", Host: &ovlv1.Host{Name: "h1"}},
	}
	l, err := net.Listen("unix", f.socket)
	if err != nil {
		t.Fatal(err)
	}
	s := grpc.NewServer()
	ovlv1.RegisterAttachmentServiceServer(s, f)
	ovlv1.RegisterAgentServiceServer(s, f)
	done := make(chan error, 1)
	go func() { done <- s.Serve(l) }()
	t.Cleanup(func() {
		s.Stop()
		if err := <-done; err != nil {
			t.Errorf("serve: %v", err)
		}
	})
	return f
}

func (f *fakeAgent) Attach(_ context.Context, m *ovlv1.AttachRequest) (*ovlv1.Attachment, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.requests = append(f.requests, proto.CloneOf(m))
	if f.refusal != nil {
		return nil, f.refusal
	}
	if old, ok := f.atts[m.GetId()]; ok {
		return old, nil
	}
	want := m.GetInterfaces()[0]
	addr := "10.64.3.2/24"
	if len(want.GetAddresses()) > 0 {
		addr = want.GetAddresses()[0] + "/24"
	}
	att := &ovlv1.Attachment{
		Id: m.GetId(), Name: m.GetName(), Netns: m.GetNetns(), Labels: m.GetLabels(), Ports: m.GetPorts(),
		Interfaces: []*ovlv1.Interface{{
			Network: want.GetNetwork(), Name: want.GetName(), HostLink: "ove0123456789ab", Mac: "02:00:00:00:00:09", Mtu: 1450,
			Addresses: []string{addr, "fd64::2/64"}, Gateways: []string{"10.64.3.1", "fd64::1"}, Domain: "blue.ovl.internal",
			Routes: []*ovlv1.Route{{Destination: "10.64.3.0/24"}, {Destination: "0.0.0.0/0", Gateway: "10.64.3.1"}, {Destination: "::/0", Gateway: "fd64::1"}},
		}},
	}
	f.atts[att.GetId()] = att
	return att, nil
}

func (f *fakeAgent) Detach(_ context.Context, m *ovlv1.DetachRequest) (*ovlv1.DetachResponse, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.detached = append(f.detached, m.GetId())
	if f.refusal != nil {
		return nil, f.refusal
	}
	if _, ok := f.atts[m.GetId()]; !ok {
		return nil, status.Error(codes.NotFound, "detach: there is no such container")
	}
	delete(f.atts, m.GetId())
	return &ovlv1.DetachResponse{}, nil
}

func (f *fakeAgent) GetAttachment(_ context.Context, m *ovlv1.GetAttachmentRequest) (*ovlv1.Attachment, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if att, ok := f.atts[m.GetId()]; ok {
		return att, nil
	}
	return nil, status.Error(codes.NotFound, "get: there is no such container")
}

func (f *fakeAgent) ListAttachments(context.Context, *ovlv1.ListAttachmentsRequest) (*ovlv1.ListAttachmentsResponse, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	out := &ovlv1.ListAttachmentsResponse{}
	for _, att := range f.atts {
		out.Attachments = append(out.Attachments, att)
	}
	return out, nil
}

func (f *fakeAgent) GetDiff(_ context.Context, m *ovlv1.GetDiffRequest) (*ovlv1.GetDiffResponse, error) {
	if _, ok := f.atts[m.GetAttachment()]; !ok {
		return nil, status.Error(codes.NotFound, "diff: there is no such container")
	}
	return &ovlv1.GetDiffResponse{Ops: f.ops}, nil
}

func (f *fakeAgent) GetStatus(context.Context, *ovlv1.GetAgentStatusRequest) (*ovlv1.AgentStatus, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.status, f.refusal
}

// call is one run of the plugin.
type call struct {
	command, id, netns, ifName, args string
	conf                             string
	socket                           string
}

// plugin runs the plugin as a runtime does and returns what it printed.
func (c call) run(t *testing.T) (stdout string, ok bool) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self)
	cmd.Env = []string{asPlugin + "=1", "GORACE=atexit_sleep_ms=0", "CNI_PATH=/opt/cni/bin", "OVL_SOCKET=" + c.socket, "GOCOVERDIR=" + t.TempDir()}
	for k, v := range map[string]string{"CNI_COMMAND": c.command, "CNI_CONTAINERID": c.id, "CNI_NETNS": c.netns, "CNI_IFNAME": c.ifName, "CNI_ARGS": c.args} {
		if v != "" {
			cmd.Env = append(cmd.Env, k+"="+v)
		}
	}
	cmd.Stdin = strings.NewReader(c.conf)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err = cmd.Run()
	if errs.Len() > 0 && c.command != "" {
		t.Errorf("%s said on stderr: %s", c.command, &errs)
	}
	if c.command == "" {
		return errs.String(), err == nil
	}
	return out.String(), err == nil
}

// must runs the plugin, which must succeed, and reads its answer into to.
func (c call) must(t *testing.T, to any) {
	t.Helper()
	out, ok := c.run(t)
	if !ok {
		t.Fatalf("%s failed: %s", c.command, out)
	}
	if to == nil {
		if out != "" {
			t.Errorf("%s printed %s, want nothing", c.command, out)
		}
		return
	}
	if err := json.Unmarshal([]byte(out), to); err != nil {
		t.Fatalf("%s printed %q: %v", c.command, out, err)
	}
}

// fails runs the plugin, which must fail with that code and with text in its
// message.
func (c call) fails(t *testing.T, code uint, text string) {
	t.Helper()
	out, ok := c.run(t)
	var e types.Error
	if err := json.Unmarshal([]byte(out), &e); err != nil {
		t.Fatalf("%s printed %q, want an error: %v", c.command, out, err)
	}
	if ok || e.Code != code || !strings.Contains(e.Msg+e.Details, text) {
		t.Errorf("%s (%v): code %d %q %q, want code %d and %q in it", c.command, ok, e.Code, e.Msg, e.Details, code, text)
	}
}

func (f *fakeAgent) call(command, id, ifName string) call {
	return call{
		command: command, id: id, netns: os.DevNull, ifName: ifName, socket: f.socket,
		conf: `{"cniVersion":"1.1.0","name":"blue","type":"ovl"}`,
	}
}
