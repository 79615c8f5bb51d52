package attach

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/ovlnet/ovl/internal/cluster"
	"github.com/ovlnet/ovl/internal/dataplane"
	"github.com/ovlnet/ovl/node-agent/lease"
)

func TestDetach(t *testing.T) {
	for _, by := range []string{"id", "name"} {
		t.Run(by, func(t *testing.T) {
			r := newRig(t, network("blue", 7, 8, "10.64.0.0/16"))
			req := ask("web", "blue")
			req.ID = "0123abcd"
			r.mustAttach(t, req)
			r.missing[req.NetNS] = true // a namespace that is gone is no obstacle
			if err := r.Detach(t.Context(), map[string]string{"id": req.ID, "name": req.Name}[by]); err != nil {
				t.Fatal(err)
			}
			r.wantEmpty(t)
			if n := len(r.loop.Plan().State.Addrs); n != 1 { // the gateway's
				t.Errorf("%d addresses planned after the detach, want 1", n)
			}
			wantCode(t, r.Detach(t.Context(), req.ID), codes.NotFound)
		})
	}
}

// An address that was given back rests: it is the last to be chosen again.
func TestDetachedAddressRests(t *testing.T) {
	r := newRig(t, network("blue", 7, 12, "10.64.0.0/16"))
	first := r.mustAttach(t, ask("web", "blue")).Interfaces[0].Addrs[0]
	for i := range 12 { // the other addresses of a /28
		if err := r.Detach(t.Context(), "web"); err != nil {
			t.Fatal(err)
		}
		if got := r.mustAttach(t, ask("web", "blue")).Interfaces[0].Addrs[0]; got == first {
			t.Fatalf("%s chosen again after %d others", first, i)
		}
	}
	if err := r.Detach(t.Context(), "web"); err != nil {
		t.Fatal(err)
	}
	if got := r.mustAttach(t, ask("web", "blue")).Interfaces[0].Addrs[0]; got != first || r.subnets.takes != 1 {
		t.Errorf("got %s with %d subnets, want %s again", got, r.subnets.takes, first)
	}
}

// What a removed container had is nobody's until a pass has taken its rows away.
func TestDetachKeepsAddressUntilSettled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, network("blue", 7, 14, "10.64.0.0/16")) // one address a subnet
		a := r.mustAttach(t, ask("web", "blue")).Interfaces[0].Addrs[0]
		r.loop.deaf = true
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- r.Detach(ctx, "web") }()
		synctest.Wait()
		cancel() // the caller goes; what has begun goes on
		synctest.Wait()
		if len(r.List()) != 0 {
			t.Error("still planned")
		}
		r.mu.Lock()
		holder := r.index.addrs[netAddr{"blue", a.Addr()}]
		r.mu.Unlock()
		if holder != "web" {
			t.Errorf("address is %q's before a pass, want web's", holder)
		}
		if err := <-done; err != nil {
			t.Error(err)
		}
		r.wantEmpty(t)
	})
}

func TestVanished(t *testing.T) {
	r := newRig(t, network("blue", 7, 8, "10.64.0.0/16"))
	for _, name := range []string{"a", "b", "c"} {
		r.mustAttach(t, ask(name, "blue"))
	}
	r.missing["/run/netns/a"], r.missing["/run/netns/c"] = true, true
	unlock, _ := r.ids.try("c") // being attached again just now
	// b's old namespace was reported gone, but there is one again.
	r.Vanished([]dataplane.NS{"/run/netns/a", "/run/netns/b", "/run/netns/c", "/run/netns/other"})
	unlock()
	if got := ids(r.List()); got != "[b c]" {
		t.Errorf("left %s, want [b c]", got)
	}
	if len(r.subnets.published) != 2 {
		t.Errorf("published %v, want b and c", r.subnets.published)
	}
	if _, still := r.index.claims["a"]; still {
		t.Error("what a had is still claimed")
	}
	r.mustAttach(t, ask("d", "blue"))
}

// A process has ended, and another one has its number by now.
func TestAPathThatLeadsElsewhere(t *testing.T) {
	r := newRig(t, network("blue", 7, 8, "10.64.0.0/16"))
	const path = "/proc/7/ns/net"
	r.pins[path] = "boot-100"
	first := ask("first", "blue")
	first.NetNS = path
	att := r.mustAttach(t, first)
	if att.Pin != "boot-100" {
		t.Fatalf("pin %q, want boot-100", att.Pin)
	}
	if got := r.mustAttach(t, first); got.ID != att.ID { // the same again
		t.Errorf("again: %+v", got)
	}
	ns := dataplane.NSOf(att)
	if ns.Path() != path || ns.Pin() != "boot-100" || ns.String() != path {
		t.Errorf("namespace %q: path %q, pin %q, text %q", string(ns), ns.Path(), ns.Pin(), ns)
	}

	r.pins[path] = "boot-200"
	if _, err := r.Attach(t.Context(), first); status.Code(err) != codes.AlreadyExists {
		t.Errorf("the same words for another namespace: %v, want ALREADY_EXISTS", err)
	}
	if _, err := r.Connect(t.Context(), "first", Want{Network: "blue", Name: "eth1"}); err == nil {
		t.Error("connected what is at the path now")
	}
	second := ask("second", "blue") // eth0 as well
	second.NetNS = path
	if got := r.mustAttach(t, second); got.Pin != "boot-200" {
		t.Errorf("pin %q, want boot-200", got.Pin)
	}
	r.Vanished([]dataplane.NS{ns})
	if got := ids(r.List()); got != "[second]" {
		t.Errorf("left %s, want [second]", got)
	}
	if again := startRig(t, r.db, r.loop, r.subnets).List(); len(again) != 1 || again[0].Pin != "boot-200" {
		t.Errorf("after a restart: %+v", again)
	}
}

func ids(atts []cluster.Attachment) string {
	var out []string
	for _, a := range atts {
		out = append(out, a.ID)
	}
	return fmt.Sprint(out)
}

func TestFindIdle(t *testing.T) {
	start := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	s := &fakeSubnets{}
	s.hold("blue", "10.64.1.0/24", lease.StateHeld)
	s.hold("blue", "10.64.2.0/24", lease.StateHeld)
	s.hold("blue", "10.64.3.0/24", lease.Lost)
	att := cluster.Attachment{ID: "web", Interfaces: []cluster.Interface{{Network: "blue", Addrs: pfxs("10.64.1.7/24")}}}

	idle, seen := findIdle(s.held, []cluster.Attachment{att}, nil, start, time.Minute)
	if len(idle) != 0 {
		t.Errorf("idle %v when seen for the first time", idle)
	}
	idle, seen = findIdle(s.held, []cluster.Attachment{att}, seen, start.Add(59*time.Second), time.Minute)
	if len(idle) != 0 {
		t.Errorf("idle %v before its rest", idle)
	}
	idle, seen = findIdle(s.held, nil, seen, start.Add(time.Minute), time.Minute)
	if len(idle) != 1 || idle[0].Prefix != pfx("10.64.2.0/24") {
		t.Errorf("idle %v, want 10.64.2.0/24 alone: one was in use, the other is not ours", idle)
	}
	if idle, _ = findIdle(s.held, nil, seen, start.Add(119*time.Second), time.Minute); len(idle) != 2 {
		t.Errorf("idle %v, want both", idle)
	}
}

func TestGiveBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, network("blue", 7, 8, "10.64.0.0/16"), network("red", 8, 8, "10.65.0.0/16"))
		r.mustAttach(t, ask("web", "blue"))
		r.mustAttach(t, ask("db", "red"))
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- r.GiveBack(ctx) }()
		synctest.Wait()
		if err := r.Detach(t.Context(), "db"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * Rest) // of the bubble's clock
		synctest.Wait()
		if len(r.subnets.released) != 1 || r.subnets.released[0].Network != "red" {
			t.Errorf("released %v, want red's subnet alone", r.subnets.released)
		}
		r.mustAttach(t, ask("db", "red")) // takes one anew
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		if len(r.index.retired) != 0 {
			t.Errorf("still retired: %v", r.index.retired)
		}
	})
}

// A draining host gives back what is unused at once: when it learns that it is one,
// and when the last container of a subnet goes.
func TestGiveBackDraining(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, network("blue", 7, 8, "10.64.0.0/16"), network("red", 8, 8, "10.65.0.0/16"))
		r.subnets.hold("red", "10.65.3.0/24", lease.StateHeld)
		r.mustAttach(t, ask("web", "blue"))
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- r.GiveBack(ctx) }()
		synctest.Wait()
		r.Tidy()
		synctest.Wait()
		if len(r.subnets.released) != 0 {
			t.Errorf("released %v before the drain", r.subnets.released)
		}
		r.loop.hosts = []cluster.Host{{ID: self, Name: "h1", Draining: true}}
		r.Tidy()
		synctest.Wait()
		if got := r.subnets.released; len(got) != 1 || got[0].Network != "red" {
			t.Errorf("released %v, want red's unused subnet alone", got)
		}
		if err := r.Detach(t.Context(), "web"); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if len(r.subnets.held) != 0 {
			t.Errorf("still held: %v", r.subnets.held)
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// A subnet that is being given back is not chosen from; one in use is not given
// back.
func TestGiveBackRaces(t *testing.T) {
	r := newRig(t, network("blue", 7, 8, "10.64.0.0/16"))
	r.subnets.hold("blue", "10.64.3.0/24", lease.StateHeld)
	l := r.subnets.held[0].Lease
	var during cluster.Attachment
	err := r.giveBack(t.Context(), l, func(ctx context.Context, l cluster.Lease) error {
		req := ask("web", "blue")
		att, short, err := r.tryClaim(req, map[string]cluster.Network{"blue": r.loop.networks[0]})
		if short == nil || err != nil {
			t.Errorf("chose %v (%v) while the subnet was given back", att, err)
		}
		return r.subnets.Release(ctx, l)
	})
	if err != nil {
		t.Fatal(err)
	}
	during = r.mustAttach(t, ask("web", "blue"))
	l = cluster.Lease{Network: "blue", Prefix: during.Interfaces[0].Addrs[0].Masked(), Host: self}
	if err := r.giveBack(t.Context(), l, func(context.Context, cluster.Lease) error {
		t.Error("released a subnet in use")
		return nil
	}); err != nil {
		t.Fatal(err)
	}
}

// A container may have several attachments, which bear one name; removing by
// that name must not remove one at random.
func TestSeveralOfOneName(t *testing.T) {
	r := newRig(t, network("blue", 7, 8, "10.64.0.0/16"))
	for i, id := range []string{"x-eth0", "x-eth1"} {
		req := ask("web", "blue")
		req.ID, req.Interfaces[0].Name = id, fmt.Sprintf("eth%d", i)
		r.mustAttach(t, req)
	}
	wantCode(t, r.Detach(t.Context(), "web"), codes.FailedPrecondition)
	for _, what := range []string{"x-eth0", "web"} {
		if err := r.Detach(t.Context(), what); err != nil {
			t.Errorf("detach %s: %v", what, err)
		}
	}
	r.wantEmpty(t)
}
