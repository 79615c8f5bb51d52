package attach

import (
	"context"
	"errors"
	"net/netip"
	"testing"
	"testing/synctest"

	"google.golang.org/grpc/codes"

	"github.com/ovlnet/ovl/internal/cluster"
)

// dismissing runs a test with a room that sees off, within a bubble.
func dismissing(t *testing.T, test func(*testing.T, *rig)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, network("blue", 7, 14, "10.64.0.0/16")) // one address a subnet
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() { ended <- r.SeeOff(ctx) }()
		test(t, r)
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}

// hold keeps every pass from ending until it is called.
func (l *fakeLoop) hold() (release func()) {
	gate := make(chan struct{})
	l.mu.Lock()
	defer l.mu.Unlock()
	l.gate = gate
	return func() {
		l.mu.Lock()
		l.gate = nil
		l.mu.Unlock()
		close(gate)
	}
}

// What was dismissed is gone for its engine at once, and what it had is nobody's until a
// pass has taken its rows away; whoever asks for it then, waits and gets it.
func TestDismiss(t *testing.T) {
	for name, again := range map[string]func(cluster.Interface) Want{
		"any address": func(i cluster.Interface) Want { return Want{Network: i.Network} },
		"its address": func(i cluster.Interface) Want {
			return Want{Network: i.Network, Addrs: []netip.Addr{i.Addrs[0].Addr()}}
		},
		"its MAC": func(i cluster.Interface) Want { return Want{Network: i.Network, MAC: i.MAC} },
	} {
		t.Run(name, func(t *testing.T) {
			dismissing(t, func(t *testing.T, r *rig) {
				first := offer("ep1", "blue")
				att, err := r.Offer(t.Context(), first)
				if err != nil {
					t.Fatal(err)
				}
				had := att.Interfaces[0].Addrs[0]
				r.mustHandOver(t, "ep1")
				if err := r.TakeBack(t.Context(), "ep1"); err != nil {
					t.Fatal(err)
				}
				release := r.loop.hold()
				if err := r.Dismiss(t.Context(), "ep1"); err != nil {
					t.Fatal(err)
				}
				if len(r.List()) != 0 || len(r.subnets.published) != 0 {
					t.Errorf("still there: %v, published %v", r.List(), r.subnets.published)
				}
				wantCode(t, r.TakeBack(t.Context(), "other"), codes.NotFound)

				next := offer("ep2", "blue")
				next.Name = first.Name // the name is free
				next.Interfaces[0] = again(att.Interfaces[0])
				got := make(chan cluster.Attachment)
				go func() {
					att, err := r.Offer(t.Context(), next)
					if err != nil {
						t.Error(err)
					}
					got <- att
				}()
				synctest.Wait()
				select {
				case att := <-got:
					t.Errorf("%v before the rows of the other are gone", att)
					return
				default:
				}
				release()
				if att := <-got; len(att.Interfaces) == 1 && att.Interfaces[0].Addrs[0] != had {
					t.Errorf("got %v, want %s", att.Interfaces[0].Addrs, had)
				}
				if r.subnets.takes != 1 {
					t.Errorf("%d subnets taken, want 1", r.subnets.takes)
				}
				if err := r.Dismiss(t.Context(), "ep2"); err != nil {
					t.Fatal(err)
				}
				synctest.Wait()
				r.wantEmpty(t)
				wantCode(t, r.Dismiss(t.Context(), "ep2"), codes.NotFound)
			})
		})
	}
}

// Its own ID is not to be had either, and a wait for it ends with the caller.
func TestDismissedIDIsHeld(t *testing.T) {
	dismissing(t, func(t *testing.T, r *rig) {
		r.mustOffer(t, "ep1", "blue")
		release := r.loop.hold()
		if err := r.Dismiss(t.Context(), "ep1"); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancelCause(t.Context())
		cancel(errors.New("the engine went away"))
		_, err := r.Offer(ctx, offer("ep1", "blue"))
		wantCode(t, err, codes.Unavailable)
		release()
		synctest.Wait()
		r.mustOffer(t, "ep1", "blue")
	})
}

// A published port is free when the engine is told so, and so is a static address.
func TestDismissWaitsForPorts(t *testing.T) {
	dismissing(t, func(t *testing.T, r *rig) {
		r.mustOffer(t, "ep1", "blue")
		if _, err := r.Publish(t.Context(), "ep1", []PortWant{{Proto: cluster.TCP, First: 8080, Last: 8080, ContainerPort: 80}}); err != nil {
			t.Fatal(err)
		}
		release := r.loop.hold()
		ended := make(chan error)
		go func() { ended <- r.Dismiss(t.Context(), "ep1") }()
		synctest.Wait()
		select {
		case err := <-ended:
			t.Errorf("it returned before its port was free: %v", err)
			return
		default:
		}
		release()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		r.wantEmpty(t)
	})
}

// A pass that fails leaves the rows to the loop, and gives the address free.
func TestDismissBlind(t *testing.T) {
	dismissing(t, func(t *testing.T, r *rig) {
		r.mustOffer(t, "ep1", "blue")
		r.loop.blind = errDown
		if err := r.Dismiss(t.Context(), "ep1"); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		r.wantEmpty(t)
	})
}
