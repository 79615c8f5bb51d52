package agent_test

import (
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ovlnet/ovl/internal/cluster"
	"github.com/ovlnet/ovl/internal/dataplane"
	"github.com/ovlnet/ovl/internal/plan"
	"github.com/ovlnet/ovl/internal/store/mem"
)

// TestLent: an interface that a container engine moves is left alone on its way, found
// where it arrives though nobody says so, and kept there.
func TestLent(t *testing.T) {
	const sandbox = "/var/run/docker/netns/0123"
	db := newDB(t)
	synctest.Test(t, func(t *testing.T) {
		kv, k := mem.New(), newHostKernel()
		putNetwork(t, kv)
		r := start(t, k, kv, db)
		settled()
		web := cluster.Attachment{ID: "ep1", Name: "web", Stage: cluster.Offered, Interfaces: []cluster.Interface{{
			Network: "blue", Name: plan.OfferName("ep1"), Addrs: []netip.Prefix{netip.MustParsePrefix("10.64.1.2/24")}, MAC: cluster.MAC{2, 1},
		}}}
		offered, host := dataplane.LinkKey{Name: plan.OfferName("ep1")}, dataplane.LinkKey{Name: plan.HostEnd(web, web.Interfaces[0])}
		arrived := dataplane.LinkKey{NS: sandbox, Name: "eth0"}
		turn := func(stage cluster.Stage) {
			t.Helper()
			r.att.mu.Lock()
			web.Stage, web.Sandbox = stage, sandbox
			r.att.list = []cluster.Attachment{web}
			r.att.mu.Unlock()
			if rep, err := r.Settle(t.Context(), nil); err != nil || len(rep.Outcomes) > 0 {
				t.Fatalf("stage %d: %v, %v", stage, rep.Outcomes, err)
			}
		}
		r.att.lent = func(seen dataplane.State, list []cluster.Attachment) bool {
			if _, there := seen.Links[arrived]; !there || list[0].Stage != cluster.HandedOver || !seen.Links[arrived].Up {
				return false
			}
			adopted := list[0]
			adopted.Stage, adopted.NetNS = cluster.Adopted, sandbox
			adopted.Interfaces = []cluster.Interface{web.Interfaces[0]}
			adopted.Interfaces[0].Name = "eth0"
			list[0] = adopted
			return true
		}
		has := func(keys ...dataplane.LinkKey) {
			t.Helper()
			links := k.State().Links
			n := 0
			for _, l := range links {
				if l.Kind == dataplane.Veth {
					n++
				}
			}
			for _, key := range keys {
				if _, ok := links[key]; !ok {
					t.Errorf("%s is missing", key)
				}
			}
			if n != len(keys) {
				t.Errorf("%d veths, want %v:\n%s", n, keys, k.State())
			}
			if ops, _, err := r.Diff(t.Context()); err != nil || len(ops) != 0 {
				t.Errorf("Diff: %v, %v", ops, err)
			}
		}
		turn(cluster.Offered)
		has(offered, host)
		turn(cluster.HandedOver)
		has(offered, host)

		// The engine's part. Its sandbox comes into being only now.
		k.AddNamespace(sandbox)
		if err := k.Move(offered, arrived); err != nil {
			t.Fatal(err)
		}
		r.events <- dataplane.Scope{dataplane.Host: dataplane.Of(dataplane.TableLink)}
		settled()
		has(arrived, host)
		up := k.State().Links[arrived]
		up.Up = true
		for _, row := range []dataplane.Row{up, dataplane.Addr{AddrKey: dataplane.AddrKey{NS: sandbox, Link: "eth0", Prefix: web.Interfaces[0].Addrs[0]}}} {
			if err := k.Set(row); err != nil {
				t.Fatal(err)
			}
		}
		r.events <- dataplane.Scope{sandbox: dataplane.NSTables}
		time.Sleep(time.Second)
		settled()
		if got := r.att.List()[0]; got.Stage != cluster.Adopted {
			t.Fatalf("not adopted: %+v", got)
		}
		has(arrived, host)

		// From now on it is repaired, without the engine.
		if err := k.Remove(arrived); err != nil {
			t.Fatal(err)
		}
		r.events <- dataplane.Scope{dataplane.Host: dataplane.Of(dataplane.TableLink), sandbox: dataplane.NSTables}
		time.Sleep(time.Second)
		settled()
		has(arrived, host)

		web = r.att.List()[0]
		web.NetNS = ""
		turn(cluster.TakenBack)
		has(arrived, host)
		if err := k.Move(arrived, offered); err != nil {
			t.Fatal(err)
		}
		r.events <- dataplane.Scope{dataplane.Host: dataplane.Of(dataplane.TableLink)}
		settled()
		has(offered, host)
		r.att.mu.Lock()
		r.att.list = nil
		r.att.mu.Unlock()
		if _, err := r.Settle(t.Context(), nil); err != nil {
			t.Fatal(err)
		}
		has()
		r.stop()
	})
}
