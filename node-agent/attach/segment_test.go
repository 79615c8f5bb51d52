package attach

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/codes"
	"pgregory.net/rapid"

	"github.com/ovlnet/ovl/internal/cluster"
)

// crowd attaches containers to blue and returns how many are on each segment.
func (r *rig) crowd(t *testing.T, from, to int) map[int]int {
	t.Helper()
	for i := from; i < to; i++ {
		r.mustAttach(t, ask(fmt.Sprintf("c%d", i), "blue"))
	}
	on := map[int]int{}
	for _, att := range r.List() {
		on[att.Interfaces[0].Segment]++
	}
	return on
}

// oneSegmentEach checks that no subnet is on two segments, and that the plan has
// a place for every container.
func (r *rig) oneSegmentEach(t interface{ Errorf(string, ...any) }) {
	of := map[netip.Prefix]int{}
	for _, att := range r.List() {
		for _, i := range att.Interfaces {
			for _, a := range i.Addrs {
				if at, ok := of[a.Masked()]; ok && at != i.Segment {
					t.Errorf("%s is on segments %d and %d", a.Masked(), at, i.Segment)
				}
				of[a.Masked()] = i.Segment
			}
		}
	}
	if p := r.loop.Plan().Problems; len(p) > 0 {
		t.Errorf("problems: %v", p)
	}
}

func TestSegments(t *testing.T) {
	for _, c := range []struct {
		name  string
		bits  []int // of each pool's subnets, less the pool's
		most  int
		count int
		want  map[int]int
		takes int
	}{
		{"one subnet each", []int{8}, 10, 25, map[int]int{0: 10, 1: 10, 2: 5}, 3},
		{"several subnets each", []int{13}, 10, 25, map[int]int{0: 10, 1: 10, 2: 5}, 5}, // of five addresses: 2 + 2 + 1
		{"a large subnet is full at the limit", []int{4}, 10, 11, map[int]int{0: 10, 1: 1}, 2},
		{"two families", []int{13, 16}, 10, 25, map[int]int{0: 10, 1: 10, 2: 5}, 5 + 3},
		{"exactly full", []int{8}, 10, 20, map[int]int{0: 10, 1: 10}, 2},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t, pooled(c.bits))
			r.index.most = c.most
			if got := r.crowd(t, 0, c.count); fmt.Sprint(got) != fmt.Sprint(c.want) {
				t.Errorf("on segments %v, want %v", got, c.want)
			}
			if r.subnets.takes != c.takes {
				t.Errorf("%d subnets taken, want %d", r.subnets.takes, c.takes)
			}
			r.oneSegmentEach(t)
		})
	}
}

// pooled returns the network blue with a pool of each family whose subnets are
// that many bits longer.
func pooled(bits []int) cluster.Network {
	n := network("blue", 7, 8)
	for i, b := range bits {
		p := pfx([]string{"10.64.0.0/16", "fd64::/48"}[i])
		n.Pools = append(n.Pools, cluster.Pool{Prefix: p, HostPrefix: p.Bits() + b})
	}
	return n
}

// The whole limit, once: a bridge has 1,023 ports.
func TestSegmentsOfThousands(t *testing.T) {
	r := newRig(t, pooled([]int{8, 16}))
	networks := map[string]cluster.Network{"blue": pooled([]int{8, 16})}
	on := map[int]int{}
	for i := range 2100 {
		att, err := r.claim(t.Context(), ask(fmt.Sprintf("c%d", i), "blue"), networks)
		if err != nil {
			t.Fatal(err)
		}
		on[att.Interfaces[0].Segment]++
	}
	if on[0] != cluster.SegmentPorts || on[1] != cluster.SegmentPorts || on[2] != 100 {
		t.Errorf("on segments %v", on)
	}
	if want := 4 + 4 + 1 + 3; r.subnets.takes != want {
		t.Errorf("%d subnets taken, want %d", r.subnets.takes, want)
	}
}

// What leaves makes room again, in the first segment that has it; a segment
// whose containers have gone gives its subnets to whichever needs them.
func TestSegmentsRefill(t *testing.T) {
	r := newRig(t, pooled([]int{8, 16}))
	r.index.most = 4
	r.crowd(t, 0, 9)
	for _, id := range []string{"c1", "c8"} { // of segments 0 and 2
		if err := r.Detach(t.Context(), id); err != nil {
			t.Fatal(err)
		}
	}
	if at := r.mustAttach(t, ask("again", "blue")).Interfaces[0].Segment; at != 0 {
		t.Errorf("the next is on segment %d, want 0", at)
	}
	for i := range 8 {
		id := fmt.Sprintf("c%d", i)
		if i == 1 {
			id = "again"
		}
		if err := r.Detach(t.Context(), id); err != nil {
			t.Fatal(err)
		}
	}
	r.wantEmpty(t)
	takes := r.subnets.takes
	if got := r.crowd(t, 10, 22); fmt.Sprint(got) != "map[0:4 1:4 2:4]" {
		t.Errorf("on segments %v", got)
	}
	if r.subnets.takes != takes {
		t.Errorf("%d more subnets taken, though there were unused ones", r.subnets.takes-takes)
	}
	r.oneSegmentEach(t)
}

// A restart finds every container where it was.
func TestSegmentsSurvive(t *testing.T) {
	r := newRig(t, pooled([]int{8}))
	r.index.most = 2
	r.crowd(t, 0, 5)
	again := startRig(t, r.db, r.loop, r.subnets)
	again.index.most = 2
	if got := again.crowd(t, 5, 6); fmt.Sprint(got) != "map[0:2 1:2 2:2]" {
		t.Errorf("on segments %v", got)
	}
	again.oneSegmentEach(t)
}

func TestSegmentsPinned(t *testing.T) {
	r := newRig(t, pooled([]int{8, 16}))
	r.index.most = 2
	r.crowd(t, 0, 3)
	far, _ := r.journal.Get("c2")
	near, _ := r.journal.Get("c0")
	next := func(att cluster.Attachment, family int) netip.Addr {
		return att.Interfaces[0].Addrs[family].Addr().Next().Next().Next()
	}
	wanted := func(id string, addrs ...netip.Addr) Request {
		q := ask(id, "blue")
		q.Interfaces[0].Addrs = addrs
		return q
	}
	if at := r.mustAttach(t, wanted("there", next(far, 0))).Interfaces[0]; at.Segment != 1 || !at.Addrs[1].Masked().Contains(far.Interfaces[0].Addrs[1].Addr()) {
		t.Errorf("%+v: want it on segment 1 with both its addresses", at)
	}
	_, err := r.Attach(t.Context(), wanted("full", next(near, 0)))
	wantCode(t, err, codes.ResourceExhausted)
	_, err = r.Attach(t.Context(), wanted("torn", next(near, 0), next(far, 1)))
	wantCode(t, err, codes.FailedPrecondition)
	r.oneSegmentEach(t)
}

// A macvlan has no bridge to fill.
func TestSegmentsOfMacvlan(t *testing.T) {
	r := newRig(t)
	n := pooled([]int{8})
	n.Driver = cluster.DriverMacvlan
	r.index.most = 2
	for i := range 5 {
		att, err := r.claim(t.Context(), ask(fmt.Sprintf("c%d", i), "blue"), map[string]cluster.Network{"blue": n})
		if err != nil || att.Interfaces[0].Segment != 0 {
			t.Errorf("segment %d (%v), want 0", att.Interfaces[0].Segment, err)
		}
	}
}

// A segment that has rested is given back with its subnets of both families; the
// others stay.
func TestSegmentsGiveBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, pooled([]int{8, 16}))
		r.index.most = 2
		r.crowd(t, 0, 3)
		last, _ := r.journal.Get("c2")
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- r.GiveBack(ctx) }()
		synctest.Wait()
		if err := r.Detach(t.Context(), "c2"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * Rest) // of the bubble's clock
		synctest.Wait()
		var released []netip.Prefix
		for _, l := range r.subnets.released {
			released = append(released, l.Prefix)
		}
		want := []netip.Prefix{last.Interfaces[0].Addrs[0].Masked(), last.Interfaces[0].Addrs[1].Masked()}
		if !slices.Equal(released, want) {
			t.Errorf("released %v, want %v", released, want)
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// A network of one subnet for each host and no more has one segment.
func TestSegmentsWithoutSubnets(t *testing.T) {
	r := newRig(t, pooled([]int{0}))
	r.index.most = 2
	r.crowd(t, 0, 2)
	_, err := r.Attach(t.Context(), ask("more", "blue"))
	wantCode(t, err, codes.ResourceExhausted)
	if err == nil || !strings.Contains(err.Error(), "a subnet of network blue for bridge ovb7.1") {
		t.Errorf("%v: want it to say what the subnet is for", err)
	}
}

// TestSegmentsLaw: whatever comes and goes, no bridge has too many ports, no
// subnet is on two bridges, and the index is what a restart makes of the journal.
func TestSegmentsLaw(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		bits := []int{rapid.IntRange(6, 13).Draw(rt, "bits")} // at least a subnet for every step
		if rapid.Bool().Draw(rt, "dual") {
			bits = append(bits, 16)
		}
		r := newRig(t, pooled(bits))
		r.index.most = rapid.IntRange(1, 6).Draw(rt, "most")
		for i := range rapid.IntRange(1, 40).Draw(rt, "steps") {
			there := r.List()
			if len(there) > 0 && rapid.IntRange(0, 2).Draw(rt, "step") == 0 {
				id := rapid.SampledFrom(there).Draw(rt, "leaves").ID
				if err := r.Detach(t.Context(), id); err != nil {
					rt.Fatal(err)
				}
				continue
			}
			if _, err := r.Attach(t.Context(), ask(fmt.Sprintf("c%d", i), "blue")); err != nil {
				rt.Fatal(err)
			}
		}
		for at, n := range r.index.plugged {
			if n > r.index.most {
				rt.Errorf("segment %d has %d containers, at most %d fit", at.segment, n, r.index.most)
			}
		}
		r.oneSegmentEach(rt)
		fresh := newIndex(r.List())
		if fmt.Sprint(fresh.plugged, fresh.subnets) != fmt.Sprint(r.index.plugged, r.index.subnets) {
			rt.Errorf("the index says %v %v, the journal %v %v", r.index.plugged, r.index.subnets, fresh.plugged, fresh.subnets)
		}
		belongs := cluster.SegmentsOf(r.List())
		for k, p := range r.index.subnets {
			if at, _ := p.first(); at != belongs.Of(k.network, k.subnet) {
				rt.Errorf("%s is on segment %d for the index, %d for the plan", k.subnet, at, belongs.Of(k.network, k.subnet))
			}
		}
	})
}
