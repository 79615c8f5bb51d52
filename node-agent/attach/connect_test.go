package attach

import (
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"google.golang.org/grpc/codes"

	"github.com/ovlnet/ovl/internal/cluster"
	"github.com/ovlnet/ovl/internal/dataplane"
	"github.com/ovlnet/ovl/internal/plan"
	"github.com/ovlnet/ovl/internal/reconcile"
	ovlv1 "github.com/ovlnet/ovl/proto/ovl/v1"
)

func (r *rig) mustConnect(t *testing.T, name, network string) cluster.Attachment {
	t.Helper()
	att, err := r.Connect(t.Context(), name, Want{Network: network})
	if err != nil {
		t.Fatalf("connect %s to %s: %v", name, network, err)
	}
	return att
}

func twoNetworks(t *testing.T) *rig {
	t.Helper()
	return newRig(t, network("blue", 7, 8, "10.64.0.0/16", "fd64::/48"), network("red", 8, 8, "10.65.0.0/16"))
}

// way is the link of a container's default route, as planned last.
func (r *rig) way(att cluster.Attachment, dst string) string {
	return r.loop.Plan().State.Routes[dataplane.RouteKey{NS: dataplane.NS(att.NetNS), Dst: pfx(dst)}].Link
}

func TestConnect(t *testing.T) {
	r := twoNetworks(t)
	first := r.mustAttach(t, ask("web", "blue"))
	r.mustAttach(t, ask("other", "red"))
	before := r.loop.Plan().State
	w := Want{Network: "red", Aliases: []string{"db"}, MAC: cluster.MAC{2, 0, 0, 0, 0, 9}}
	att, err := r.Connect(t.Context(), "web", w)
	if err != nil {
		t.Fatal(err)
	}
	if i := att.Interfaces[1]; len(att.Interfaces) != 2 || !reflect.DeepEqual(att.Interfaces[0], first.Interfaces[0]) ||
		i.Network != "red" || i.Name != "eth1" || i.MAC != w.MAC || i.NetworkCreated != 8 || len(i.Addrs) != 1 || !slices.Equal(i.Aliases, w.Aliases) {
		t.Errorf("interfaces %+v", att.Interfaces)
	}
	if got, _ := r.journal.Get("web"); !reflect.DeepEqual(got, att) {
		t.Errorf("journal holds %+v, want %+v", got, att)
	}
	if len(r.subnets.published) != 3 {
		t.Errorf("published %+v, want three endpoints", r.subnets.published)
	}
	for _, op := range dataplane.Diff(r.loop.Plan().State, before) {
		if op.Verb != dataplane.Create {
			t.Errorf("connecting does %s: want nothing but what is new", op)
		}
	}
	// The claims are whole: the address is nobody else's, and comes free again.
	if _, err := r.Connect(t.Context(), "other", Want{Network: "blue", Addrs: []netip.Addr{att.Interfaces[0].Addrs[0].Addr()}}); err == nil {
		t.Error("an address given out twice")
	}
	for _, id := range []string{"web", "other"} {
		if err := r.Detach(t.Context(), id); err != nil {
			t.Fatal(err)
		}
	}
	r.wantEmpty(t)
}

func TestConnectAgain(t *testing.T) {
	r := twoNetworks(t)
	r.mustAttach(t, ask("web", "blue"))
	first := r.mustConnect(t, "web", "red")
	passes := r.loop.passes
	if again := r.mustConnect(t, "web", "red"); !reflect.DeepEqual(again, first) || r.loop.passes == passes {
		t.Errorf("again: %+v after %d passes, want %+v after one more", again, r.loop.passes-passes, first)
	}
	for what, w := range map[string]Want{
		"alias":   {Network: "red", Aliases: []string{"x"}},
		"address": {Network: "red", Addrs: []netip.Addr{adr("10.65.255.9")}},
		"mac":     {Network: "red", MAC: cluster.MAC{2, 2, 2, 2, 2, 2}},
		"link":    {Network: "red", Name: "net7"},
	} {
		_, err := r.Connect(t.Context(), "web", w)
		if wantCode(t, err, codes.AlreadyExists); err == nil || !strings.Contains(err.Error(), "red") {
			t.Errorf("%s: %v", what, err)
		}
	}
}

func TestConnectRefusals(t *testing.T) {
	r := twoNetworks(t)
	r.mustAttach(t, ask("web", "blue"))
	r.mustAttach(t, ask("other", "red"))
	taken := r.List()[0].Interfaces[0].Addrs[0].Addr()
	for what, c := range map[string]struct {
		id   string
		want Want
		code codes.Code
	}{
		"no such container":  {"nobody", Want{Network: "red"}, codes.NotFound},
		"no such network":    {"web", Want{Network: "green"}, codes.NotFound},
		"foreign address":    {"web", Want{Network: "red", Addrs: []netip.Addr{adr("10.9.9.9")}}, codes.InvalidArgument},
		"address in use":     {"web", Want{Network: "red", Addrs: []netip.Addr{taken}}, codes.AlreadyExists},
		"interface in use":   {"web", Want{Network: "red", Name: "eth0"}, codes.AlreadyExists},
		"address of network": {"web", Want{Network: "red", Addrs: []netip.Addr{r.List()[0].Interfaces[0].Addrs[0].Masked().Addr()}}, codes.InvalidArgument},
	} {
		t.Run(what, func(t *testing.T) {
			before := r.List()
			_, err := r.Connect(t.Context(), c.id, c.want)
			if wantCode(t, err, c.code); !reflect.DeepEqual(r.List(), before) || len(r.subnets.published) != 2 {
				t.Errorf("something remains: %+v", r.List())
			}
		})
	}
	r.missing["/run/netns/web"] = true
	_, err := r.Connect(t.Context(), "web", Want{Network: "red"})
	wantCode(t, err, codes.FailedPrecondition)
}

// A connect whose rows fail leaves the container as it was, on disk too.
func TestConnectRollsBack(t *testing.T) {
	r := twoNetworks(t)
	first := r.mustAttach(t, ask("web", "blue"))
	r.loop.failing = func(row dataplane.Row) error {
		if l, ok := row.(dataplane.Link); ok && l.Name == "eth1" {
			return &reconcile.Error{Class: reconcile.Refused, Err: syscall.EPERM}
		}
		return nil
	}
	_, err := r.Connect(t.Context(), "web", Want{Network: "red"})
	wantCode(t, err, codes.FailedPrecondition)
	if got, _ := r.journal.Get("web"); !reflect.DeepEqual(got, first) {
		t.Errorf("journal holds %+v, want %+v", got, first)
	}
	if _, planned := r.loop.Plan().State.Links[dataplane.LinkKey{NS: "/run/netns/web", Name: "eth1"}]; planned {
		t.Error("the interface is still planned")
	}
	if n := r.index.used("red", r.subnets.Held()[len(r.subnets.Held())-1].Prefix); n != 0 || len(r.subnets.published) != 1 {
		t.Errorf("%d addresses of red are claimed, %v published", n, r.subnets.published)
	}
	r.loop.failing = nil
	r.mustConnect(t, "web", "red")
}

// What cannot be written is not done.
func TestConnectJournalFails(t *testing.T) {
	r := twoNetworks(t)
	first := r.mustAttach(t, ask("web", "blue"))
	_ = r.db.Close()
	_, err := r.Connect(t.Context(), "web", Want{Network: "red"})
	wantCode(t, err, codes.Internal)
	_, err = r.Disconnect(t.Context(), "web", "blue")
	wantCode(t, err, codes.Internal)
	if got := r.List(); len(got) != 1 || !reflect.DeepEqual(got[0], first) || len(r.index.claims["web"].Interfaces) != 1 {
		t.Errorf("the container is %+v, claimed %+v, want %+v", got, r.index.claims, first)
	}
}

// Disconnecting changes no row of the other networks, and the default route
// moves by one update.
func TestDisconnectMovesTheDefaultRoute(t *testing.T) {
	inner := network("inner", 9, 8, "10.66.0.0/16")
	inner.Internal = true
	r := newRig(t, network("blue", 7, 8, "10.64.0.0/16"), network("red", 8, 8, "10.65.0.0/16"), inner)
	att := r.mustAttach(t, ask("web", "inner", "blue", "red"))
	if got := r.way(att, "0.0.0.0/0"); got != "eth1" {
		t.Fatalf("default route by %q, want eth1: the first that is not internal", got)
	}
	before := r.loop.Plan().State
	rest, err := r.Disconnect(t.Context(), "web", "blue")
	if err != nil {
		t.Fatal(err)
	}
	if len(rest.Interfaces) != 2 || r.way(att, "0.0.0.0/0") != "eth2" {
		t.Errorf("%+v, default route by %q, want eth2", rest.Interfaces, r.way(att, "0.0.0.0/0"))
	}
	hidden := plan.HostLink("web", "eth1")
	for _, op := range dataplane.Diff(r.loop.Plan().State, before) {
		k := op.Row.Key().String()
		own := strings.Contains(k, "eth1") || strings.Contains(k, hidden) || strings.Contains(k, "10.64.")
		moved := strings.Contains(k, "0.0.0.0/0") && op.Verb != dataplane.Delete
		wider := strings.Contains(k, "route 10.65.0.0/16") && op.Verb == dataplane.Delete // the default route does it now
		if !own && !moved && !wider {
			t.Errorf("disconnecting blue does %s", op)
		}
	}
	// On it again it comes last, under the free name.
	if again := r.mustConnect(t, "web", "blue"); again.Interfaces[2].Name != "eth1" || r.way(att, "0.0.0.0/0") != "eth2" {
		t.Errorf("%+v, default route by %s: want it to stay", again.Interfaces, r.way(att, "0.0.0.0/0"))
	}
}

// The last network may go: the container stays, and a restart still knows it.
func TestDisconnectTheLast(t *testing.T) {
	r := twoNetworks(t)
	first := r.mustAttach(t, ask("web", "blue"))
	rest, err := r.Disconnect(t.Context(), "web", "blue")
	if err != nil || len(rest.Interfaces) != 0 {
		t.Fatalf("%+v, %v", rest, err)
	}
	_, err = r.Disconnect(t.Context(), "web", "blue")
	wantCode(t, err, codes.NotFound)
	_, err = r.Disconnect(t.Context(), "nobody", "blue")
	wantCode(t, err, codes.NotFound)

	r = startRig(t, r.db, r.loop, r.subnets)
	if ps := r.journal.Problems(); len(ps) != 0 || len(r.List()) != 1 {
		t.Fatalf("after a restart: %v, %+v", ps, r.List())
	}
	back, err := r.Connect(t.Context(), "web", Want{Network: "blue", Addrs: []netip.Addr{first.Interfaces[0].Addrs[0].Addr()}})
	if err != nil || back.Interfaces[0].Name != "eth0" {
		t.Errorf("%+v, %v", back, err)
	}
	if err := r.Detach(t.Context(), "web"); err != nil {
		t.Fatal(err)
	}
	r.wantEmpty(t)
}

// Changes of one container at the same time end in one of the orders.
func TestConnectAndDisconnectInParallel(t *testing.T) {
	r := twoNetworks(t)
	r.mustAttach(t, ask("web", "blue"))
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			if _, err := r.Connect(t.Context(), "web", Want{Network: "red"}); err != nil {
				t.Errorf("connect: %v", err)
			}
		})
		wg.Go(func() {
			if _, err := r.Disconnect(t.Context(), "web", "red"); err != nil && !strings.Contains(err.Error(), "not on this network") {
				t.Errorf("disconnect: %v", err)
			}
		})
	}
	wg.Wait()
	r.mustConnect(t, "web", "red")
	if att := r.List()[0]; len(att.Interfaces) != 2 || !reflect.DeepEqual(r.index.claims["web"].Interfaces, att.Interfaces) {
		t.Errorf("journal %+v, claims %+v", att, r.index.claims)
	}
}

func TestParseConnect(t *testing.T) {
	for what, m := range map[string]*ovlv1.ConnectRequest{
		"nothing":   {},
		"id":        {Id: "a/b", Interface: &ovlv1.InterfaceRequest{Network: "red"}},
		"network":   {Id: "web", Interface: &ovlv1.InterfaceRequest{Network: "Red"}},
		"interface": {Id: "web", Interface: &ovlv1.InterfaceRequest{Network: "red", Name: "lo"}},
		"mac":       {Id: "web", Interface: &ovlv1.InterfaceRequest{Network: "red", Mac: "01:00:00:00:00:00"}},
		"address":   {Id: "web", Interface: &ovlv1.InterfaceRequest{Network: "red", Addresses: []string{"10.0.0.0/8"}}},
		"alias":     {Id: "web", Interface: &ovlv1.InterfaceRequest{Network: "red", Aliases: []string{"A"}}},
	} {
		_, _, err := ParseConnect(m)
		if t.Run(what, func(t *testing.T) { wantCode(t, err, codes.InvalidArgument) }); err == nil {
			t.Errorf("%s: accepted", what)
		}
	}
	_, _, err := ParseDisconnect(&ovlv1.DisconnectRequest{Id: "web", Network: "../x"})
	wantCode(t, err, codes.InvalidArgument)
	id, w, err := ParseConnect(&ovlv1.ConnectRequest{Id: "web", Interface: &ovlv1.InterfaceRequest{Network: "red", Addresses: []string{"10.65.0.9"}}})
	if err != nil || id != "web" || w.Network != "red" || w.Addrs[0] != adr("10.65.0.9") {
		t.Errorf("%s, %+v, %v", id, w, err)
	}
}
