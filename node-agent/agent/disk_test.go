package agent_test

import (
	"reflect"
	"testing"

	"go.etcd.io/bbolt"

	"github.com/ovlnet/ovl/internal/store"
	"github.com/ovlnet/ovl/node-agent/agent"
)

// TestSnapshotOnDisk: what was saved last is what is loaded, and what is damaged
// is an error, never half a cluster.
func TestSnapshotOnDisk(t *testing.T) {
	db := newDB(t)
	d := agent.NewDisk(db)
	if got, err := d.LoadSnapshot(); err != nil || len(got) != 0 {
		t.Fatalf("of a new disk: %v, %v", got, err)
	}
	for _, want := range [][]store.Record{
		{{Key: "/ovl/v1/a", Value: []byte("one"), CreateRev: 1, ModRev: 2, Lease: 3}, {Key: "/ovl/v1/b", Value: []byte{0, 255}}},
		{{Key: "/ovl/v1/c", Value: []byte("two"), ModRev: 9}},
	} {
		if err := d.SaveSnapshot(want); err != nil {
			t.Fatal(err)
		}
		if got, err := d.LoadSnapshot(); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("loaded %v, %v; saved %v", got, err, want)
		}
	}
	err := db.Update(func(tx *bbolt.Tx) error {
		b := tx.Bucket([]byte("snapshot"))
		raw := b.Get([]byte("records"))
		return b.Put([]byte("records"), append([]byte(nil), raw[:len(raw)-9]...))
	})
	if err != nil {
		t.Fatal(err)
	}
	if got, err := d.LoadSnapshot(); err == nil {
		t.Errorf("of a damaged one: %v and no error", got)
	}
}
