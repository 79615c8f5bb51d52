package attach

import (
	"reflect"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"

	"github.com/ovlnet/ovl/internal/cluster"
	"github.com/ovlnet/ovl/internal/dataplane"
	"github.com/ovlnet/ovl/internal/plan"
)

const sandboxPath = "/var/run/docker/netns/0123456789ab"

func offer(id, network string) Request {
	return Request{ID: id, Name: "docker-" + id, Hostname: "docker-" + id, Interfaces: []Want{{Network: network}}}
}

func (r *rig) mustOffer(t *testing.T, id, network string) cluster.Attachment {
	t.Helper()
	att, err := r.Offer(t.Context(), offer(id, network))
	if err != nil {
		t.Fatal(err)
	}
	return att
}

func (r *rig) mustHandOver(t *testing.T, id string) cluster.Attachment {
	t.Helper()
	att, err := r.HandOver(t.Context(), id, sandboxPath, false)
	if err != nil {
		t.Fatal(err)
	}
	return att
}

// seen is what the loop sees of an attachment's links: the host's end, and the container's
// as told, with the given addresses.
func seen(att cluster.Attachment, end dataplane.Link, addrs ...string) dataplane.State {
	alias := plan.Alias(att.Interfaces[0].Network, att.ID)
	end.Alias = alias
	s := dataplane.NewState(end, dataplane.Link{LinkKey: dataplane.LinkKey{Name: plan.HostEnd(att, att.Interfaces[0])}, Alias: alias})
	for _, a := range addrs {
		s.Add(dataplane.Addr{AddrKey: dataplane.AddrKey{NS: end.NS, Link: end.Name, Prefix: pfx(a)}})
	}
	return s
}

func inSandbox(name string, up bool) dataplane.Link {
	return dataplane.Link{LinkKey: dataplane.LinkKey{NS: sandboxPath, Name: name}, Up: up}
}

// veths are the names of the veths that the last plan has, by namespace.
func (r *rig) veths() map[dataplane.LinkKey]bool {
	out := map[dataplane.LinkKey]bool{}
	for k, l := range r.loop.Plan().State.Links {
		if l.Kind == dataplane.Veth {
			out[k] = true
		}
	}
	return out
}

// TestHandOver goes all the way of an interface that an engine moves, over a restart at
// each step, and looks at what is wanted.
func TestHandOver(t *testing.T) {
	r := newRig(t, network("blue", 7, 8, "10.64.0.0/16", "fd64::/48"))
	restart := func() {
		t.Helper()
		before := r.List()
		r = startRig(t, r.db, r.loop, r.subnets)
		if !reflect.DeepEqual(r.List(), before) {
			t.Fatalf("after a restart %+v, before %+v", r.List(), before)
		}
	}
	att := r.mustOffer(t, "ep1", "blue")
	offered, host := dataplane.LinkKey{Name: plan.OfferName("ep1")}, dataplane.LinkKey{Name: plan.HostLink("ep1", "")}
	if got := r.veths(); len(got) != 2 || !got[offered] || !got[host] || r.loop.Plan().State.Links[offered].Up {
		t.Errorf("offered: %v", got)
	}
	if again := r.mustOffer(t, "ep1", "blue"); !reflect.DeepEqual(again, att) {
		t.Errorf("asked again: %+v, not %+v", again, att)
	}
	restart()

	handed := r.mustHandOver(t, "ep1")
	if got := r.veths(); len(got) != 0 || handed.Stage != cluster.HandedOver || handed.Sandbox != sandboxPath || handed.NetNS != "" {
		t.Errorf("handed over: %v, %+v", got, handed)
	}
	if again := r.mustHandOver(t, "ep1"); !reflect.DeepEqual(again, handed) {
		t.Errorf("joined again: %+v, not %+v", again, handed)
	}
	if _, err := r.HandOver(t.Context(), "ep1", "/var/run/docker/netns/other", false); err == nil {
		t.Error("one interface in two sandboxes")
	}
	restart()

	addrs := []string{att.Interfaces[0].Addrs[0].String(), att.Interfaces[0].Addrs[1].String()}
	for name, s := range map[string]dataplane.State{
		"on the host":       seen(att, dataplane.Link{LinkKey: offered}),
		"not yet renamed":   seen(att, inSandbox(offered.Name, false)),
		"not yet up":        seen(att, inSandbox("eth0", false), addrs...),
		"without addresses": seen(att, inSandbox("eth0", true)),
	} {
		if r.Lent(s) {
			t.Errorf("adopted while %s", name)
		}
	}
	if !r.Lent(seen(att, inSandbox("eth0", true), addrs...)) {
		t.Fatal("not adopted when all is there")
	}
	adopted, _ := r.Get("ep1")
	if adopted.Stage != cluster.Adopted || adopted.NetNS != sandboxPath || adopted.Interfaces[0].Name != "eth0" || len(adopted.Interfaces[0].Addrs) != 2 {
		t.Errorf("adopted: %+v", adopted)
	}
	restart()
	if err := r.Describe(t.Context(), "ep1", Description{Name: "web", Aliases: []string{"www"}}); err != nil {
		t.Fatal(err)
	}
	if got := r.veths(); len(got) != 2 || !got[host] || !got[dataplane.LinkKey{NS: sandboxPath, Name: "eth0"}] {
		t.Errorf("adopted: %v", got)
	}
	for k, route := range r.loop.Plan().State.Routes {
		if k.NS == sandboxPath && !route.Spare {
			t.Errorf("%s is in the way of the engine's own", route)
		}
	}
	if e := r.subnets.published; len(e) != 1 || e[0].Name != "web" || e[0].Aliases[0] != "www" {
		t.Errorf("published %+v", e)
	}

	for range 2 { // the second does nothing
		if err := r.TakeBack(t.Context(), "ep1"); err != nil {
			t.Fatal(err)
		}
		if got := r.veths(); len(got) != 0 {
			t.Errorf("taken back: %v", got)
		}
	}
	if r.Lent(seen(att, inSandbox("eth0", true), addrs...)) {
		t.Error("adopted again while the engine moves it back")
	}
	restart()

	// Joined once more, as engines do when they rebuild a sandbox: both ends are made sure of.
	passes := r.loop.passes
	if r.mustHandOver(t, "ep1"); r.loop.passes < passes+2 {
		t.Error("handed over a second time without looking whether it is there")
	}
	if err := r.TakeBack(t.Context(), "ep1"); err != nil {
		t.Fatal(err)
	}
	if err := r.Detach(t.Context(), "ep1"); err != nil {
		t.Fatal(err)
	}
	r.wantEmpty(t)
}

// TestHandOverWithoutIPv6: an engine leaves addresses out of containers without IPv6.
func TestHandOverWithoutIPv6(t *testing.T) {
	r := newRig(t, network("blue", 7, 8, "10.64.0.0/16", "fd64::/48"))
	att := r.mustOffer(t, "ep1", "blue")
	r.mustHandOver(t, "ep1")
	four := att.Interfaces[0].Addrs[0]
	if !r.Lent(seen(att, inSandbox("eth0", true), four.String())) {
		t.Fatal("not adopted")
	}
	got, _ := r.Get("ep1")
	if i := got.Interfaces[0]; len(i.Addrs) != 1 || i.Addrs[0] != four {
		t.Errorf("addresses %v", i.Addrs)
	}
	if _, taken := r.index.addrs[netAddr{"blue", att.Interfaces[0].Addrs[1].Addr()}]; taken {
		t.Error("the address that was left out is nobody's")
	}
}

// TestLentAndGone: an interface that ended with its container's namespace, or with the
// machine's uptime, is forgotten though the engine says nothing.
func TestLentAndGone(t *testing.T) {
	r := newRig(t, network("blue", 7, 8, "10.64.0.0/16"))
	for _, id := range []string{"joined", "left"} {
		r.mustOffer(t, id, "blue")
		r.mustHandOver(t, id)
	}
	if err := r.TakeBack(t.Context(), "left"); err != nil {
		t.Fatal(err)
	}
	if !r.Lent(dataplane.State{}) {
		t.Error("nothing was forgotten")
	}
	r.wantEmpty(t)
}

// TestHandOverFails: an engine that is told no still has what it was offered, and an
// engine's interface is none for others to move.
func TestHandOverFails(t *testing.T) {
	lan := network("lan", 9, 8, "172.16.0.0/16")
	lan.Driver, lan.Parent = cluster.DriverMacvlan, "eth0"
	r := newRig(t, network("blue", 7, 8, "10.64.0.0/16"), lan)
	if _, err := r.Offer(t.Context(), offer("ep1", "lan")); err == nil || !strings.Contains(err.Error(), "macvlan") {
		t.Errorf("on a macvlan: %v", err)
	}
	_, err := r.HandOver(t.Context(), "ep1", sandboxPath, false)
	wantCode(t, err, codes.NotFound)
	wantCode(t, r.TakeBack(t.Context(), "ep1"), codes.NotFound)
	wantCode(t, r.Describe(t.Context(), "ep1", Description{Name: "web"}), codes.NotFound)
	r.mustOffer(t, "ep1", "blue")
	for _, path := range []string{"", "netns/0123", "/var/../etc", strings.Repeat("/x", 600)} {
		_, err := r.HandOver(t.Context(), "ep1", path, false)
		wantCode(t, err, codes.InvalidArgument)
	}
	r.mustAttach(t, ask("web", "blue"))
	_, err = r.HandOver(t.Context(), "web", sandboxPath, false)
	wantCode(t, err, codes.FailedPrecondition)
	wantCode(t, r.TakeBack(t.Context(), "web"), codes.FailedPrecondition)
	wantCode(t, r.Describe(t.Context(), "ep1", Description{Name: "web"}), codes.AlreadyExists)
	wantCode(t, r.Describe(t.Context(), "ep1", Description{Name: "no name"}), codes.InvalidArgument)

	_, err = r.Connect(t.Context(), "ep1", Want{Network: "lan"})
	wantCode(t, err, codes.FailedPrecondition)
	_, err = r.Disconnect(t.Context(), "ep1", "blue")
	wantCode(t, err, codes.FailedPrecondition)

	r.loop.deaf = true
	ctx, cancel := contextSoon(t)
	defer cancel()
	if _, err := r.HandOver(ctx, "ep1", sandboxPath, false); err == nil {
		t.Error("handed over without a pass")
	}
	if got, _ := r.Get("ep1"); got.Stage != cluster.Offered {
		t.Errorf("after a failure it is in stage %d", got.Stage)
	}
}

// TestStoredStages: a journal is checked as what an engine says is.
func TestStoredStages(t *testing.T) {
	good := cluster.Attachment{ID: "ep1", Name: "web", Hostname: "web", Stage: cluster.HandedOver, Sandbox: sandboxPath, Interfaces: []cluster.Interface{{
		Network: "blue", Name: "ovp0", MAC: cluster.MAC{2}, Addrs: prefixes("10.64.0.2/24"),
	}}}
	for name, change := range map[string]func(*cluster.Attachment){
		"a namespace before it is there": func(a *cluster.Attachment) { a.NetNS = sandboxPath },
		"no sandbox":                     func(a *cluster.Attachment) { a.Sandbox = "" },
		"a sandbox with dots":            func(a *cluster.Attachment) { a.Sandbox = "/run/../etc" },
		"no such stage":                  func(a *cluster.Attachment) { a.Stage = 9 },
		"adopted nowhere":                func(a *cluster.Attachment) { a.Stage = cluster.Adopted },
		"adopted elsewhere":              func(a *cluster.Attachment) { a.Stage, a.NetNS = cluster.Adopted, "/run/netns/web" },
		"two interfaces": func(a *cluster.Attachment) {
			a.Interfaces = append(a.Interfaces, cluster.Interface{Network: "red", Name: "eth1", MAC: cluster.MAC{2}, Addrs: prefixes("10.65.0.2/24")})
		},
	} {
		t.Run(name, func(t *testing.T) {
			if err := checkStored(good); err != nil {
				t.Fatal(err)
			}
			bad := clone(good)
			change(&bad)
			if checkStored(bad) == nil {
				t.Errorf("accepted: %+v", bad)
			}
		})
	}
}
