package attach

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"reflect"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/ovlnet/ovl/internal/cluster"
	"github.com/ovlnet/ovl/internal/dataplane"
	"github.com/ovlnet/ovl/internal/ipam"
	"github.com/ovlnet/ovl/internal/reconcile"
	"github.com/ovlnet/ovl/node-agent/lease"
)

func TestAttach(t *testing.T) {
	r := newRig(t, network("blue", 7, 8, "10.64.0.0/16", "fd64::/48"), network("red", 8, 8, "10.65.0.0/16"))
	req := ask("web", "blue", "red")
	req.Labels = map[string]string{"tier": "front"}
	req.Interfaces[0].Aliases = []string{"www"}
	att := r.mustAttach(t, req)

	if got := len(att.Interfaces[0].Addrs); got != 2 {
		t.Fatalf("%d addresses on a network of two families, want 2", got)
	}
	for _, i := range att.Interfaces {
		for _, p := range i.Addrs {
			held := false
			for _, h := range r.subnets.Held() {
				held = held || h.Network == i.Network && h.Prefix == p.Masked()
			}
			if !held {
				t.Errorf("address %s of %s is in no subnet that this host holds", p, i.Network)
			}
		}
	}
	if i := att.Interfaces[0]; i.MAC != cluster.EndpointMAC(7, i.Addrs[0].Addr()) || i.NetworkCreated != 7 || i.Name != "eth0" {
		t.Errorf("interface %+v: want the derived MAC, its network's revision and eth0", i)
	}
	if r.subnets.takes != 3 {
		t.Errorf("%d subnets taken, want 3: one for each pool", r.subnets.takes)
	}
	if got, _ := r.journal.Get("web"); !reflect.DeepEqual(got, att) {
		t.Errorf("journal holds %+v, want %+v", got, att)
	}
	es := r.subnets.published
	if len(es) != 2 || es[0].Name != "web" || es[0].Host != self || len(es[0].Addrs) != 2 || es[0].Aliases[0] != "www" || es[0].Labels["tier"] != "front" {
		t.Errorf("published %+v", es)
	}
}

func TestAttachAgain(t *testing.T) {
	r := newRig(t, network("blue", 7, 8, "10.64.0.0/16"))
	first := r.mustAttach(t, ask("web", "blue"))
	passes := r.loop.passes
	if again := r.mustAttach(t, ask("web", "blue")); !reflect.DeepEqual(again, first) {
		t.Errorf("asked again: %+v, want %+v", again, first)
	}
	if r.loop.passes == passes {
		t.Error("answered without waiting for a pass: the first request may have died before its own")
	}
	static := ask("web", "blue")
	static.Interfaces[0].Addrs = []netip.Addr{first.Interfaces[0].Addrs[0].Addr()}
	r.mustAttach(t, static)

	for name, change := range map[string]func(*Request){
		"name": func(q *Request) { q.Name = "db" }, "netns": func(q *Request) { q.NetNS += "x" },
		"hostname": func(q *Request) { q.Hostname = "h" }, "labels": func(q *Request) { q.Labels = map[string]string{"a": "b"} },
		"interface": func(q *Request) { q.Interfaces[0].Name = "net1" }, "aliases": func(q *Request) { q.Interfaces[0].Aliases = []string{"x"} },
		"mac":     func(q *Request) { q.Interfaces[0].MAC = cluster.MAC{2, 2, 2, 2, 2, 2} },
		"address": func(q *Request) { q.Interfaces[0].Addrs = []netip.Addr{adr("10.64.255.9")} },
		"network": func(q *Request) { q.Interfaces[0].Network = "red" },
	} {
		req := ask("web", "blue")
		change(&req)
		_, err := r.Attach(t.Context(), req)
		if t.Run(name, func(t *testing.T) { wantCode(t, err, codes.AlreadyExists) }); len(r.List()) != 1 {
			t.Fatalf("%d attachments", len(r.List()))
		}
	}
}

// A hundred containers that start together get a hundred addresses, of as few
// subnets as hold them.
func TestAttachParallel(t *testing.T) {
	const containers = 100
	for hostBits, want := range map[int]int{8: 1, 12: (containers + 12) / 13} {
		t.Run(fmt.Sprintf("/%d", 16+hostBits), func(t *testing.T) {
			r := newRig(t, network("blue", 7, hostBits, "10.64.0.0/16"))
			attachAll(t, r, containers)
			seen := map[netip.Addr]string{}
			for _, att := range r.List() {
				a := att.Interfaces[0].Addrs[0].Addr()
				if other, twice := seen[a]; twice {
					t.Errorf("%s and %s both have %s", att.ID, other, a)
				}
				seen[a] = att.ID
			}
			if len(seen) != containers || len(r.subnets.published) != containers {
				t.Errorf("%d addresses and %d endpoints, want %d", len(seen), len(r.subnets.published), containers)
			}
			if r.subnets.takes != want {
				t.Errorf("%d subnets taken, want %d", r.subnets.takes, want)
			}
		})
	}
}

// attachAll attaches containers that all find that there is no subnet: each
// subnet takes a second to take.
func attachAll(t *testing.T, r *rig, containers int) {
	synctest.Test(t, func(t *testing.T) {
		r.subnets.taking = func() { time.Sleep(time.Second) }
		var wg sync.WaitGroup
		for i := range containers {
			wg.Go(func() {
				if _, err := r.Attach(t.Context(), ask(fmt.Sprintf("c%d", i), "blue")); err != nil {
					t.Errorf("attach: %v", err)
				}
			})
		}
		wg.Wait()
	})
}

// The same container asked for by many at once is made once.
func TestAttachSameInParallel(t *testing.T) {
	r := newRig(t, network("blue", 7, 8, "10.64.0.0/16"))
	var wg sync.WaitGroup
	got := make([]cluster.Attachment, 20)
	for i := range got {
		wg.Go(func() { got[i], _ = r.Attach(t.Context(), ask("web", "blue")) })
	}
	wg.Wait()
	for _, att := range got {
		if !reflect.DeepEqual(att, got[0]) || att.ID == "" {
			t.Errorf("got %+v and %+v", att, got[0])
		}
	}
}

func TestAttachStaticAddress(t *testing.T) {
	r := newRig(t, network("blue", 7, 8, "10.64.0.0/16", "fd64::/48"))
	r.subnets.hold("blue", "10.64.3.0/24", lease.StateHeld)
	r.subnets.hold("blue", "fd64:0:0:300::/56", lease.StateHeld)
	r.subnets.hold("blue", "10.64.9.0/24", lease.Lost)
	static := func(name string, addrs ...string) Request {
		req := ask(name, "blue")
		for _, a := range addrs {
			req.Interfaces[0].Addrs = append(req.Interfaces[0].Addrs, adr(a))
		}
		return req
	}
	att := r.mustAttach(t, static("web", "fd64:0:0:300::99", "10.64.3.9"))
	if got, want := att.Interfaces[0].Addrs, []netip.Prefix{pfx("10.64.3.9/24"), pfx("fd64:0:0:300::99/56")}; !reflect.DeepEqual(got, want) {
		t.Errorf("addresses %v, want %v", got, want)
	}
	if got := r.mustAttach(t, static("one", "10.64.3.77")).Interfaces[0].Addrs; len(got) != 2 || got[0] != pfx("10.64.3.77/24") {
		t.Errorf("one wanted of two: %v", got)
	}
	for _, tc := range []struct {
		addr string
		code codes.Code
		says string
	}{
		{"10.64.3.9", codes.AlreadyExists, "in use by container web"},
		{"10.64.9.9", codes.FailedPrecondition, "host h2 holds the subnet 10.64.9.0/24"},
		{"10.99.0.1", codes.InvalidArgument, "interfaces[0].addresses[0]"},
		{"10.64.3.0", codes.InvalidArgument, "the network address"},
		{"10.64.3.1", codes.InvalidArgument, "the gateway"},
		{"10.64.3.255", codes.InvalidArgument, "the broadcast address"},
	} {
		_, err := r.Attach(t.Context(), static("db", tc.addr))
		wantCode(t, err, tc.code)
		if err == nil || !strings.Contains(err.Error(), tc.says) {
			t.Errorf("%s: %v, want %q in it", tc.addr, err, tc.says)
		}
	}
	if r.subnets.takes != 0 {
		t.Errorf("%d subnets taken for addresses that cannot be in one", r.subnets.takes)
	}
}

func TestAttachConflicts(t *testing.T) {
	r := newRig(t, network("blue", 7, 8, "10.64.0.0/16"))
	first := ask("web", "blue")
	first.Interfaces[0].MAC = cluster.MAC{2, 0, 0, 0, 0, 9}
	r.mustAttach(t, first)
	for says, change := range map[string]func(*Request){
		"the name web":      func(q *Request) { q.Name = "web" },
		"interface eth0 of": func(q *Request) { q.NetNS = first.NetNS },
		"MAC 02:00":         func(q *Request) { q.Interfaces[0].MAC = first.Interfaces[0].MAC },
	} {
		req := ask("db", "blue")
		change(&req)
		_, err := r.Attach(t.Context(), req)
		wantCode(t, err, codes.AlreadyExists)
		if err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%v, want %q in it", err, says)
		}
	}
}

func TestAttachNetworks(t *testing.T) {
	t.Run("created a moment ago", func(t *testing.T) {
		r := newRig(t)
		r.loop.unseen = []cluster.Network{network("blue", 7, 8, "10.64.0.0/16")}
		r.mustAttach(t, ask("web", "blue"))
	})
	t.Run("unknown", func(t *testing.T) {
		r := newRig(t)
		_, err := r.Attach(t.Context(), ask("web", "blue"))
		wantCode(t, err, codes.NotFound)
		if r.loop.refreshes != 1 {
			t.Errorf("store asked %d times, want once", r.loop.refreshes)
		}
		r.wantEmpty(t)
	})
	t.Run("store away", func(t *testing.T) {
		r := newRig(t)
		r.loop.refresh = errDown
		_, err := r.Attach(t.Context(), ask("web", "blue"))
		wantCode(t, err, codes.Unavailable)
	})
	t.Run("unknown driver", func(t *testing.T) {
		n := network("blue", 7, 8, "10.64.0.0/16")
		n.Driver = cluster.DriverMacvlan
		r := newRig(t, n)
		_, err := r.Attach(t.Context(), ask("web", "blue"))
		wantCode(t, err, codes.FailedPrecondition)
	})
}

func TestAttachRefused(t *testing.T) {
	for name, tc := range map[string]struct {
		prepare func(*rig)
		code    codes.Code
	}{
		"draining":   {func(r *rig) { r.loop.hosts = []cluster.Host{{ID: self, Name: "h1", Draining: true}} }, codes.FailedPrecondition},
		"fenced":     {func(r *rig) { r.subnets.may = errors.New("not renewed for a day") }, codes.FailedPrecondition},
		"no netns":   {func(r *rig) { r.missing["/run/netns/web"] = true }, codes.FailedPrecondition},
		"no subnet":  {func(r *rig) { r.subnets.takeErr = fmt.Errorf("take: %w", ipam.ErrExhausted) }, codes.ResourceExhausted},
		"store away": {func(r *rig) { r.subnets.takeErr = errDown }, codes.Unavailable},
		"disk":       {func(r *rig) { _ = r.db.Close() }, codes.Internal},
		"blind":      {func(r *rig) { r.loop.blind = errors.New("dump interrupted") }, codes.Unavailable},
		"foreign link": {func(r *rig) {
			r.loop.failing = failing("eth0", &reconcile.Error{Class: reconcile.Refused, Err: syscall.EEXIST})
		}, codes.FailedPrecondition},
		"busy": {func(r *rig) { r.loop.failing = failing("eth0", &reconcile.Error{Err: syscall.EBUSY}) }, codes.Unavailable},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, network("blue", 7, 8, "10.64.0.0/16"))
			tc.prepare(r)
			_, err := r.Attach(t.Context(), ask("web", "blue"))
			wantCode(t, err, tc.code)
			if err != nil && strings.Contains(err.Error(), "\n") {
				t.Errorf("error of several lines: %v", err)
			}
			r.wantEmpty(t)
		})
	}
}

// failing returns a refusal of the link of that name.
func failing(link string, err *reconcile.Error) func(dataplane.Row) error {
	return func(row dataplane.Row) error {
		if l, ok := row.(dataplane.Link); ok && l.Name == link {
			e := *err
			e.Op = dataplane.Op{Row: row}
			return &e
		}
		return nil
	}
}

// What fails for others does not fail this one.
func TestAttachOthersFail(t *testing.T) {
	r := newRig(t, network("blue", 7, 8, "10.64.0.0/16"))
	r.loop.failing = failing("net9", &reconcile.Error{Class: reconcile.Refused, Err: syscall.EPERM})
	bad := ask("bad", "blue")
	bad.Interfaces[0].Name = "net9"
	if _, err := r.Attach(t.Context(), bad); err == nil {
		t.Error("attached though its link was refused")
	}
	r.mustAttach(t, ask("good", "blue"))
}

// An interface without a place in the plan has no row that could fail.
func TestAttachUnplanned(t *testing.T) {
	r := newRig(t, network("blue", 7, 8, "10.64.0.0/16"))
	r.subnets.hold("blue", "10.64.3.0/24", lease.StateHeld)
	r.subnets.taking = nil
	r.loop.failing = func(dataplane.Row) error { // the network goes while the pass runs
		r.loop.networks = nil
		r.loop.result.State = dataplane.State{}
		return nil
	}
	_, err := r.Attach(t.Context(), ask("web", "blue"))
	wantCode(t, err, codes.FailedPrecondition)
	r.wantEmpty(t)
}

// While the store is away containers start on what is held already, and only
// on that.
func TestAttachStoreAway(t *testing.T) {
	r := newRig(t, network("blue", 7, 14, "10.64.0.0/16"))
	r.subnets.hold("blue", "10.64.3.0/30", lease.Pending)
	r.subnets.held = append(r.subnets.held, lease.Held{ // of an earlier network of that name
		Lease: cluster.Lease{Network: "blue", Prefix: pfx("10.64.2.0/30"), Host: self}, State: lease.StateHeld, NetworkCreated: 3,
	})
	r.subnets.takeErr = errDown
	if got := r.mustAttach(t, ask("web", "blue")).Interfaces[0].Addrs[0]; got != pfx("10.64.3.2/30") {
		t.Errorf("address %s, want 10.64.3.2/30", got)
	}
	_, err := r.Attach(t.Context(), ask("db", "blue"))
	wantCode(t, err, codes.Unavailable)
	if len(r.List()) != 1 {
		t.Errorf("%d attachments, want 1", len(r.List()))
	}
}

func TestAttachSubnetWithoutRoom(t *testing.T) {
	r := newRig(t, network("blue", 7, 15, "10.64.0.0/16"))
	_, err := r.Attach(t.Context(), ask("web", "blue"))
	wantCode(t, err, codes.ResourceExhausted)
	r.wantEmpty(t)
}

// A caller that goes away leaves nothing behind.
func TestAttachAbandoned(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, network("blue", 7, 8, "10.64.0.0/16"))
		r.loop.deaf = true
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { _, err := r.Attach(ctx, ask("web", "blue")); done <- err }()
		synctest.Wait()
		if len(r.List()) != 1 {
			t.Fatal("not in the journal while the pass is awaited")
		}
		r.loop.mu.Lock()
		r.loop.deaf = false
		r.loop.mu.Unlock()
		cancel()
		wantCode(t, <-done, codes.Canceled)
		r.wantEmpty(t)
	})
}

// A loop that never settles hangs nobody.
func TestAttachTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, network("blue", 7, 8, "10.64.0.0/16"))
		r.loop.deaf = true
		start := time.Now()
		_, err := r.Attach(t.Context(), ask("web", "blue"))
		wantCode(t, err, codes.DeadlineExceeded)
		if took, want := time.Since(start), time.Minute+cleanUp; took != want {
			t.Errorf("took %v, want %v: the limit, and the clean-up's", took, want)
		}
		r.wantEmpty(t)
	})
}
