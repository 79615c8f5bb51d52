package attach

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/codes"
	"pgregory.net/rapid"

	"github.com/ovlnet/ovl/internal/cluster"
	"github.com/ovlnet/ovl/internal/dataplane"
	"github.com/ovlnet/ovl/node-agent/lease"
)

// withStatic returns the network blue with a static range in each pool.
func withStatic() cluster.Network {
	n := network("blue", 7, 8, "10.64.0.0/16", "fd64::/48")
	n.StaticRanges = []netip.Prefix{pfx("10.64.255.0/24"), pfx("fd64:0:0:ff00::/56")}
	return n
}

// fixed returns a request for a container with those addresses on blue.
func fixed(name string, addrs ...string) Request {
	req := ask(name, "blue")
	for _, a := range addrs {
		req.Interfaces[0].Addrs = append(req.Interfaces[0].Addrs, adr(a))
	}
	return req
}

// alone returns the static addresses that are held.
func (r *rig) alone() []string {
	var out []string
	for _, h := range r.subnets.Held() {
		if h.Prefix.IsSingleIP() {
			out = append(out, h.Prefix.Addr().String())
		}
	}
	return out
}

// givingBack runs GiveBack until the test ends; it is for bubbles.
func (r *rig) givingBack(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- r.GiveBack(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// The address comes with its container, and goes with it: after this host has
// lost the way to it.
func TestStatic(t *testing.T) {
	r := newRig(t, withStatic())
	att := r.mustAttach(t, fixed("db", "10.64.255.9"))
	i := att.Interfaces[0]
	if len(i.Addrs) != 2 || i.Addrs[0] != pfx("10.64.255.9/32") || len(i.Via) != 1 || i.Via[0].Bits() != 24 || i.Addrs[1].Bits() != 56 {
		t.Fatalf("interface %+v", i)
	}
	way := dataplane.RouteKey{Dst: pfx("10.64.255.9/32")}
	if _, ok := r.loop.Plan().State.Routes[way]; !ok {
		t.Errorf("no way to it in\n%s", r.loop.Plan().State)
	}
	if got := r.subnets.published[0].Addrs[0]; got != adr("10.64.255.9") {
		t.Errorf("published as %s", got)
	}
	_, err := r.Attach(t.Context(), fixed("other", "10.64.255.9"))
	wantCode(t, err, codes.AlreadyExists)
	r.subnets.releasing = func(l cluster.Lease) {
		if _, ok := r.loop.Plan().State.Routes[way]; ok || l.Prefix != pfx("10.64.255.9/32") {
			t.Errorf("%s given back with the way still wanted: %v", l.Prefix, ok)
		}
	}
	if err := r.Detach(t.Context(), "db"); err != nil {
		t.Fatal(err)
	}
	if got := r.alone(); len(got) != 0 || len(r.index.retired) != 0 {
		t.Errorf("still held: %v, retired %v", got, r.index.retired)
	}
	r.wantEmpty(t)
	r.subnets.releasing = nil
	r.mustAttach(t, fixed("db", "fd64:0:0:ff00::9", "10.64.255.9")) // both, and both gone with the network
	if got := r.alone(); len(got) != 2 {
		t.Errorf("held: %v", got)
	}
	if _, err := r.Disconnect(t.Context(), "db", "blue"); err != nil {
		t.Fatal(err)
	}
	if got := r.alone(); len(got) != 0 {
		t.Errorf("after disconnect still held: %v", got)
	}
}

// What is taken for a container is not left over because more is still to be
// taken for it.
func TestStaticIsNotLeftOverMeanwhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, withStatic())
		r.givingBack(t)
		r.subnets.taking = func() {
			r.Reconsider()
			synctest.Wait()
		}
		r.mustAttach(t, fixed("db", "10.64.255.9", "fd64:0:0:ff00::9"))
		if r.subnets.takes != 4 || len(r.subnets.released) != 0 {
			t.Errorf("%d taken, %v released", r.subnets.takes, r.subnets.released)
		}
	})
}

func TestStaticRefused(t *testing.T) {
	small := withStatic()
	small.Name, small.VNI, small.StaticRanges = "small", 8, []netip.Prefix{pfx("10.64.255.64/26")}
	r := newRig(t, withStatic(), small)
	r.subnets.hold("blue", "10.64.255.8/32", lease.Lost)
	for _, tc := range []struct {
		network, addr string
		code          codes.Code
		says          string
	}{
		{"blue", "10.64.255.8", codes.FailedPrecondition, "host h2 has 10.64.255.8"},
		{"blue", "10.64.255.255", codes.InvalidArgument, "the broadcast address of 10.64.0.0/16"},
		{"blue", "10.64.7.0", codes.InvalidArgument, "the network address of 10.64.7.0/24"},
		{"small", "10.64.255.9", codes.FailedPrecondition, "the static range 10.64.255.64/26 has a part of 10.64.255.0/24"},
	} {
		req := ask("db", tc.network)
		req.Interfaces[0].Addrs = []netip.Addr{adr(tc.addr)}
		_, err := r.Attach(t.Context(), req)
		wantCode(t, err, tc.code)
		if err == nil || !strings.Contains(err.Error(), tc.says) {
			t.Errorf("%s: %v, want %q in it", tc.addr, err, tc.says)
		}
	}
	r.subnets.takeErr = errDown
	_, err := r.Attach(t.Context(), fixed("db", "10.64.255.9"))
	wantCode(t, err, codes.Unavailable)
	if !strings.Contains(err.Error(), "take static address 10.64.255.9 of network blue: store is away") {
		t.Errorf("store away: %v", err)
	}
	r.wantEmpty(t)
}

// An address in a subnet that nobody holds: this host takes just that one.
func TestTakeSubnetForAddress(t *testing.T) {
	r := newRig(t, withStatic())
	att := r.mustAttach(t, fixed("db", "10.64.77.9"))
	if got := att.Interfaces[0]; got.Addrs[0] != pfx("10.64.77.9/24") || len(got.Via) != 0 {
		t.Errorf("interface %+v", got)
	}
	if got := r.mustAttach(t, fixed("web", "10.64.77.10")).Interfaces[0].Addrs[0]; got != pfx("10.64.77.10/24") || r.subnets.takes != 2 {
		t.Errorf("the next has %s; %d subnets taken", got, r.subnets.takes)
	}
}

// While the store is away an address stays with its host: the container can
// start here again, and if it does not, the address is given back later.
func TestStaticWhileAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, withStatic())
		r.givingBack(t)
		r.mustAttach(t, fixed("db", "10.64.255.9"))
		r.subnets.away, r.subnets.takeErr = true, errDown
		for range 2 {
			if err := r.Detach(t.Context(), "db"); err != nil {
				t.Fatal(err)
			}
			r.Reconsider()
			synctest.Wait()
			if got := r.alone(); len(got) != 1 {
				t.Fatalf("held %v", got)
			}
			r.mustAttach(t, fixed("db", "10.64.255.9"))
		}
		if err := r.Detach(t.Context(), "db"); err != nil {
			t.Fatal(err)
		}
		r.subnets.mu.Lock()
		r.subnets.away = false
		r.subnets.mu.Unlock()
		r.Reconsider()
		synctest.Wait()
		if got := r.alone(); len(got) != 0 {
			t.Errorf("still held: %v", got)
		}
	})
}

// As long as the kernel may still have the way to an address, or the loop wants
// it, nobody else gets it.
func TestStaticOutlivesFailure(t *testing.T) {
	for name, breaks := range map[string]func(*rig, error){
		"the way stays": func(r *rig, err error) {
			r.loop.leftover = leftover(dataplane.Route{RouteKey: dataplane.RouteKey{Dst: pfx("10.64.255.9/32")}}, err)
		},
		"its neighbour": func(r *rig, err error) {
			r.loop.leftover = leftover(dataplane.Neigh{NeighKey: dataplane.NeighKey{IP: adr("10.64.255.9")}}, err)
		},
		"a veth": func(r *rig, err error) {
			r.loop.leftover = leftover(dataplane.Link{LinkKey: dataplane.LinkKey{Name: "ove1"}, Kind: dataplane.Veth}, err)
		},
		"nothing is seen": func(r *rig, err error) { r.loop.blind = err },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, withStatic())
				r.givingBack(t)
				r.mustAttach(t, fixed("db", "10.64.255.9"))
				breaks(r, errors.New("refused"))
				if err := r.Detach(t.Context(), "db"); err != nil {
					t.Fatal(err)
				}
				time.Sleep(time.Hour)
				if got := r.alone(); len(got) != 1 {
					t.Fatalf("held: %v", got)
				}
				r.loop.mu.Lock()
				r.loop.leftover, r.loop.blind = nil, nil
				r.loop.mu.Unlock()
				time.Sleep(Rest)
				if got := r.alone(); len(got) != 0 {
					t.Errorf("still held: %v", got)
				}
			})
		})
	}
}

// What a crash leaves, the next process gives back at once; what a container has,
// it keeps.
func TestStaticAfterCrash(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, withStatic())
		r.mustAttach(t, fixed("db", "10.64.255.9"))
		for i := range 100 {
			r.subnets.hold("blue", fmt.Sprintf("10.64.255.%d/32", 100+i), lease.StateHeld)
		}
		r.subnets.hold("blue", "10.64.255.99/32", lease.Lost)
		r.subnets.sort()
		again := startRig(t, r.db, r.loop, r.subnets)
		passes := r.loop.passes
		again.givingBack(t)
		synctest.Wait()
		if got := again.alone(); !slices.Equal(got, []string{"10.64.255.9"}) {
			t.Errorf("held: %v", got)
		}
		if n := r.loop.passes - passes; n != 1 {
			t.Errorf("%d passes for a hundred addresses", n)
		}
		// A container whose namespace vanishes leaves its own.
		again.missing["/run/netns/db"] = true
		again.Vanished([]dataplane.NS{"/run/netns/db"})
		synctest.Wait()
		if got := again.alone(); len(got) != 0 {
			t.Errorf("held: %v", got)
		}
	})
}

// A subnet whose gateway a static address needs is not given back; without a
// container it is.
func TestStaticKeepsItsGateway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, withStatic())
		r.givingBack(t)
		att := r.mustAttach(t, fixed("db", "10.64.255.9", "fd64:0:0:ff00::9"))
		time.Sleep(3 * Rest)
		if n := len(r.subnets.Held()); n != 4 {
			t.Errorf("%d leases held for %+v", n, att.Interfaces)
		}
		if err := r.settle(t.Context(), "", att); err != nil {
			t.Error(err)
		}
		if err := r.Detach(t.Context(), "db"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(3 * Rest)
		if n := len(r.subnets.Held()); n != 0 {
			t.Errorf("%d leases held for nobody", n)
		}
	})
}

// TestStaticLaw: whatever comes and goes, at whatever time, the static addresses
// held are those of the containers that are there.
func TestStaticLaw(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		r := newRig(t, withStatic())
		r.index.most = rapid.IntRange(1, 4).Draw(rt, "most")
		for range rapid.IntRange(1, 6).Draw(rt, "rounds") {
			var wg sync.WaitGroup
			for range rapid.IntRange(1, 12).Draw(rt, "requests") {
				name := fmt.Sprintf("c%d", rapid.IntRange(0, 15).Draw(rt, "container"))
				req := ask(name, "blue")
				if n := rapid.IntRange(0, 8).Draw(rt, "address"); n > 0 {
					req = fixed(name, fmt.Sprintf("10.64.255.%d", n))
				}
				if rapid.Bool().Draw(rt, "detach") {
					wg.Go(func() { _ = r.Detach(t.Context(), name) })
				} else {
					wg.Go(func() { _, _ = r.Attach(t.Context(), req) })
				}
			}
			wg.Wait()
			want := map[string]bool{}
			for _, att := range r.List() {
				for _, k := range statics(att.Interfaces) {
					want[k.prefix.Addr().String()] = true
				}
			}
			idle, _ := findIdle(r.subnets.Held(), r.spokenFor(), nil, time.Now(), time.Hour)
			if err := r.giveAllBack(t.Context(), idle); err != nil {
				rt.Fatal(err)
			}
			if got := r.alone(); len(got) != len(want) || slices.ContainsFunc(got, func(a string) bool { return !want[a] }) {
				rt.Fatalf("held %v, want %v", got, want)
			}
			r.oneSegmentEach(rt)
		}
	})
}
