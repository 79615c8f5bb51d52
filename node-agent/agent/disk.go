package agent

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"go.etcd.io/bbolt"

	"github.com/ovlnet/ovl/internal/store"
)

var (
	snapshotBucket = []byte("snapshot")
	snapshotKey    = []byte("records")
)

// saveEvery bounds how often the snapshot is written to disk, and how old the
// one on disk can be.
const saveEvery = 2 * time.Second

// Disk keeps the last complete snapshot of the cluster, so that an agent can
// start while etcd is away.
type Disk struct{ db *bbolt.DB }

// NewDisk returns a Disk in a bucket of db.
func NewDisk(db *bbolt.DB) *Disk { return &Disk{db} }

// LoadSnapshot returns the records last saved; none if none were.
func (d *Disk) LoadSnapshot() ([]store.Record, error) {
	var records []store.Record
	err := d.db.View(func(tx *bbolt.Tx) error {
		b := tx.Bucket(snapshotBucket)
		if b == nil {
			return nil
		}
		if raw := b.Get(snapshotKey); raw != nil {
			return json.Unmarshal(raw, &records)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("load snapshot: %w", err)
	}
	return records, nil
}

// SaveSnapshot replaces the records on disk.
func (d *Disk) SaveSnapshot(records []store.Record) error {
	raw, err := json.Marshal(records)
	if err == nil {
		err = d.db.Update(func(tx *bbolt.Tx) error {
			b, err := tx.CreateBucketIfNotExists(snapshotBucket)
			if err != nil {
				return err
			}
			return b.Put(snapshotKey, raw)
		})
	}
	if err != nil {
		return fmt.Errorf("save snapshot: %w", err)
	}
	return nil
}

// save writes the snapshot to disk when it has changed and the store has shown
// it whole: an incomplete one must never replace a complete one.
func (a *Agent) save(ctx context.Context) error {
	var saved int64
	tick := time.NewTicker(saveEvery)
	defer tick.Stop()
	for done := false; !done; {
		select {
		case <-ctx.Done():
			done = true
		case <-tick.C:
		}
		s := a.cfg.Cluster.Status()
		if !s.Live || s.Revision == saved {
			continue
		}
		if err := a.cfg.Disk.SaveSnapshot(a.cfg.Cluster.Records()); err != nil {
			a.cfg.Log.Error("the snapshot is not on disk: a restart while etcd is away would not know the newest peers", "err", err)
			continue
		}
		saved = s.Revision
	}
	return nil
}
