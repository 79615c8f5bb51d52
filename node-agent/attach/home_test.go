package attach

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ovlnet/ovl/internal/cluster"
	"github.com/ovlnet/ovl/internal/store"
	"github.com/ovlnet/ovl/node-agent/lease"
)

// A host is on its home network without a container, for as long as it is not
// draining; what it holds beyond that is given back as ever.
func TestHome(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, network("blue", 7, 8, "10.64.0.0/16", "fd64::/48"))
		r.cfg.Home = "pods"
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- r.KeepHome(ctx) }()
		go func() { done <- r.GiveBack(ctx) }()
		wait := func(d time.Duration) {
			r.Tidy()
			time.Sleep(d) // of the bubble's clock
			synctest.Wait()
		}
		held := func(when string, want int) {
			t.Helper()
			if len(r.subnets.held) != want {
				t.Errorf("%s it holds %v, want %d subnets", when, r.subnets.held, want)
			}
		}
		wait(time.Second)
		held("before there is such a network", 0)

		r.subnets.takeErr = store.ErrUnavailable
		r.loop.networks = append(r.loop.networks, network("pods", 8, 8, "10.244.0.0/16", "fd44::/48"))
		wait(time.Second)
		held("while the store is away", 0)
		r.subnets.takeErr = nil
		wait(Rest)
		held("when it is back", 2)

		r.subnets.hold("pods", "10.244.77.0/24", lease.StateHeld)
		r.subnets.hold("blue", "10.64.3.0/24", lease.StateHeld)
		wait(2 * Rest)
		held("in the end", 2)
		for _, l := range r.subnets.released {
			if l.Network == "pods" && l.Prefix.Addr().Is6() {
				t.Errorf("gave back %v", l)
			}
		}

		r.mustAttach(t, ask("web", "pods"))
		if err := r.Detach(t.Context(), "web"); err != nil {
			t.Fatal(err)
		}
		wait(2 * Rest)
		held("after the last container", 2)

		r.loop.hosts = []cluster.Host{{ID: self, Name: "h1", Draining: true}}
		wait(time.Second)
		held("while it is draining", 0)
		r.loop.hosts = nil
		wait(time.Second)
		held("after that", 2)
		cancel()
		for range 2 {
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
	})
}
