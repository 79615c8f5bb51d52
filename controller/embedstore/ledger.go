package embedstore

import (
	"context"
	"errors"
	"fmt"
	"sync"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/server/v3/etcdserver"
	"go.etcd.io/etcd/server/v3/lease"
	"go.etcd.io/etcd/server/v3/storage/mvcc"

	"github.com/ovlnet/ovl/internal/cluster"
	"github.com/ovlnet/ovl/internal/store"
)

// ledger knows how much each host has in the store, and whose the leases are. It reads
// the records once and then follows what is applied, so that a host can be ahead of it
// by the requests that are under way, and no more.
//
// Nobody has written down whose a lease is: it is remembered from the grant, and after
// a restart learnt from what lives on it.
type ledger struct {
	mu     sync.Mutex
	lines  map[string]line // by key
	shares map[cluster.HostID]share
	owners map[int64]cluster.HostID
}

// line is a record of a host.
type line struct {
	host  cluster.HostID
	bytes int
}

func newLedger() *ledger {
	return &ledger{lines: map[string]line{}, shares: map[cluster.HostID]share{}, owners: map[int64]cluster.HostID{}}
}

// written are the prefixes below which hosts write.
var written = []string{store.HostsPrefix, store.SessionsPrefix, store.ClonesPrefix, store.SubnetsPrefix(""), store.EndpointsPrefix("")}

// open reads what is there and follows it until the server stops.
func (l *ledger) open(ctx context.Context, s *etcdserver.EtcdServer) error {
	stream := s.KV().NewWatchStream()
	for _, prefix := range written {
		page, err := s.KV().Range(ctx, []byte(prefix), []byte(prefixEnd(prefix)), mvcc.RangeOptions{})
		if err != nil {
			stream.Close()
			return fmt.Errorf("read what hosts have written: %w", err)
		}
		for _, kv := range page.KVs {
			l.wrote(kv)
		}
		if _, err := stream.Watch(context.WithoutCancel(ctx), 0, []byte(prefix), []byte(prefixEnd(prefix)), page.Rev+1); err != nil {
			stream.Close()
			return fmt.Errorf("follow what hosts write: %w", err)
		}
	}
	go func() {
		defer stream.Close()
		for {
			select {
			case <-s.StopNotify():
				return
			case r, ok := <-stream.Chan():
				if !ok {
					return
				}
				l.follow(r.Events)
			}
		}
	}()
	return nil
}

func (l *ledger) follow(events []*mvccpb.Event) {
	for _, e := range events {
		if e.Type == mvccpb.Event_DELETE {
			l.deleted(string(e.Kv.Key))
		} else {
			l.wrote(e.Kv)
		}
	}
}

// did notes what a transaction wrote and deleted; of ranges it will hear.
func (l *ledger) did(q *pb.TxnRequest) {
	for _, op := range q.Success {
		if p := op.GetRequestPut(); p != nil {
			l.wrote(&mvccpb.KeyValue{Key: p.Key, Value: p.Value})
		}
		if d := op.GetRequestDeleteRange(); d != nil && len(d.RangeEnd) == 0 {
			l.deleted(string(d.Key))
		}
	}
}

// wrote notes a record, also one that is noted already.
func (l *ledger) wrote(kv *mvccpb.KeyValue) {
	key := string(kv.Key)
	host := writer(key, kv.Value)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.strike(key)
	if host == "" {
		return
	}
	n := line{host, len(kv.Key) + len(kv.Value)}
	l.lines[key] = n
	s := l.shares[host]
	s.bytes += n.bytes
	if k, ok := kindOf(key); ok {
		s.records[k]++
	}
	l.shares[host] = s
}

func (l *ledger) deleted(key string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.strike(key)
}

// strike takes a record out.
func (l *ledger) strike(key string) {
	n, ok := l.lines[key]
	if !ok {
		return
	}
	delete(l.lines, key)
	s := l.shares[n.host]
	s.bytes -= n.bytes
	if k, ok := kindOf(key); ok {
		s.records[k]--
	}
	if l.shares[n.host] = s; s == (share{}) {
		delete(l.shares, n.host)
	}
}

// writer returns the host that a record is of, as only that host may have written it.
func writer(key string, value []byte) cluster.HostID {
	if id := store.Claimant(store.Record{Key: key, Value: value}); id != "" {
		return id
	}
	if id, err := store.ParseSessionKey(key); err == nil {
		return id
	}
	if id, _, err := store.ParseCloneKey(key); err == nil {
		return id
	}
	return ""
}

// of returns what a host has.
func (l *ledger) of(host cluster.HostID) share {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.shares[host]
}

// owner returns to whom a lease was granted; empty if that is not known.
func (l *ledger) owner(id int64) cluster.HostID {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.owners[id]
}

// granted notes whose a lease is; an empty host forgets it.
func (l *ledger) granted(id int64, host cluster.HostID) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if old, ok := l.owners[id]; ok {
		s := l.shares[old]
		s.leases--
		l.shares[old] = s
		delete(l.owners, id)
	}
	if host != "" {
		s := l.shares[host]
		s.leases++
		l.shares[host] = s
		l.owners[id] = host
	}
}

// expire forgets the leases of a host that are gone, as live tells.
func (l *ledger) expire(host cluster.HostID, live func(id int64) bool) {
	l.mu.Lock()
	var all []int64
	for id, h := range l.owners {
		if h == host {
			all = append(all, id)
		}
	}
	l.mu.Unlock()
	for _, id := range all {
		if !live(id) {
			l.granted(id, "")
		}
	}
}

// lives reports whether the store has a lease.
func lives(ctx context.Context, s *etcdserver.EtcdServer, id int64) bool {
	_, err := s.LeaseTimeToLive(ctx, &pb.LeaseTimeToLiveRequest{ID: id})
	return !errors.Is(err, lease.ErrLeaseNotFound)
}
