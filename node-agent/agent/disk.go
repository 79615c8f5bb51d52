package agent

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"time"

	"go.etcd.io/bbolt"

	"github.com/ovlnet/ovl/internal/cluster"
	"github.com/ovlnet/ovl/internal/store"
	"github.com/ovlnet/ovl/node-agent/lease"
)

var (
	snapshotBucket = []byte("snapshot")
	snapshotKey    = []byte("records")
)

// saveEvery bounds how often the snapshot is written to disk, and how old the
// one on disk can be.
const saveEvery = 2 * time.Second

// saveShare is how many times longer than it took the next saving waits: in a
// large cluster that never rests it costs two hundredths of the time.
const saveShare = 50

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
		var err error
		if raw := b.Get(snapshotKey); raw != nil {
			records, err = unpack(raw)
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("load snapshot: %w", err)
	}
	return records, nil
}

// pack writes records as gzip of one JSON object each, record by record: the
// whole of five thousand peers as one text is megabytes, in memory for a moment
// and in the database's mapped pages for ever.
func pack(records []store.Record) ([]byte, error) {
	var buf bytes.Buffer
	zip, err := gzip.NewWriterLevel(&buf, gzip.BestSpeed)
	if err != nil {
		return nil, err
	}
	enc := json.NewEncoder(zip)
	for _, r := range records {
		if err := enc.Encode(r); err != nil {
			return nil, err
		}
	}
	if err := zip.Close(); err != nil {
		return nil, err
	}
	return buf.Bytes(), nil
}

// maxUnpacked bounds what is read from the disk: what an etcd may answer, and as much
// again for JSON's own words, for each of a few prefixes.
const maxUnpacked = 512 << 20

// unpack reads what pack has written; a part of it is an error.
func unpack(raw []byte) ([]store.Record, error) {
	zip, err := gzip.NewReader(bytes.NewReader(raw))
	if err != nil {
		return nil, err
	}
	var records []store.Record
	for dec := json.NewDecoder(io.LimitReader(zip, maxUnpacked)); ; {
		var r store.Record
		switch err := dec.Decode(&r); {
		case errors.Is(err, io.EOF):
			return records, nil
		case err != nil:
			return nil, err
		}
		records = append(records, r)
	}
}

// SaveSnapshot replaces the records on disk.
func (d *Disk) SaveSnapshot(records []store.Record) error {
	raw, err := pack(records)
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
	wait := saveEvery
	for done := false; !done; {
		select {
		case <-ctx.Done():
			done = true
		case <-time.After(wait):
		}
		wait = saveEvery
		s := a.cfg.Cluster.Status()
		if !s.Live || s.Revision == saved {
			continue
		}
		began := time.Now()
		if a.saveNow() {
			saved = s.Revision
		}
		wait = max(saveEvery, saveShare*time.Since(began))
	}
	return nil
}

// saveNow writes the snapshot to disk and reports whether it did.
func (a *Agent) saveNow() bool {
	a.saving.Lock() // or an older one could replace a newer one
	defer a.saving.Unlock()
	if err := a.cfg.Disk.SaveSnapshot(a.cfg.Cluster.Records()); err != nil {
		a.cfg.Log.Error("the snapshot is not on disk: a restart while etcd is away would not know the newest peers", "err", err)
		return false
	}
	return true
}

// keepNetworks has the networks of this host on disk before anything of them is
// in the kernel. The peers on disk may be a little old, since what only the
// kernel knows of them is kept (see keepUnproven). A network that is missing
// there would look deleted to an agent that starts again, and take the host's
// own containers with it.
func (a *Agent) keepNetworks(s *cluster.Snapshot, held []lease.Held) {
	if !a.cfg.Cluster.Status().Live {
		return
	}
	missing := map[string]int64{}
	for _, h := range held {
		if n, known := s.Network(h.Network); known && a.kept[n.Name] != n.CreateRevision {
			missing[n.Name] = n.CreateRevision
		}
	}
	if len(missing) > 0 && a.saveNow() {
		maps.Copy(a.kept, missing)
	}
}
