package lease_test

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"go.etcd.io/bbolt"

	"github.com/ovlnet/ovl/internal/cluster"
	"github.com/ovlnet/ovl/internal/store"
	"github.com/ovlnet/ovl/node-agent/lease"
)

func copyDB(r *rig, h *host, name string) {
	r.t.Helper()
	err := h.db.View(func(tx *bbolt.Tx) error { return tx.CopyFile(filepath.Join(r.dir, name), 0o600) })
	if err != nil {
		r.t.Fatalf("copy disk: %v", err)
	}
}

func endpoints(l cluster.Lease, n int) []cluster.Endpoint {
	var out []cluster.Endpoint
	a := l.Prefix.Addr().Next()
	for i := range n {
		a = a.Next()
		out = append(out, cluster.Endpoint{Network: l.Network, ID: fmt.Sprintf("c%03d", i), Name: fmt.Sprintf("c%d", i), Addrs: []netip.Addr{a}})
	}
	return out
}

// Whatever of ours is deleted by hand comes back at once.
func TestRepair(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		network := r.network("blue", "10.64.0.0/16", 24)
		h := r.addHost().start()
		synctest.Wait()
		l := h.take(network)
		h.keeper.SetEndpoints(endpoints(l, 3))
		synctest.Wait()
		want := r.keys(store.Root)
		if len(want) != 1+1+1+1+3 {
			t.Fatalf("in the store: %v", want)
		}
		for _, key := range want {
			if key == "networks/blue" {
				continue
			}
			// A first wake repairs; what of a session is deleted at once again may wait.
			time.Sleep(10 * time.Second)
			r.remove(store.Root + key)
			synctest.Wait()
			if got := r.keys(store.Root); !slices.Equal(got, want) {
				t.Errorf("%s deleted: %v, want %v", key, got, want)
			}
		}
		h.want(l.Prefix, lease.StateHeld)
		for _, key := range want[:len(want)-1] {
			if key == "networks/blue" {
				continue
			}
			time.Sleep(10 * time.Second)
			r.put(store.Root+key, []byte("{"))
			synctest.Wait()
			rec, _, _ := store.Get(t.Context(), r.store, store.Root+key)
			if subnet := store.SubnetKey("blue", l.Prefix); rec.Key == subnet {
				// What somebody else has written there might be another owner's.
				h.want(l.Prefix, lease.Lost)
				r.remove(subnet)
				continue
			}
			if string(rec.Value) == "{" {
				t.Errorf("%s damaged: not repaired", key)
			}
		}
	})
}

// Records deleted while we were cut off, and the history compacted.
func TestRepairAfterCompaction(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		network := r.network("blue", "10.64.0.0/16", 24)
		h := r.addHost().start()
		synctest.Wait()
		l := h.take(network)
		h.keeper.SetEndpoints(endpoints(l, 3))
		synctest.Wait()
		want := r.keys(store.Root)
		h.kv.SetConnected(false)
		r.remove(store.SubnetsPrefix("blue"))
		r.remove(store.EndpointsPrefix("blue"))
		r.put("other", nil)
		r.store.Compact(r.store.Revision())
		h.kv.SetConnected(true)
		time.Sleep(2 * time.Second)
		if got := r.keys(store.Root); !slices.Equal(got, want) {
			t.Errorf("got %v, want %v", got, want)
		}
		h.want(l.Prefix, lease.StateHeld)
	})
}

func TestEndpoints(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		network := r.network("blue", "10.64.0.0/16", 22)
		h := r.addHost().start()
		synctest.Wait()
		l := h.take(network)
		before := r.store.Revision()
		h.keeper.SetEndpoints(endpoints(l, 250))
		synctest.Wait() // no time passes
		if n := len(r.keys(store.EndpointsPrefix("blue"))); n != 250 {
			t.Errorf("%d endpoints, want 250", n)
		}
		if writes := r.store.Revision() - before; writes != 3 {
			t.Errorf("%d transactions for 250 endpoints, want 3", writes)
		}
		before = r.store.Revision()
		h.keeper.SetEndpoints(endpoints(l, 250))
		synctest.Wait()
		if r.store.Revision() != before {
			t.Error("the same set was written again")
		}
		h.kill()
		h.start()
		time.Sleep(time.Minute)
		if n := len(r.keys(store.EndpointsPrefix("blue"))); n != 250 {
			t.Errorf("%d endpoints before the restarted agent knows its own, want 250", n)
		}
		h.keeper.SetEndpoints(endpoints(l, 2))
		synctest.Wait()
		if n := len(r.keys(store.EndpointsPrefix("blue"))); n != 2 {
			t.Errorf("%d endpoints, want 2", n)
		}
		h.kv.SetConnected(false)
		h.keeper.SetEndpoints(nil)
		if err := h.keeper.Release(t.Context(), l); err == nil {
			t.Error("release without the store succeeded")
		}
		h.kill()
		h.kv.SetConnected(true)
		h.start()
		h.keeper.SetEndpoints(nil)
		synctest.Wait()
		if got := r.keys(store.EndpointsPrefix("")); len(got) != 0 {
			t.Errorf("left over: %v", got)
		}
	})
}

// A deleted network is not brought back by its endpoints, nor are they put into
// a later network of its name.
// What a killed process was writing arrives late, after its network has been left.
func TestEndpointsWrittenLate(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		network := r.network("blue", "10.64.0.0/16", 24)
		h := r.addHost().start()
		synctest.Wait()
		h.keeper.SetEndpoints(endpoints(h.take(network), 1))
		synctest.Wait()
		prefix := store.EndpointsPrefix("blue")
		key := store.Root + r.keys(prefix)[0]
		late, _, _ := store.Get(t.Context(), r.store, key)
		h.kill()
		h.start()
		h.keeper.SetEndpoints(nil)
		time.Sleep(time.Second)
		if left := r.keys(prefix); len(left) != 0 {
			t.Fatalf("left: %v", left)
		}
		time.Sleep(8 * time.Second)
		r.put(key, late.Value)
		time.Sleep(time.Second)
		if left := r.keys(prefix); len(left) != 0 {
			t.Errorf("left for ever: %v", left)
		}
	})
}

func TestEndpointsOfDeletedNetwork(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		network := r.network("blue", "10.64.0.0/16", 24)
		h := r.addHost().start()
		synctest.Wait()
		l := h.take(network)
		h.keeper.SetEndpoints(endpoints(l, 2))
		synctest.Wait()
		r.remove(store.NetworkKey("blue"))
		r.remove(store.SubnetsPrefix("blue"))
		r.remove(store.EndpointsPrefix("blue"))
		synctest.Wait()
		r.network("blue", "10.64.0.0/16", 24)
		h.keeper.SetEndpoints(endpoints(l, 3))
		time.Sleep(10 * time.Minute)
		if got := append(r.keys(store.SubnetsPrefix("")), r.keys(store.EndpointsPrefix(""))...); len(got) != 0 {
			t.Errorf("resurrected: %v", got)
		}
		if !h.problem("deleted while containers") {
			t.Errorf("problems: %+v", h.keeper.Status().Problems)
		}
		h.keeper.SetEndpoints(nil)
		synctest.Wait()
		if h.problem("deleted while containers") {
			t.Errorf("problems: %+v", h.keeper.Status().Problems)
		}
	})
}

func TestLoadHostID(t *testing.T) {
	dir := t.TempDir()
	id, err := lease.LoadHostID(dir)
	if err != nil {
		t.Fatal(err)
	}
	if again, err := lease.LoadHostID(dir); err != nil || again != id {
		t.Errorf("again: %s, %v; want %s", again, err, id)
	}
	if files, _ := os.ReadDir(dir); len(files) != 1 {
		t.Errorf("left behind: %v", files)
	}
	for _, damaged := range []string{"", "x", string(id) + "\n\n", string(id)[:31] + "G"} {
		if err := os.WriteFile(filepath.Join(dir, "host-id"), []byte(damaged), 0o644); err != nil {
			t.Fatal(err)
		}
		if got, err := lease.LoadHostID(dir); err == nil {
			t.Errorf("%q: %s, want an error", damaged, got)
		}
	}
	if _, err := lease.LoadHostID(filepath.Join(dir, "absent")); err == nil {
		t.Error("no directory: want an error")
	}
}

func TestOpenRefusesDamagedDisk(t *testing.T) {
	for _, kv := range [][2]string{
		{"ownership", "{"},
		{"subnet x", "{"},
		{"subnet x", `{"network":"blue","prefix":"10.0.0.0/24"}`},
	} {
		db, err := bbolt.Open(filepath.Join(t.TempDir(), "db"), 0o600, nil)
		if err != nil {
			t.Fatal(err)
		}
		err = db.Update(func(tx *bbolt.Tx) error {
			b, err := tx.CreateBucket([]byte("lease"))
			if err != nil {
				return err
			}
			return b.Put([]byte(kv[0]), []byte(kv[1]))
		})
		if err != nil {
			t.Fatal(err)
		}
		_, err = lease.Open(lease.Config{
			DB: db, Instance: "i", Elapsed: lease.Boottime(),
			Self: cluster.Host{ID: "00000000000000000000000000000001"},
		})
		if err == nil {
			t.Errorf("%s = %s: opened", kv[0], kv[1])
		}
		db.Close()
	}
}
