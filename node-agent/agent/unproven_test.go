package agent

import (
	"net/netip"
	"testing"

	"github.com/ovlnet/ovl/internal/cluster"
	"github.com/ovlnet/ovl/internal/dataplane"
)

// TestKeepUnproven: before the cluster has been seen, what only it can say is kept,
// and what this host's own journal says is not.
func TestKeepUnproven(t *testing.T) {
	member := dataplane.Peer(netip.MustParseAddr("192.168.77.9"), 5, netip.MustParsePrefix("10.64.9.0/24"))
	gone := dataplane.Source("ove1", cluster.MAC{2}, netip.MustParseAddr("10.64.1.2"))
	peer := dataplane.Route{RouteKey: dataplane.RouteKey{Dst: netip.MustParsePrefix("10.64.9.0/24")}, Link: "ovx5"}
	veth := dataplane.Link{LinkKey: dataplane.LinkKey{Name: "ove1"}, Kind: dataplane.Veth}
	inside := dataplane.Addr{AddrKey: dataplane.AddrKey{NS: "/run/netns/web", Link: "eth0", Prefix: netip.MustParsePrefix("10.64.1.2/24")}}
	guard := dataplane.NewGuard(dataplane.NFInet, "chain tunnel", "ip saddr . @th,96,24 . @th,336,32 & 0xffffff00 @peers_ipv4_24_over_ipv4 accept")
	have := dataplane.NewState(dataplane.Set{SetKey: member.Set}, member, gone, peer, veth, inside, guard)
	newer := dataplane.NewGuard(dataplane.NFInet, "chain tunnel", "counter drop")
	got := keepUnproven(dataplane.NewState(newer), have)
	for _, r := range []dataplane.Row{dataplane.Set{SetKey: member.Set}, member, peer, newer} {
		if h, ok := got.Get(r.Key()); !ok || !h.Same(r) {
			t.Errorf("%s is not kept", r)
		}
	}
	for _, r := range []dataplane.Row{gone, veth, inside} {
		if _, ok := got.Get(r.Key()); ok {
			t.Errorf("%s is kept", r)
		}
	}
}
