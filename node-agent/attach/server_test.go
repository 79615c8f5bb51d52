package attach

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	reflectionpb "google.golang.org/grpc/reflection/grpc_reflection_v1"

	"github.com/ovlnet/ovl/internal/cluster"
	"github.com/ovlnet/ovl/internal/plan"
	"github.com/ovlnet/ovl/internal/reconcile"
	"github.com/ovlnet/ovl/node-agent/lease"
	ovlv1 "github.com/ovlnet/ovl/proto/ovl/v1"
)

func TestListen(t *testing.T) {
	path := filepath.Join(t.TempDir(), "run", "agent.sock")
	first, err := Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	st, err := os.Stat(path)
	if err != nil || st.Mode().Perm() != 0o660 || st.Mode().Type() != os.ModeSocket {
		t.Fatalf("%v (%v), want a socket of mode 0660", st.Mode(), err)
	}
	if _, err := Listen(path); err == nil || !strings.Contains(err.Error(), "another agent answers") {
		t.Errorf("a second agent: %v", err)
	}
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the socket is still there after it was closed: %v", err)
	}
	if entries, _ := os.ReadDir(filepath.Dir(path)); len(entries) != 0 {
		t.Errorf("left over: %v", entries)
	}
}

// A socket that a killed agent left is replaced; closing the old listener later
// does not take the new one's away.
func TestListenStale(t *testing.T) {
	path := filepath.Join(t.TempDir(), "agent.sock")
	old, err := Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	_ = old.(*socket).UnixListener.Close() // as if killed: the file stays
	if _, err := os.Stat(path); err != nil {
		t.Fatalf("no stale socket to test with: %v", err)
	}
	l, err := Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	_ = old.Close()
	conn, err := net.Dial("unix", path)
	if err != nil {
		t.Fatalf("the new socket: %v", err)
	}
	_ = conn.Close()
}

func TestListenNotASocket(t *testing.T) {
	path := filepath.Join(t.TempDir(), "agent.sock")
	if err := os.WriteFile(path, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Listen(path); err == nil {
		t.Error("listening at a file")
	}
	if raw, _ := os.ReadFile(path); string(raw) != "precious" {
		t.Error("the file was touched")
	}
	if _, err := Listen("/" + strings.Repeat("a", 200)); err == nil {
		t.Error("listening at a path longer than sun_path")
	}
}

// serve runs the real server over the rig and returns a connection.
func serve(t *testing.T, r *rig) *grpc.ClientConn {
	t.Helper()
	return serveAt(t, r, filepath.Join(t.TempDir(), "agent.sock"))
}

func serveAt(t *testing.T, r *rig, path string) *grpc.ClientConn {
	t.Helper()
	l, err := Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	agent := NewAgentService(r.Attachments, Process{
		Host:    func() cluster.Host { return cluster.Host{ID: self, Name: "h1"} },
		Version: "v1", Commit: "c", Started: time.Unix(1, 0), StoreEndpoints: []string{"http://192.0.2.9:6779"},
	})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- Serve(ctx, l, NewService(r.Attachments), agent) }()
	conn, err := grpc.NewClient("unix:"+path, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = conn.Close()
		cancel()
		if err := <-done; err != nil {
			t.Errorf("serve: %v", err)
		}
	})
	return conn
}

func TestService(t *testing.T) {
	r := newRig(t, network("blue", 7, 8, "10.64.0.0/16"), network("red", 8, 8, "10.65.0.0/16"))
	r.subnets.hold("blue", "10.64.3.0/24", lease.StateHeld)
	conn := serve(t, r)
	c, ctx := ovlv1.NewAttachmentServiceClient(conn), t.Context()
	att, err := c.Attach(ctx, &ovlv1.AttachRequest{Name: "web", Netns: "/run/netns/web", Interfaces: []*ovlv1.InterfaceRequest{{Network: "blue"}}})
	if err != nil {
		t.Fatal(err)
	}
	i := att.GetInterfaces()[0]
	if i.GetAddresses()[0] != "10.64.3.2/24" || i.GetGateways()[0] != "10.64.3.1" || i.GetMtu() != 1450 || i.GetHostLink() != plan.HostLink("web", "eth0") || i.GetMac() == "" {
		t.Errorf("answer %v", i)
	}
	_, err = c.Attach(ctx, &ovlv1.AttachRequest{Name: "web"})
	wantCode(t, err, codes.InvalidArgument)
	for network, want := range map[string]int{"": 1, "blue": 1, "red": 0} {
		list, err := c.ListAttachments(ctx, &ovlv1.ListAttachmentsRequest{Network: network})
		if err != nil || len(list.GetAttachments()) != want {
			t.Errorf("list of network %q: %v (%v), want %d", network, list, err, want)
		}
	}
	if got, err := c.GetAttachment(ctx, &ovlv1.GetAttachmentRequest{Id: "web"}); err != nil || got.GetInterfaces()[0].GetMtu() != 1450 {
		t.Errorf("get: %v (%v)", got, err)
	}
	_, err = c.GetAttachment(ctx, &ovlv1.GetAttachmentRequest{Id: "db"})
	wantCode(t, err, codes.NotFound)
	_, err = c.Detach(ctx, &ovlv1.DetachRequest{})
	wantCode(t, err, codes.InvalidArgument)
	if _, err = c.Detach(ctx, &ovlv1.DetachRequest{Id: "web"}); err != nil {
		t.Error(err)
	}
	_, err = c.Detach(ctx, &ovlv1.DetachRequest{Id: "web"})
	wantCode(t, err, codes.NotFound)
}

func TestAgentService(t *testing.T) {
	r := newRig(t, network("blue", 7, 8, "10.64.0.0/16"))
	r.subnets.hold("blue", "10.64.3.0/24", lease.StateHeld)
	conn := serve(t, r)
	c, ctx := ovlv1.NewAgentServiceClient(conn), t.Context()
	r.mustAttach(t, ask("web", "blue"))
	row := r.loop.Plan().State.Rows()[0]
	r.loop.status = Status{
		Passes: 5e9, LastPass: time.Unix(2, 0), Wanted: 7, UnderlayLink: "eth0", UnderlayMTU: 1500, StoreConnected: true,
		Outcomes: []reconcile.Outcome{{Row: row, Condition: reconcile.Failed, Err: errors.Join(errDown, errDown), Tries: 3}},
		Problems: []cluster.Problem{{Severity: cluster.SeverityWarning, Subject: "network blue", What: "w"}},
	}
	st, err := c.GetStatus(ctx, &ovlv1.GetAgentStatusRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if s := st.GetSubnets()[0]; s.GetUsed() != 1 || s.GetSize() != 253 || s.GetState() != "held" {
		t.Errorf("subnet %v, want 1 of 253 used", s)
	}
	if f := st.GetFailing()[0]; f.GetKey() != row.Key().String() || f.GetTries() != 3 || strings.Contains(f.GetError(), "\n") {
		t.Errorf("failing %v", f)
	}
	if h := st.GetHost(); h.GetName() != "h1" || h.GetState() != "unhealthy" || h.GetEndpoints() != 1 {
		t.Errorf("host %v", h)
	}
	if st.GetPasses() != 1<<32-1 || st.GetAttachments() != 1 || len(st.GetProblems()) != 1 || st.GetEtcdSince() != nil {
		t.Errorf("status %v", st)
	}
	plan, err := c.GetPlan(ctx, &ovlv1.GetPlanRequest{})
	if err != nil || len(plan.GetRows()) != r.loop.Plan().State.Len() || plan.GetRows()[0].GetText() != row.String() {
		t.Errorf("plan of %d rows (%v)", len(plan.GetRows()), err)
	}
	diff, err := c.GetDiff(ctx, &ovlv1.GetDiffRequest{})
	if err != nil || len(diff.GetOps()) == 0 || diff.GetOps()[0].GetVerb() != "create" || diff.GetOps()[0].GetWhy() == "" {
		t.Errorf("diff %v (%v)", diff, err)
	}
	who, err := c.Whois(ctx, &ovlv1.WhoisRequest{Query: "web"})
	if err != nil || len(who.GetMatches()) != 1 {
		t.Errorf("whois: %v (%v)", who, err)
	}
	_, err = c.Whois(ctx, &ovlv1.WhoisRequest{Query: "nobody"})
	wantCode(t, err, codes.NotFound)
	_, err = c.Whois(ctx, &ovlv1.WhoisRequest{})
	wantCode(t, err, codes.InvalidArgument)
}

func TestHealthAndReflection(t *testing.T) {
	conn := serve(t, newRig(t))
	h, err := healthpb.NewHealthClient(conn).Check(t.Context(), &healthpb.HealthCheckRequest{})
	if err != nil || h.GetStatus() != healthpb.HealthCheckResponse_SERVING {
		t.Errorf("health %v (%v)", h, err)
	}
	stream, err := reflectionpb.NewServerReflectionClient(conn).ServerReflectionInfo(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := stream.Send(&reflectionpb.ServerReflectionRequest{MessageRequest: &reflectionpb.ServerReflectionRequest_ListServices{}}); err != nil {
		t.Fatal(err)
	}
	got, err := stream.Recv()
	if err != nil || !strings.Contains(got.String(), "ovl.v1.AttachmentService") || !strings.Contains(got.String(), "ovl.v1.AgentService") {
		t.Errorf("services %v (%v)", got, err)
	}
}
