package kernel_test

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/ovlnet/ovl/internal/cluster"
	"github.com/ovlnet/ovl/internal/dataplane"
	"github.com/ovlnet/ovl/internal/reconcile"
)

// TestNewsOfWhatIsOwed: what the kernel tells in nobody's name of an interface that was
// just made, such as that it carries frames now, is about tables that are to be read
// again anyway. Otherwise each container would have all links of the host read at once.
func TestNewsOfWhatIsOwed(t *testing.T) {
	h := newHost(t)
	a := h.Namespace(t)
	rec := reconcile.New(h.linux)
	bridge := dataplane.Link{LinkKey: dataplane.LinkKey{Name: "ovb5"}, Kind: dataplane.Bridge, MAC: cluster.MAC{2, 0, 0, 0, 0, 1}, MTU: 1450, Up: true, Alias: "ovl/1/blue/bridge"}
	want := dataplane.NewState(bridge)
	attach := func(n byte) {
		t.Helper()
		name, alias := fmt.Sprintf("eth%d", n), fmt.Sprintf("ovl/1/blue/c%d", n)
		end := dataplane.Link{LinkKey: dataplane.LinkKey{NS: a, Name: name}, Kind: dataplane.Veth, MAC: cluster.MAC{2, 0, 0, 0, 2, n}, MTU: 1450, Up: true, Alias: alias, Peer: "ove" + name}
		host := dataplane.Link{LinkKey: dataplane.LinkKey{Name: end.Peer}, Kind: dataplane.Veth, MAC: cluster.MAC{2, 0, 0, 0, 3, n}, MTU: 1450, Up: true, Alias: alias, Master: "ovb5"}
		want.Add(end, host, dataplane.Addr{AddrKey: dataplane.AddrKey{NS: a, Link: name, Prefix: netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 64, 1, n}), 24)}})
		if rep := rec.Apply(t.Context(), want, time.Now); rep.Err != nil || len(rep.Outcomes) > 0 {
			t.Fatal(rep)
		}
	}
	if _, err := rec.Observe(t.Context(), dataplane.FullScope(a)); err != nil {
		t.Fatal(err)
	}
	attach(2) // with the first the bridge itself begins to carry frames
	if _, err := rec.Observe(t.Context(), dataplane.FullScope(a)); err != nil {
		t.Fatal(err)
	}
	scopes := watch(t, h, a)
	attach(3)
	owed := rec.Owed()
	if !owed[dataplane.Host].Has(dataplane.TableLink) {
		t.Fatal("nothing is owed: the interface was not believed")
	}
	h.do(t, "ip route add 198.51.100.0/24 dev uplink0")
	told := dataplane.Scope{}
	links := dataplane.Of(dataplane.TableLink, dataplane.TableQdisc)
	for !told[dataplane.Host].Has(dataplane.TableRoute) || !told[dataplane.Host].Has(dataplane.TableLink) {
		told.Merge(<-scopes)
	}
	if rest := told[dataplane.Host] & links &^ owed[dataplane.Host]; rest != 0 {
		t.Errorf("tables %b were told, which are not owed", rest)
	}
}
