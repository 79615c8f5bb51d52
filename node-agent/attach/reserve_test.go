package attach

import (
	"context"
	"net/netip"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/ovlnet/ovl/internal/cluster"
)

func prefixes(texts ...string) []netip.Prefix {
	var out []netip.Prefix
	for _, s := range texts {
		out = append(out, pfx(s))
	}
	return out
}

// contextSoon is a context that is done when something has waited for it.
func contextSoon(t *testing.T) (context.Context, context.CancelFunc) {
	t.Helper()
	return context.WithTimeout(t.Context(), 20*time.Millisecond)
}

func TestReserve(t *testing.T) {
	r := newRig(t, network("blue", 7, 8, "10.64.0.0/16", "fd64::/48"))
	four, err := r.Reserve(t.Context(), "blue", pfx("10.64.0.0/16"), netip.Addr{})
	if err != nil {
		t.Fatal(err)
	}
	six, err := r.Reserve(t.Context(), "blue", pfx("fd64::/48"), netip.Addr{})
	if err != nil {
		t.Fatal(err)
	}
	if four.Bits() != 24 || six.Bits() != 56 || len(r.subnets.held) != 2 {
		t.Errorf("reserved %s and %s of %v: want addresses with the length of this host's subnets", four, six, r.subnets.held)
	}
	if gw, ok := r.Gateway("blue", pfx("10.64.0.0/16")); !ok || gw != four.Masked().Addr().Next() {
		t.Errorf("gateway %s, %v", gw, ok)
	}
	// Nobody else gets it, wanted or chosen.
	_, err = r.Reserve(t.Context(), "blue", pfx("10.64.0.0/16"), four.Addr())
	wantCode(t, err, codes.AlreadyExists)
	taker := ask("thief", "blue")
	taker.Interfaces[0].Addrs = []netip.Addr{four.Addr()}
	_, err = r.Attach(t.Context(), taker)
	wantCode(t, err, codes.AlreadyExists)
	if other := r.mustAttach(t, ask("other", "blue")); other.Interfaces[0].HasAddr(four.Addr()) || other.Interfaces[0].HasAddr(six.Addr()) {
		t.Errorf("a reserved address was given to %v", other.Interfaces[0].Addrs)
	}

	req := offer("ep1", "blue")
	req.Interfaces[0].Addrs = []netip.Addr{four.Addr(), six.Addr()}
	att, err := r.Offer(t.Context(), req)
	if err != nil {
		t.Fatal(err)
	}
	r.Unreserve("blue", four.Addr()) // what an interface has it keeps
	if _, err := r.Attach(t.Context(), taker); err == nil {
		t.Error("an address given out twice")
	}
	if i := att.Interfaces[0]; !i.HasAddr(four.Addr()) || !i.HasAddr(six.Addr()) || len(r.reserved) != 0 {
		t.Errorf("offered %v; still reserved: %v", i.Addrs, r.reserved)
	}
	for _, id := range []string{"ep1", "other"} {
		if err := r.Detach(t.Context(), id); err != nil {
			t.Fatal(err)
		}
	}
	r.wantEmpty(t)
}

// TestReservationsEnd: given back, or after a minute.
func TestReservationsEnd(t *testing.T) {
	r := newRig(t, network("blue", 7, 8, "10.64.0.0/16"))
	a, err := r.Reserve(t.Context(), "blue", pfx("10.64.0.0/16"), netip.Addr{})
	if err != nil {
		t.Fatal(err)
	}
	r.Unreserve("blue", a.Addr())
	r.Unreserve("blue", a.Addr())
	r.wantEmpty(t)

	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, network("blue", 7, 8, "10.64.0.0/16"))
		if _, err := r.Reserve(t.Context(), "blue", pfx("10.64.0.0/16"), netip.Addr{}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(reserveFor + time.Second)
		synctest.Wait()
		r.mu.Lock()
		defer r.mu.Unlock()
		if len(r.reserved)+len(r.index.claims) != 0 {
			t.Errorf("still reserved: %v", r.reserved)
		}
	})
}

func TestReserveFails(t *testing.T) {
	r := newRig(t, network("blue", 7, 8, "10.64.0.0/16"))
	_, err := r.Reserve(t.Context(), "red", pfx("10.64.0.0/16"), netip.Addr{})
	wantCode(t, err, codes.NotFound)
	_, err = r.Reserve(t.Context(), "blue", pfx("10.65.0.0/16"), netip.Addr{})
	wantCode(t, err, codes.NotFound)
	_, err = r.Reserve(t.Context(), "blue", pfx("10.64.0.0/16"), adr("10.65.0.2"))
	wantCode(t, err, codes.InvalidArgument)
	r.wantEmpty(t)
}

// TestReserveTogether: a hundred at once take one subnet, and each an address of its own.
func TestReserveTogether(t *testing.T) {
	r := newRig(t, network("blue", 7, 8, "10.64.0.0/16"))
	var wg sync.WaitGroup
	got := make([]netip.Prefix, 100)
	for i := range got {
		wg.Go(func() {
			var err error
			if got[i], err = r.Reserve(t.Context(), "blue", pfx("10.64.0.0/16"), netip.Addr{}); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	seen := map[netip.Prefix]bool{}
	for _, p := range got {
		seen[p] = true
	}
	if len(seen) != len(got) || r.subnets.takes != 1 {
		t.Errorf("%d addresses of %d subnets", len(seen), r.subnets.takes)
	}
}

func TestPublish(t *testing.T) {
	r := newRig(t, network("blue", 7, 8, "10.64.0.0/16"))
	r.mustOffer(t, "ep1", "blue")
	r.mustHandOver(t, "ep1")
	want := []PortWant{{Proto: cluster.TCP, First: 8080, Last: 8080, ContainerPort: 80}, {Proto: cluster.UDP, First: 32768, Last: 60999, ContainerPort: 53}}
	att, err := r.Publish(t.Context(), "ep1", want)
	if err != nil {
		t.Fatal(err)
	}
	if len(att.Ports) != 2 || att.Ports[0].HostPort != 8080 || att.Ports[1].HostPort != 32768 {
		t.Errorf("ports %v", att.Ports)
	}
	r.mustOffer(t, "ep2", "blue")
	_, err = r.Publish(t.Context(), "ep2", want[:1])
	wantCode(t, err, codes.AlreadyExists)
	second, err := r.Publish(t.Context(), "ep2", []PortWant{{Proto: cluster.TCP, First: 8080, Last: 8082, ContainerPort: 80}})
	if err != nil || second.Ports[0].HostPort != 8081 {
		t.Errorf("the first free one of a range: %v, %v", second.Ports, err)
	}
	r.loop.blind = errDown
	if _, err = r.Publish(t.Context(), "ep2", nil); err == nil {
		t.Error("withdrawn without a pass")
	}
	if got, _ := r.Get("ep2"); len(got.Ports) != 1 {
		t.Errorf("after a failure it has %v", got.Ports)
	}
	r.loop.blind = nil
	if att, err = r.Publish(t.Context(), "ep1", nil); err != nil || len(att.Ports) != 0 {
		t.Errorf("withdrawn: %v, %v", att.Ports, err)
	}
	if _, err := r.Publish(t.Context(), "ep2", want[:1]); err != nil {
		t.Errorf("a port that came free: %v", err)
	}
	for _, id := range []string{"ep1", "ep2"} {
		if err := r.Detach(t.Context(), id); err != nil {
			t.Fatal(err)
		}
	}
	r.wantEmpty(t)
}
