package audit_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	"github.com/ovlnet/ovl/controller/audit"
	"github.com/ovlnet/ovl/internal/store"
	"github.com/ovlnet/ovl/internal/store/mem"
	ovlv1 "github.com/ovlnet/ovl/proto/ovl/v1"
)

const (
	create = ovlv1.NetworkService_CreateNetwork_FullMethodName
	list   = ovlv1.NetworkService_ListNetworks_FullMethodName
	join   = ovlv1.JoinService_Join_FullMethodName
	renew  = ovlv1.JoinService_Renew_FullMethodName
)

// world is controllers that share a store, in a bubble of time.
type world struct {
	t     *testing.T
	store *mem.Store
	logs  map[string]*bytes.Buffer
	stops []func()
}

func inWorld(t *testing.T, test func(*world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		s := mem.New()
		defer s.Close()
		w := &world{t: t, store: s, logs: map[string]*bytes.Buffer{}}
		test(w)
		for _, stop := range w.stops {
			stop()
		}
	})
}

// controller returns a running trail, which ends with the world.
func (w *world) controller(name string) *audit.Trail {
	w.logs[name] = &bytes.Buffer{}
	t := audit.New(audit.Config{
		Store: w.store.NewClient(), Log: audit.Stream(w.logs[name]), Controller: name, Reports: slog.New(slog.DiscardHandler),
	})
	ctx, cancel := context.WithCancel(w.t.Context())
	ended := make(chan struct{})
	go func() { defer close(ended); t.Run(ctx) }()
	w.stops = append(w.stops, func() { cancel(); <-ended })
	return t
}

func (w *world) lines(name string) []string {
	return strings.Split(strings.TrimSpace(w.logs[name].String()), "\n")
}

func from(address string) context.Context {
	return peer.NewContext(context.Background(), &peer.Peer{Addr: &net.TCPAddr{IP: net.ParseIP(address), Port: 9}})
}

func by(who string) func(context.Context) {
	return func(ctx context.Context) { audit.By(ctx, who) }
}

func nobody(context.Context) {}

func made(name string) *ovlv1.CreateNetworkRequest { return &ovlv1.CreateNetworkRequest{Name: name} }

func (w *world) events(t *audit.Trail) []*ovlv1.Event {
	w.t.Helper()
	all, _, err := t.Events(w.t.Context())
	if err != nil {
		w.t.Fatal(err)
	}
	return all
}

func TestEvent(t *testing.T) {
	inWorld(t, func(w *world) {
		a := w.controller("a")
		a.Call(from("192.0.2.1"), create, made("blue"), func(ctx context.Context) {
			audit.By(ctx, "operator ann")
			audit.Changed(ctx, &ovlv1.Network{Name: "blue", Mtu: 1400}, &ovlv1.Network{Name: "blue", Mtu: 1450})
		}, nil)
		a.Call(from("192.0.2.1"), list, &ovlv1.ListNetworksRequest{}, by("operator ann"), nil)
		a.Call(from("192.0.2.1"), list, &ovlv1.ListNetworksRequest{}, by("operator ann"), status.Error(codes.Unavailable, "away"))
		a.Call(from("2001:db8::1"), create, made("red"), func(ctx context.Context) {
			audit.By(ctx, "viewer bob")
			audit.Changed(ctx, nil, &ovlv1.Network{Name: "red"})
		}, status.Error(codes.PermissionDenied, "wrong\nrole"))
		a.Call(from("192.0.2.1"), list, nil, by("host h"), status.Error(codes.PermissionDenied, "wrong role"))
		want := []string{
			`1 operator ann 192.0.2.1:9 CreateNetwork network blue OK  map[mtu:1400 name:blue]→map[mtu:1450 name:blue]`,
			`2 viewer bob [2001:db8::1]:9 CreateNetwork network red PERMISSION_DENIED wrong?role map[]→map[]`,
			`3 host h 192.0.2.1:9 ListNetworks  PERMISSION_DENIED wrong role map[]→map[]`,
		}
		for i, e := range w.events(a) {
			got := fmt.Sprint(e.GetNumber(), " ", strings.Join([]string{e.GetWho(), e.GetFrom(), e.GetAction(), e.GetWhat(), e.GetOutcome(), e.GetReason()}, " "), " ", e.GetBefore().AsMap(), "→", e.GetAfter().AsMap())
			if i >= len(want) || got != want[i] {
				t.Errorf("event %s", got)
			}
		}
		if lines := w.lines("a"); len(lines) != 3 || !strings.Contains(lines[0], `"before":{"mtu":1400,"name":"blue"},"after":{"mtu":1450,"name":"blue"}`) || !json.Valid([]byte(lines[0])) {
			t.Errorf("the log is %q", lines)
		}
	})
}

// Secrets are marked where they are defined, and never recorded at any depth.
func TestSecretsAreLeftOut(t *testing.T) {
	inWorld(t, func(w *world) {
		a := w.controller("a")
		a.Call(from("192.0.2.1"), create, &ovlv1.JoinRequest{Secret: "sesame", TokenId: "x", Name: "h1"}, func(ctx context.Context) {
			audit.By(ctx, "admin local")
			audit.Changed(ctx, &ovlv1.ListTokensResponse{Tokens: []*ovlv1.Token{{Id: "a", Text: "sesame"}}}, &ovlv1.Token{Id: "b", Text: "sesame"})
		}, nil)
		if log := w.logs["a"].String(); strings.Contains(log, "sesame") || !strings.Contains(log, `"after":{"id":"b"}`) {
			t.Errorf("the log is %s", log)
		}
	})
}

// The store keeps so many, however many there were, and neither refusals nor renewals
// push out changes; all controllers' events have one order.
func TestRingsAreBounded(t *testing.T) {
	inWorld(t, func(w *world) {
		a, b, c := w.controller("a"), w.controller("b"), w.controller("c")
		for i := range 3000 {
			c.Call(from("192.0.2.1"), renew, &ovlv1.RenewRequest{}, by(fmt.Sprint("host h", i)), nil)
			a.Call(from("192.0.2.1"), create, made("a"), by("admin local"), nil)
			b.Call(from("192.0.2.1"), create, made("b"), by(fmt.Sprint("viewer v", i)), status.Error(codes.PermissionDenied, "no"))
			time.Sleep(2 * time.Second) // as fast as refusals are recorded at all
		}
		all := w.events(b)
		kept := map[string]int{}
		last := uint64(0)
		for _, e := range all {
			if e.GetNumber() <= last {
				t.Fatalf("number %d after %d", e.GetNumber(), last)
			}
			last = e.GetNumber()
			kept[e.GetController()]++
		}
		if kept["a"] != 2048 || kept["b"] != 512 || kept["c"] != 512 || last != 9000 {
			t.Errorf("%v, last %d", kept, last)
		}
	})
}

// Who floods is recorded a few times and counted, and nobody else is.
func TestRefusalsAreLimited(t *testing.T) {
	inWorld(t, func(w *world) {
		a := w.controller("a")
		denied := status.Error(codes.Unauthenticated, "no such token")
		for range 1000 {
			a.Call(from("192.0.2.66"), join, &ovlv1.JoinRequest{}, nobody, denied)
		}
		a.Call(from("192.0.2.7"), join, &ovlv1.JoinRequest{Name: "h7"}, nobody, status.Error(codes.InvalidArgument, "no"))
		a.Call(from("192.0.2.66"), create, made("blue"), by("admin local"), nil)
		all := w.events(a)
		if len(all) != 22 || all[20].GetUnrecorded() != 980 || all[20].GetWhat() != "member h7" || all[21].GetWho() != "admin local" {
			t.Errorf("%d events, %v", len(all), all[max(0, len(all)-2):])
		}
		for i := range 2000 { // from everywhere
			a.Call(from(fmt.Sprintf("2001:db8:%x::1", i)), join, &ovlv1.JoinRequest{}, nobody, denied)
		}
		if all := w.events(a); len(all) > 302 {
			t.Errorf("%d events", len(all))
		}
	})
}

// While the store is away calls are answered and the log is written; the store
// gets the newest when it is back.
func TestStoreAway(t *testing.T) {
	inWorld(t, func(w *world) {
		a := w.controller("a")
		w.store.SetAvailable(false)
		for i := range 1500 {
			a.Call(from("192.0.2.1"), create, made(fmt.Sprint("n", i)), by("admin local"), nil)
		}
		if _, _, err := a.Events(w.t.Context()); !errors.Is(err, store.ErrUnavailable) && !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("events: %v", err)
		}
		w.store.SetAvailable(true)
		all := w.events(a)
		if len(all) != 1000 || all[0].GetWhat() != "network n500" || all[999].GetWhat() != "network n1499" || all[999].GetNumber() != 1000 {
			t.Errorf("%d events, %v", len(all), all)
		}
		if lines := w.lines("a"); len(lines) != 1500 {
			t.Errorf("%d lines", len(lines))
		}
	})
}

// What waits when a controller stops gets its chance.
func TestLastEvents(t *testing.T) {
	inWorld(t, func(w *world) {
		a := audit.New(audit.Config{Store: w.store.NewClient(), Log: audit.Stream(&bytes.Buffer{}), Controller: "a", Reports: slog.New(slog.DiscardHandler)})
		a.Started("v1")
		a.Stopped()
		ctx, cancel := context.WithCancel(w.t.Context())
		cancel()
		a.Run(ctx)
		if all := w.events(w.controller("b")); len(all) != 2 || all[1].GetAction() != "StopController" || all[0].GetAfter().GetFields()["version"].GetStringValue() != "v1" {
			t.Errorf("%v", all)
		}
	})
}

// Somebody wrote into the ring, or lost its head: events go behind those there are.
func TestBadHead(t *testing.T) {
	for name, value := range map[string]string{
		"gone": "", "nonsense": "{", "null": "null", "no sense": `{"number":1,"changes":2}`, "no more": `{"number":1,"renewals":2}`, "far": `{"number":9007199254740991}`, "long": strings.Repeat(" ", 5000),
	} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, func(w *world) {
				a := w.controller("a")
				for range 3 {
					a.Call(from("192.0.2.1"), create, made("blue"), by("admin local"), nil)
				}
				w.events(a)
				writes := []store.Write{store.Put(audit.Prefix+"head", []byte(value), 0), store.Put(audit.Prefix+"changes/0007", []byte("bad"), 0)}
				if value == "" {
					writes[0] = store.Delete(audit.Prefix + "head")
				}
				if _, err := w.store.Txn(w.t.Context(), nil, writes); err != nil {
					t.Fatal(err)
				}
				a.Call(from("192.0.2.1"), create, made("red"), by("admin local"), nil)
				all := w.events(a)
				if n := len(all); n == 0 || all[n-1].GetWhat() != "network red" || n != 4 || all[3].GetNumber() != 4 {
					t.Errorf("%v", all)
				}
			})
		})
	}
}

// fails is a log on a full disk.
type fails struct{ err error }

func (f *fails) Append([]byte) error { return f.err }
func (f *fails) Close() error        { return nil }

func TestLogThatFails(t *testing.T) {
	inWorld(t, func(w *world) {
		var reports bytes.Buffer
		disk := &fails{errors.New("write audit log: no space left on device")}
		a := audit.New(audit.Config{Store: w.store.NewClient(), Log: disk, Controller: "a", Reports: slog.New(slog.NewTextHandler(&reports, nil))})
		if p, broken := a.Problem(); broken {
			t.Errorf("at first: %v", p)
		}
		a.Started("v1")
		a.Started("v1")
		if p, broken := a.Problem(); !broken || !strings.Contains(p.What, "no space left") {
			t.Errorf("%v %v", p, broken)
		}
		disk.err = nil
		a.Started("v1")
		if p, broken := a.Problem(); broken {
			t.Errorf("when there is room again: %v", p)
		}
		if n := strings.Count(reports.String(), "\n"); n != 2 {
			t.Errorf("%d reports: %s", n, reports.String())
		}
	})
}

// An object that is too large is in the log, and named in the store.
func TestLargeObject(t *testing.T) {
	inWorld(t, func(w *world) {
		a := w.controller("a")
		n := &ovlv1.Network{Name: "blue", Labels: map[string]string{"a": strings.Repeat("x", 5000)}}
		a.Call(from("192.0.2.1"), create, made("blue"), func(ctx context.Context) { audit.By(ctx, "admin local"); audit.Changed(ctx, nil, n) }, nil)
		n.Labels["b"] = strings.Repeat("x", 100_000)
		a.Call(from("192.0.2.1"), create, made(strings.Repeat("\x00", 100)), func(ctx context.Context) {
			audit.By(ctx, strings.Repeat(`"`, 1000))
			audit.Changed(ctx, nil, n)
		}, status.Error(codes.Internal, strings.Repeat(`\`, 10_000)))
		a.Call(from("192.0.2.1"), create, made("blue"), func(ctx context.Context) { audit.By(ctx, "admin local"); audit.Changed(ctx, n, n) }, nil)
		all := w.events(a)
		if len(all) != 3 || !all[0].GetClipped() || all[0].GetAfter() != nil || all[0].GetWhat() != "network blue" || all[1].GetClipped() {
			t.Errorf("%v", all)
		}
		lines := w.lines("a")
		if !strings.Contains(lines[0], "xxxxx") || strings.Contains(lines[2], "xxxxx") || !strings.Contains(lines[2], `"clipped":true`) {
			t.Errorf("lines of %d, %d, %d bytes", len(lines[0]), len(lines[1]), len(lines[2]))
		}
	})
}

// Every method is one that changes nothing, or says what it is about.
func TestEveryMethodIsSorted(t *testing.T) {
	requests := map[string]any{
		"CreateNetwork": made("x"), "UpdateNetwork": &ovlv1.UpdateNetworkRequest{Name: "x"}, "DeleteNetwork": &ovlv1.DeleteNetworkRequest{Name: "x"},
		"DrainHost": &ovlv1.DrainHostRequest{Name: "x"}, "DeleteHost": &ovlv1.DeleteHostRequest{Name: "x"},
		"CreateToken": &ovlv1.CreateTokenRequest{}, "RevokeToken": &ovlv1.RevokeTokenRequest{Id: "x"},
		"RemoveMember": &ovlv1.RemoveMemberRequest{Role: "viewer", Name: "x"}, "Join": &ovlv1.JoinRequest{Name: "x"}, "Renew": &ovlv1.RenewRequest{},
	}
	for _, d := range []grpc.ServiceDesc{
		ovlv1.NetworkService_ServiceDesc, ovlv1.HostService_ServiceDesc, ovlv1.SubnetService_ServiceDesc, ovlv1.EndpointService_ServiceDesc,
		ovlv1.ControllerService_ServiceDesc, ovlv1.TokenService_ServiceDesc, ovlv1.JoinService_ServiceDesc, ovlv1.MemberService_ServiceDesc, ovlv1.EventService_ServiceDesc,
	} {
		for _, m := range d.Methods {
			full := "/" + d.ServiceName + "/" + m.MethodName
			if audit.Reads(full) == (audit.Subject(requests[m.MethodName]) != "") {
				t.Errorf("%s: it changes something, or not: say so in subject.go, and what it is about", full)
			}
		}
		for _, m := range d.Streams {
			if !audit.Reads("/" + d.ServiceName + "/" + m.StreamName) {
				t.Errorf("%s: a stream that changes something is not recorded", m.StreamName)
			}
		}
	}
}
