package attach

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"sync"

	"go.etcd.io/bbolt"

	"github.com/ovlnet/ovl/internal/cluster"
)

var journalBucket = []byte("attachments")

// Journal is the attachments of this host, on disk. What it shows is on disk
// already. It is safe for concurrent use.
type Journal struct {
	db *bbolt.DB

	writing sync.Mutex // held while a batch is being written

	mu     sync.Mutex
	queue  []*change
	kept   map[string]cluster.Attachment // by ID
	list   []cluster.Attachment          // of kept, sorted by ID; nil = not since it changed
	broken map[string]cluster.Problem    // records that could not be read, by key
}

// change is one record to write, or to delete if raw is nil.
type change struct {
	att  cluster.Attachment
	raw  []byte
	done bool // with err, guarded by Journal.writing
	err  error
}

// OpenJournal reads the attachments in db. A record that cannot be read is left
// where it is and becomes a problem (see [Journal.Problems]); it hides no other.
func OpenJournal(db *bbolt.DB) (*Journal, error) {
	j := &Journal{db: db, kept: map[string]cluster.Attachment{}, broken: map[string]cluster.Problem{}}
	err := db.Update(func(tx *bbolt.Tx) error {
		b, err := tx.CreateBucketIfNotExists(journalBucket)
		if err != nil {
			return err
		}
		return b.ForEach(func(key, raw []byte) error {
			if a, err := decode(string(key), raw); err != nil {
				j.broken[string(key)] = unreadable(string(key), err)
			} else {
				j.kept[a.ID] = a
			}
			return nil
		})
	})
	if err != nil {
		return nil, fmt.Errorf("open journal: %w", err)
	}
	return j, nil
}

func unreadable(key string, err error) cluster.Problem {
	return cluster.Problem{
		Severity: cluster.SeverityError, Subject: "attachment " + quote(key), What: "its record in the journal cannot be read: " + err.Error(),
		Hint: "start the container again, or forget it with `ovlctl rm`",
	}
}

// List returns all attachments, sorted by ID. It is made once a change, and
// everybody gets the same: do not change what it returns.
func (j *Journal) List() []cluster.Attachment {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.list == nil {
		j.list = slices.SortedFunc(maps.Values(j.kept), func(a, b cluster.Attachment) int { return cmp.Compare(a.ID, b.ID) })
	}
	return j.list
}

// Get returns the attachment of that ID.
func (j *Journal) Get(id string) (cluster.Attachment, bool) {
	j.mu.Lock()
	defer j.mu.Unlock()
	a, ok := j.kept[id]
	return clone(a), ok
}

// Find returns the attachment of that ID, or else all of that name: a container
// may have several. They are sorted by ID.
func (j *Journal) Find(idOrName string) []cluster.Attachment {
	if a, ok := j.Get(idOrName); ok {
		return []cluster.Attachment{a}
	}
	var found []cluster.Attachment
	for _, a := range j.List() {
		if a.Name == idOrName {
			found = append(found, clone(a))
		}
	}
	return found
}

// Broken reports whether there is a record under id that cannot be read.
func (j *Journal) Broken(id string) bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	_, ok := j.broken[id]
	return ok
}

// Problems tells of the records that cannot be read, sorted.
func (j *Journal) Problems() []cluster.Problem {
	j.mu.Lock()
	defer j.mu.Unlock()
	var ps []cluster.Problem
	for _, key := range slices.Sorted(maps.Keys(j.broken)) {
		ps = append(ps, j.broken[key])
	}
	return ps
}

// Put writes an attachment to disk and, when it is there, shows it.
func (j *Journal) Put(a cluster.Attachment) error {
	raw, err := encode(a)
	if err == nil {
		err = j.commit(&change{att: clone(a), raw: raw})
	}
	if err != nil {
		return fmt.Errorf("write journal: %w", err)
	}
	return nil
}

// Delete takes attachments, or records that cannot be read, off the disk and then
// out of sight, all or none. Deleting what is not there succeeds.
func (j *Journal) Delete(ids ...string) error {
	changes := make([]*change, len(ids))
	for i, id := range ids {
		changes[i] = &change{att: cluster.Attachment{ID: id}}
	}
	if err := j.commit(changes...); err != nil {
		return fmt.Errorf("write journal: %w", err)
	}
	return nil
}

// commit writes changes together with all that came while the last batch was being
// written: whoever is first takes the others along, so that a hundred
// attachments share a few fsyncs and a lone one waits for nobody. (bbolt's own
// Batch makes every write wait 10 ms for company.)
func (j *Journal) commit(changes ...*change) error {
	if len(changes) == 0 {
		return nil
	}
	j.mu.Lock()
	j.queue = append(j.queue, changes...)
	j.mu.Unlock()

	j.writing.Lock()
	defer j.writing.Unlock()
	if c := changes[0]; c.done { // in one batch with the others
		return c.err
	}
	j.mu.Lock()
	batch := j.queue
	j.queue = nil
	j.mu.Unlock()

	err := j.write(batch)
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, c := range batch {
		c.done, c.err = true, err
		if err == nil {
			j.show(c)
		}
	}
	return err
}

func (j *Journal) write(batch []*change) error {
	return j.db.Update(func(tx *bbolt.Tx) error {
		b := tx.Bucket(journalBucket)
		for _, c := range batch {
			var err error
			if c.raw == nil {
				err = b.Delete([]byte(c.att.ID))
			} else {
				err = b.Put([]byte(c.att.ID), c.raw)
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
}

func (j *Journal) show(c *change) {
	j.relist(c)
	delete(j.broken, c.att.ID)
	if c.raw == nil {
		delete(j.kept, c.att.ID)
		return
	}
	j.kept[c.att.ID] = c.att
}

// relist makes the list that follows from a change. The one before is others' by now.
func (j *Journal) relist(c *change) {
	if j.list == nil {
		return
	}
	at, found := slices.BinarySearchFunc(j.list, c.att.ID, func(a cluster.Attachment, id string) int { return cmp.Compare(a.ID, id) })
	after := at
	if found {
		after++
	}
	next := make([]cluster.Attachment, 0, len(j.list)+1)
	next = append(next, j.list[:at]...)
	if c.raw != nil {
		next = append(next, c.att)
	}
	j.list = append(next, j.list[after:]...)
}

// clone returns a copy that shares nothing that can change.
func clone(a cluster.Attachment) cluster.Attachment {
	a.Labels = maps.Clone(a.Labels)
	a.Ports = slices.Clone(a.Ports)
	a.Interfaces = slices.Clone(a.Interfaces)
	for i := range a.Interfaces {
		a.Interfaces[i].Addrs = slices.Clone(a.Interfaces[i].Addrs)
		a.Interfaces[i].Aliases = slices.Clone(a.Interfaces[i].Aliases)
	}
	return a
}
