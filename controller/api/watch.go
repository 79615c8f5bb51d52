package api

import (
	"context"
	"fmt"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/ovlnet/ovl/controller/admit"
	"github.com/ovlnet/ovl/internal/cluster"
	"github.com/ovlnet/ovl/internal/store"
	ovlv1 "github.com/ovlnet/ovl/proto/ovl/v1"
)

// kind is what the watches of networks, subnets and endpoints (O, in events of
// type E) do not have in common.
type kind[O, E any] struct {
	prefix string // of the keys
	joined bool   // with hosts and networks
	// put returns the object in a record, and its host if it has one.
	put func(*names, store.Record) (*O, cluster.HostID, error)
	// gone returns what a deleted key identifies.
	gone  func(*names, string) (*O, error)
	event func(ovlv1.EventType, int64, *O) *E
}

// follow serves one watch until the client, the server or the store ends it.
func follow[O, E any](s *Server, doing string, req *ovlv1.WatchRequest, stream grpc.ServerStreamingServer[E], k kind[O, E]) error {
	ctx, cancel := context.WithCancel(stream.Context())
	defer cancel()
	w := filter{network: req.GetNetwork(), host: req.GetHost()}
	vs := w.check()
	if req.GetResumeRevision() < 0 {
		vs = append(vs, admit.Violation{Field: "resume_revision", Description: "is negative: give the revision of an event, or 0 to begin with a snapshot"})
	}
	if err := invalid(doing, vs); err != nil {
		return err
	}
	page, err := s.fetch(ctx, k.prefix, store.HostsPrefix, store.NetworksPrefix)
	if err != nil {
		return failed(ctx, doing, err)
	}
	doubts, err := s.doubts(ctx, page.Records)
	if err != nil {
		return failed(ctx, doing, err)
	}
	f := newFacts(page, doubts)
	host, err := w.resolve(doing, f)
	if err != nil {
		return err
	}
	t := &translation[O, E]{
		kind: k, names: newNames(f), send: stream.Send, only: host,
		known: map[string]bool{}, resumed: req.GetResumeRevision() > 0,
	}
	from := page.Revision
	if t.resumed {
		if from = req.GetResumeRevision(); from > page.Revision {
			return status.Errorf(codes.OutOfRange, "%s: revision %d is ahead of the store, which is at %d: begin again without one", doing, from, page.Revision)
		}
		// A client that has its headers knows that it is watching.
		if err := stream.SendHeader(nil); err != nil {
			return err
		}
	} else if err := t.snapshot(page, doubts); err != nil {
		return err
	}
	return t.changes(ctx, s, doing, from, page.Revision)
}

// translation turns the records of one watch into events for its client.
type translation[O, E any] struct {
	kind[O, E]
	names   *names
	stale   bool // the names may be: read them again before the next use
	send    func(*E) error
	only    cluster.HostID  // "" = every host
	known   map[string]bool // with only: the keys that the client was told of
	resumed bool            // the client may know of more than known
}

// snapshot sends what there is. Its events carry no revision: to resume in the
// middle of a snapshot would lose the rest of it.
func (t *translation[O, E]) snapshot(p store.Page, doubts map[string]error) error {
	for _, r := range p.Records {
		if len(r.Key) < len(t.prefix) || r.Key[:len(t.prefix)] != t.prefix {
			continue // of what it is joined with
		}
		if doubts[r.Key] != nil {
			continue // shown by the controller's status
		}
		if err := t.changed(ovlv1.EventType_SNAPSHOT, 0, r); err != nil {
			return err
		}
	}
	return t.send(t.event(ovlv1.EventType_SYNCED, p.Revision, nil))
}

// changes sends what happens after revision from. The names are as of revision
// read: changes to them only mark them as stale.
func (t *translation[O, E]) changes(ctx context.Context, s *Server, doing string, from, read int64) error {
	main := backlog(ctx, s.kv.Watch(ctx, t.prefix, from))
	var joins [2]<-chan store.Batch // nil ones never deliver
	if t.joined {
		joins = [2]<-chan store.Batch{s.kv.Watch(ctx, store.HostsPrefix, read), s.kv.Watch(ctx, store.NetworksPrefix, read)}
	}
	for {
		var b store.Batch
		var ok, join bool
		select {
		case b, ok = <-main:
		case b, ok = <-joins[0]:
			join = true
		case b, ok = <-joins[1]:
			join = true
		}
		switch {
		case !ok:
			return failed(ctx, doing, fmt.Errorf("the watch ended: %w", store.ErrUnavailable))
		case b.Err != nil:
			return failed(ctx, doing, b.Err)
		case join:
			t.stale = t.stale || len(b.Events) > 0
			continue
		}
		if err := t.batch(ctx, s, b); err != nil {
			return failed(ctx, doing, err)
		}
	}
}

func (t *translation[O, E]) batch(ctx context.Context, s *Server, b store.Batch) error {
	if t.joined && len(b.Events) > 0 {
		if err := t.refresh(ctx, s, b); err != nil {
			return err
		}
	}
	doubts, err := s.doubts(ctx, records(b))
	if err != nil {
		return err
	}
	for i, e := range b.Events {
		if !e.Deleted && doubts[e.Record.Key] != nil {
			continue // what the client knows of that key stays
		}
		// Whoever resumes from an event must not lose the rest of its revision.
		rev := e.Record.ModRev
		if i+1 < len(b.Events) && b.Events[i+1].Record.ModRev == rev {
			rev--
		}
		var err error
		if e.Deleted {
			err = t.deleted(rev, e.Record.Key)
		} else {
			err = t.changed(ovlv1.EventType_PUT, rev, e.Record)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// refresh reads the names again if one of them changed since, or if the batch
// mentions a host or network that they do not hold.
func (t *translation[O, E]) refresh(ctx context.Context, s *Server, b store.Batch) error {
	f := newFacts(store.Page{Records: records(b)}, nil)
	for _, l := range f.leases {
		t.stale = t.stale || t.names.hosts[l.Host].ID == "" || t.names.vnis[l.Network] == 0
	}
	for _, e := range f.endpoints {
		t.stale = t.stale || t.names.hosts[e.Host].ID == ""
	}
	if !t.stale {
		return nil
	}
	f, err := s.read(ctx, store.HostsPrefix, store.NetworksPrefix)
	if err != nil {
		return err
	}
	t.names, t.stale = newNames(f), false
	return nil
}

func records(b store.Batch) []store.Record {
	var rs []store.Record
	for _, e := range b.Events {
		if !e.Deleted {
			rs = append(rs, e.Record)
		}
	}
	return rs
}

// changed sends an object. A record that cannot be read is left out, as in
// lists; one that moved away from the only host wanted is gone for the client.
func (t *translation[O, E]) changed(typ ovlv1.EventType, rev int64, r store.Record) error {
	o, host, err := t.put(t.names, r)
	if err != nil {
		return nil //nolint:nilerr // shown by the controller's status
	}
	if t.only != "" {
		if host != t.only {
			if t.known[r.Key] {
				return t.deleted(rev, r.Key)
			}
			return nil
		}
		t.known[r.Key] = true
	}
	return t.send(t.event(typ, rev, o))
}

// deleted sends what is gone. A key does not always tell the host: with a
// filter the client hears only of what it knows, or may know from before it
// resumed.
func (t *translation[O, E]) deleted(rev int64, key string) error {
	if t.only != "" && !t.known[key] && !t.resumed {
		return nil
	}
	delete(t.known, key)
	o, err := t.gone(t.names, key)
	if err != nil {
		return nil //nolint:nilerr // a key of ours that is none: nobody was told of it
	}
	return t.send(t.event(ovlv1.EventType_DELETED, rev, o))
}
