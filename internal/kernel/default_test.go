package kernel_test

import (
	"fmt"
	"net/netip"
	"os/exec"
	"strings"
	"testing"

	"github.com/ovlnet/ovl/internal/cluster"
	"github.com/ovlnet/ovl/internal/dataplane"
)

// TestDefaultRouteMovesWithoutAGap: a container that leaves the network of its
// default route is at no moment without one. ip-monitor(8) watches: the kernel
// tells of no deletion, but of one route that takes the other's place.
func TestDefaultRouteMovesWithoutAGap(t *testing.T) {
	h := newHost(t)
	ns := h.Namespace(t)
	rows := func(defaultBy string) dataplane.State {
		var s dataplane.State
		for n, link := range []string{"eth0", "eth1"} {
			if link < defaultBy {
				continue // disconnected
			}
			host := fmt.Sprintf("ove%012d", n)
			s.Add(
				dataplane.Link{LinkKey: dataplane.LinkKey{NS: ns, Name: link}, Kind: dataplane.Veth, Peer: host, MAC: cluster.MAC{2, 0, 0, 0, 0, byte(n)}, MTU: 1450, Up: true, Alias: "ovl/1/blue/web"},
				dataplane.Link{LinkKey: dataplane.LinkKey{Name: host}, Kind: dataplane.Veth, MAC: cluster.MAC{2, 0, 0, 0, 1, byte(n)}, MTU: 1450, Up: true, Alias: "ovl/1/blue/web"},
			)
			for _, subnet := range []string{"10.6%d.1.0/24", "fd6%d::/64"} {
				p := netip.MustParsePrefix(fmt.Sprintf(subnet, n+4))
				own := p.Addr().Next().Next()
				s.Add(
					dataplane.Addr{AddrKey: dataplane.AddrKey{NS: ns, Link: link, Prefix: netip.PrefixFrom(own, p.Bits())}},
					dataplane.Route{RouteKey: dataplane.RouteKey{NS: ns, Dst: p}, Link: link, Src: own},
				)
				if link == defaultBy {
					zero := netip.PrefixFrom(p.Addr(), 0).Masked()
					s.Add(dataplane.Route{RouteKey: dataplane.RouteKey{NS: ns, Dst: zero}, Link: link, Via: p.Addr().Next()})
				}
			}
		}
		return s
	}
	settleTo := func(want dataplane.State) {
		t.Helper()
		have, _, err := h.linux.Observe(t.Context(), dataplane.FullScope(ns))
		if err != nil {
			t.Fatal(err)
		}
		for _, op := range dataplane.Diff(want, have) {
			if err := h.linux.Apply(t.Context(), op); err != nil {
				t.Fatalf("%s: %v", op, err)
			}
		}
	}
	settleTo(rows("eth0"))
	heard := h.monitorRoutes(t, ns)
	settleTo(rows("eth1"))
	out := heard()
	for line := range strings.SplitSeq(out, "\n") {
		if strings.HasPrefix(line, "Deleted default") {
			t.Errorf("the kernel tells of %q", line)
		}
	}
	for _, family := range []string{"-4", "-6"} {
		if got := h.do(t, ip(ns)+family+" route show default"); strings.Count(got, "default") != 1 || !strings.Contains(got, "eth1") {
			t.Errorf("default route %s: %q, want one by eth1", family, got)
		}
	}
	if n := strings.Count(out, "default via"); n < 2 {
		t.Errorf("the monitor heard of %d default routes, want one of each family:\n%s", n, out)
	}
}

// monitorRoutes listens to the routes of a namespace until heard is called,
// which returns all that came before its call.
func (h *host) monitorRoutes(t *testing.T, ns dataplane.NS) (heard func() string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "stdbuf", append([]string{"-oL"}, strings.Fields(ip(ns)+"monitor route")...)...)
	pipe, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	read := make(chan string)
	go func() {
		defer close(read)
		var b [4096]byte
		for {
			n, err := pipe.Read(b[:])
			if n > 0 {
				read <- string(b[:n])
			}
			if err != nil {
				return
			}
		}
	}()
	// A route of our own making, made anew until it is heard of,
	// says that the monitor listens, and another one that all else was heard.
	var all strings.Builder
	until := func(mark string) {
		for !strings.Contains(all.String(), mark) {
			h.may(ip(ns) + "route del " + mark) // one that is there already would not be told of
			h.do(t, ip(ns)+"route add "+mark+" dev lo")
			select {
			case s := <-read:
				all.WriteString(s)
			default:
			}
		}
	}
	until("198.51.100.1")
	return func() string {
		until("198.51.100.2")
		_ = cmd.Process.Kill()
		for s := range read {
			all.WriteString(s)
		}
		_ = cmd.Wait()
		return all.String()
	}
}
