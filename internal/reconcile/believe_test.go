package reconcile_test

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/ovlnet/ovl/internal/cluster"
	"github.com/ovlnet/ovl/internal/dataplane"
	"github.com/ovlnet/ovl/internal/reconcile"
)

// TestManyPortsAreBelieved: of a hundred containers that come or go at once nothing is
// read on the host in that pass, though each has entries there; the reading is owed, and
// finds what was believed.
func TestManyPortsAreBelieved(t *testing.T) {
	inner := newKernel()
	k := &watched{Kernel: inner}
	r := reconcile.New(k)
	before := wanted()
	if rep := pass(t, r, before); rep.Err != nil || len(rep.Outcomes) > 0 {
		t.Fatal(rep)
	}
	after := before.Clone()
	for i := range byte(100) {
		ns := dataplane.NS(fmt.Sprintf("/run/netns/c%d", i))
		inner.AddNamespace(ns)
		host, mac := fmt.Sprintf("ove%d", i), cluster.MAC{2, 0, 0, 0, 1, i}
		alias := fmt.Sprintf("%sblue/c%d", dataplane.AliasPrefix, i)
		after.Add(
			dataplane.Link{LinkKey: dataplane.LinkKey{NS: ns, Name: "eth0"}, Kind: dataplane.Veth, MAC: mac, MTU: 1450, Up: true, Alias: alias, Peer: host},
			dataplane.Link{LinkKey: dataplane.LinkKey{Name: host}, Kind: dataplane.Veth, MAC: cluster.MAC{0xfe, 1}, MTU: 1450, Up: true, Alias: alias, Master: "ovb5"},
			dataplane.FDB{FDBKey: dataplane.FDBKey{Link: host, MAC: mac}},
			dataplane.Neigh{NeighKey: dataplane.NeighKey{Link: "ovb5", IP: netip.AddrFrom4([4]byte{10, 64, 1, 100 + i})}, MAC: mac},
		)
	}
	for _, want := range []dataplane.State{after, before} {
		t.Run(fmt.Sprintf("%d rows", want.Len()), func(t *testing.T) {
			k.read = 0
			if rep := r.Apply(t.Context(), want, time.Now); rep.Applied < 200 || len(rep.Outcomes) > 0 {
				t.Fatalf("%d operations, %v", rep.Applied, rep.Outcomes)
			}
			if k.read != 0 {
				t.Errorf("read %b of the host", k.read)
			}
			if owed := r.Owed()[dataplane.Host]; !owed.Has(dataplane.TableFDB) || !owed.Has(dataplane.TableNeigh) || !owed.Has(dataplane.TableLink) {
				t.Errorf("owed are %b", owed)
			}
			if believed, read := r.Have().String(), inner.State().String(); believed != read {
				t.Errorf("believed\n%s\nbut a reading finds\n%s", believed, read)
			}
			if rep := pass(t, r, want); rep.Applied != 0 {
				t.Errorf("a pass that read everything did %d operations", rep.Applied)
			}
		})
	}
}
