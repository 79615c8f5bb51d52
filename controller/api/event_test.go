package api_test

import (
	"bytes"
	"encoding/json"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/status"

	"github.com/ovlnet/ovl/internal/identity"
	ovlv1 "github.com/ovlnet/ovl/proto/ovl/v1"
)

// paper is a log to read while it is written.
type paper struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (p *paper) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.b.Write(b)
}

func (p *paper) String() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.b.String()
}

func (c *club) events() []*ovlv1.Event {
	c.t.Helper()
	var all []*ovlv1.Event
	req := &ovlv1.ListEventsRequest{PageSize: 2}
	for {
		r, err := ovlv1.NewEventServiceClient(c.admin).ListEvents(c.t.Context(), req)
		if err != nil {
			c.t.Fatal(err)
		}
		all = append(all, r.GetEvents()...)
		if req.PageToken = r.GetNextPageToken(); req.PageToken == "" {
			return all
		}
	}
}

func line(e *ovlv1.Event) string {
	return strings.Join([]string{e.GetWho(), e.GetAction(), e.GetWhat(), e.GetOutcome()}, "|")
}

// Every method that changes something leaves what it did, who did it, and no
// secret.
func TestEverythingIsRecorded(t *testing.T) {
	c := newClub(t)
	networks, hosts := ovlv1.NewNetworkServiceClient(c.admin), ovlv1.NewHostServiceClient(c.admin)
	tokens, members := ovlv1.NewTokenServiceClient(c.admin), ovlv1.NewMemberServiceClient(c.admin)
	mtu := uint32(1400)
	must := func(_ any, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(networks.CreateNetwork(t.Context(), &ovlv1.CreateNetworkRequest{Name: "blue", Subnets: []string{"10.64.0.0/16"}, Vni: 7}))
	must(networks.CreateNetwork(t.Context(), &ovlv1.CreateNetworkRequest{Name: "blue", Subnets: []string{"10.64.0.0/16"}, Vni: 7}))
	must(networks.UpdateNetwork(t.Context(), &ovlv1.UpdateNetworkRequest{Name: "blue", Mtu: &mtu}))
	_, err := networks.CreateNetwork(t.Context(), &ovlv1.CreateNetworkRequest{Name: "blue", Subnets: []string{"10.65.0.0/16"}, Vni: 7})
	c.refused("create", err, codes.AlreadyExists, "")
	must(networks.DeleteNetwork(t.Context(), &ovlv1.DeleteNetworkRequest{Name: "blue"}))
	tok, key := c.token(&ovlv1.CreateTokenRequest{Uses: 1}), c.key()
	must(c.join(tok, idA, "h1", key))
	wrong := tok
	wrong.Secret = strings.Repeat("a", len(tok.Secret))
	_, err = c.join(wrong, idB, "h2", c.key())
	c.refused("join", err, codes.Unauthenticated, "no such token")
	wrong.Secret = "open sesame"
	_, err = c.join(wrong, idB, "h2", c.key())
	c.refused("join", err, codes.InvalidArgument, "")
	must(hosts.DeleteHost(t.Context(), &ovlv1.DeleteHostRequest{Name: "h1"}))
	spare := c.token(&ovlv1.CreateTokenRequest{Role: "viewer", Name: "ann"})
	must(c.join(spare, "", "ann", c.key()))
	must(members.RemoveMember(t.Context(), &ovlv1.RemoveMemberRequest{Role: "viewer", Name: "ann"}))
	must(tokens.RevokeToken(t.Context(), &ovlv1.RevokeTokenRequest{Id: spare.ID}))

	want := []struct{ line, before, after string }{
		{"admin local|CreateNetwork|network blue|OK", "", `"vni":7`},
		{"admin local|CreateNetwork|network blue|OK", `"vni":7`, `"vni":7`},
		{"admin local|UpdateNetwork|network blue|OK", `"vni":7`, `"mtu":1400`},
		{"admin local|CreateNetwork|network blue|ALREADY_EXISTS", `"mtu":1400`, ""},
		{"admin local|DeleteNetwork|network blue|OK", `"mtu":1400`, ""},
		{"admin local|CreateToken|token " + tok.ID + "|OK", "", `"id":"` + tok.ID + `"`},
		{"token " + tok.ID + "|Join|host h1|OK", "", `"name":"h1"`},
		{"|Join|host h2|UNAUTHENTICATED", "", ""},
		{"|Join|host h2|INVALID_ARGUMENT", "", ""},
		{"admin local|DeleteHost|host h1|OK", `"name":"h1"`, ""},
		{"admin local|CreateToken|token " + spare.ID + "|OK", "", `"role":"viewer"`},
		{"token " + spare.ID + "|Join|viewer ann|OK", "", `"token":"` + spare.ID + `"`},
		{"admin local|RemoveMember|viewer ann|OK", `"name":"ann"`, ""},
		{"admin local|RevokeToken|token " + spare.ID + "|OK", `"creator":"admin local"`, ""},
	}
	all := c.events()
	for i, e := range all {
		before, _ := json.Marshal(e.GetBefore().AsMap())
		after, _ := json.Marshal(e.GetAfter().AsMap())
		if i >= len(want) || line(e) != want[i].line || (e.GetBefore() == nil) != (want[i].before == "") || (e.GetAfter() == nil) != (want[i].after == "") ||
			!strings.Contains(string(before), want[i].before) || !strings.Contains(string(after), want[i].after) {
			t.Errorf("event %d: %s, %s → %s", i, line(e), before, after)
		}
		if e.GetFrom() == "" || e.GetController() != "c" || time.Since(e.GetTime().AsTime()) > time.Hour {
			t.Errorf("event %d: %v", i, e)
		}
	}
	log := c.log.String()
	if n := strings.Count(log, "\n"); n != len(want) || len(all) != len(want) {
		t.Errorf("%d lines, %d events, want %d", n, len(all), len(want))
	}
	for _, secret := range []string{tok.Secret, spare.Secret, wrong.Secret, tok.String(), identity.Hash(tok.Secret).String()} {
		if strings.Contains(log, secret) {
			t.Errorf("a secret is recorded: %s", log)
		}
	}
}

// Events are the admins' alone, and that somebody else asked is one.
func TestWhoSeesEvents(t *testing.T) {
	c := newClub(t)
	for _, role := range []identity.Role{identity.Operator, identity.Viewer} {
		tok := c.token(&ovlv1.CreateTokenRequest{Role: string(role), Name: "ann"})
		key := c.key()
		if _, err := c.join(tok, "", "ann", key); err != nil {
			t.Fatal(err)
		}
		who := identity.Who{Role: role, Name: "ann"}
		conn := c.dial(credentials.NewTLS(c.credentialOf(who, key).Client()))
		_, err := ovlv1.NewEventServiceClient(conn).ListEvents(t.Context(), &ovlv1.ListEventsRequest{})
		c.refused("list", err, codes.PermissionDenied, "wrong role")
		stream, err := ovlv1.NewEventServiceClient(conn).WatchEvents(t.Context(), &ovlv1.WatchEventsRequest{})
		if err == nil {
			_, err = stream.Recv()
		}
		c.refused("watch", err, codes.PermissionDenied, "wrong role")
		all := c.events()
		for i, method := range []string{"ListEvents", "WatchEvents"} {
			if got := line(all[len(all)-2+i]); got != who.String()+"|"+method+"||PERMISSION_DENIED" {
				t.Errorf("the event is %s", got)
			}
		}
	}
}

func TestWatchEvents(t *testing.T) {
	c := newClub(t)
	client := ovlv1.NewEventServiceClient(c.admin)
	c.token(&ovlv1.CreateTokenRequest{})
	c.token(&ovlv1.CreateTokenRequest{})
	watch := func(after uint64) func() uint64 {
		stream, err := client.WatchEvents(t.Context(), &ovlv1.WatchEventsRequest{After: after})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := stream.Header(); err != nil {
			t.Fatal(err)
		}
		return func() uint64 {
			e, err := stream.Recv()
			if err != nil {
				t.Fatal(err)
			}
			return e.GetNumber()
		}
	}
	all, resumed, fresh := watch(0), watch(1), watch(2)
	for range 3 {
		c.token(&ovlv1.CreateTokenRequest{})
	}
	for name, w := range map[string]struct {
		next  func() uint64
		first uint64
	}{"all": {all, 1}, "resumed": {resumed, 2}, "new": {fresh, 3}} {
		for n := w.first; n <= 5; n++ {
			if got := w.next(); got != n {
				t.Errorf("%s: number %d, want %d", name, got, n)
			}
		}
	}
	stream, err := client.WatchEvents(t.Context(), &ovlv1.WatchEventsRequest{After: 6})
	if err == nil {
		_, err = stream.Recv()
	}
	if status.Code(err) != codes.OutOfRange {
		t.Errorf("ahead of all: %v", err)
	}
}
