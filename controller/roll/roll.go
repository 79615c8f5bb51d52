package roll

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/ovlnet/ovl/internal/identity"
	"github.com/ovlnet/ovl/internal/store"
)

// Roll is the members, as the store has them a moment ago. Whom it does not know
// it looks up, so that one who has just joined is let in.
type Roll struct {
	kv  store.KV
	log *slog.Logger

	mu       sync.Mutex
	members  map[string]*entry
	revision int64 // up to which members is the store's
	changed  chan struct{}
}

type entry struct {
	Member
	gone chan struct{} // closed when this record is no longer so
}

// New returns a Roll; see [Roll.Run].
func New(kv store.KV, log *slog.Logger) *Roll {
	return &Roll{kv: kv, log: log, members: map[string]*entry{}, changed: make(chan struct{}, 1)}
}

// Check reports whether who is a member, with that key; gone is closed when that
// ends. The error is an [*identity.RefusalError], or the store's.
func (r *Roll) Check(ctx context.Context, who identity.Who, key identity.Print) (gone <-chan struct{}, err error) {
	if who.Role == identity.Controller || who == (identity.Who{Role: identity.Admin, Name: identity.Local}) {
		return nil, nil // whose key lies beside the CA's, or is the CA's to make
	}
	e := r.known(MemberKey(who))
	if e == nil || e.Key != key {
		if e, err = r.lookUp(ctx, MemberKey(who)); err != nil {
			return nil, err
		}
	}
	switch {
	case e == nil:
		return nil, &identity.RefusalError{Fault: identity.Removed, Who: who, Text: fmt.Sprintf("%s is no member of this cluster any more: to join again it needs a token", who)}
	case e.Key != key:
		return nil, &identity.RefusalError{Fault: identity.Removed, Who: who, Text: fmt.Sprintf("%s has joined again since, with another key: this one is revoked", who)}
	}
	return e.gone, nil
}

// Members returns all that are known, in no order.
func (r *Roll) Members() []Member {
	r.mu.Lock()
	defer r.mu.Unlock()
	var all []Member
	for _, e := range r.members {
		all = append(all, e.Member)
	}
	return all
}

// Changed has a token when members may have changed since it was last empty.
func (r *Roll) Changed() <-chan struct{} { return r.changed }

// tell is called when members have changed.
func (r *Roll) tell() {
	select {
	case r.changed <- struct{}{}:
	default:
	}
}

// Forget makes the next check of who ask the store: whoever removes a member
// here need not wait for the watch.
func (r *Roll) Forget(who identity.Who) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.drop(MemberKey(who))
}

func (r *Roll) known(key string) *entry {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.members[key]
}

// lookUp asks the store, and remembers the answer unless the watch is ahead of it.
func (r *Roll) lookUp(ctx context.Context, key string) (*entry, error) {
	page, err := r.kv.Range(ctx, key)
	if err != nil {
		return nil, fmt.Errorf("look up member: %w", err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if page.Revision < r.revision {
		return r.members[key], nil
	}
	rec, ok := Exact(page, key)
	if !ok {
		r.drop(key)
		return nil, nil
	}
	r.put(rec)
	return r.members[key], nil
}

// Exact returns the record of that very key; a range by a key given whole
// returns longer ones too.
func Exact(p store.Page, key string) (store.Record, bool) {
	for _, rec := range p.Records {
		if rec.Key == key {
			return rec, true
		}
	}
	return store.Record{}, false
}

// put and drop are called with the lock held.
func (r *Roll) put(rec store.Record) {
	m, err := DecodeMember(rec)
	if err != nil {
		r.log.Warn("a member's record cannot be read: it is none", slog.Any("err", err))
		r.drop(rec.Key)
		return
	}
	if old := r.members[rec.Key]; old != nil && old.Key == m.Key {
		r.members[rec.Key] = &entry{Member: m, gone: old.gone} // entries are read without the lock
		return
	}
	r.drop(rec.Key)
	r.members[rec.Key] = &entry{Member: m, gone: make(chan struct{})}
}

func (r *Roll) drop(key string) {
	if e := r.members[key]; e != nil {
		close(e.gone)
		delete(r.members, key)
	}
}

// relist is how long after a failed reading the next one follows.
const relist = time.Second

// Run keeps the copy until ctx is done.
func (r *Roll) Run(ctx context.Context) {
	for ctx.Err() == nil {
		err := r.follow(ctx)
		if ctx.Err() != nil {
			return
		}
		r.log.Debug("members are read again", slog.Any("err", err))
		select {
		case <-time.After(relist):
		case <-ctx.Done():
		}
	}
}

// follow lists the members, then applies what happens to them until the watch
// ends.
func (r *Roll) follow(ctx context.Context) error {
	page, err := r.kv.Range(ctx, MembersPrefix)
	if err != nil {
		return err
	}
	r.replace(page)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	for b := range r.kv.Watch(ctx, MembersPrefix, page.Revision) {
		if b.Err != nil {
			return b.Err
		}
		r.apply(b)
	}
	return ctx.Err()
}

func (r *Roll) replace(p store.Page) {
	r.mu.Lock()
	defer r.mu.Unlock()
	listed := map[string]bool{}
	for _, rec := range p.Records {
		listed[rec.Key] = true
		r.put(rec)
	}
	for key, e := range r.members {
		if !listed[key] && e.Revision <= p.Revision {
			r.drop(key)
		}
	}
	r.revision = p.Revision
	r.tell()
}

func (r *Roll) apply(b store.Batch) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, ev := range b.Events {
		if e := r.members[ev.Record.Key]; e != nil && e.Revision > ev.Record.ModRev {
			continue // looked up since
		}
		if ev.Deleted {
			r.drop(ev.Record.Key)
		} else {
			r.put(ev.Record)
		}
	}
	r.revision = max(r.revision, b.Revision)
	r.tell()
}
