package etcd

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/ovlnet/ovl/internal/store"
)

// begin gives a call its own deadline.
func (s *Store) begin(ctx context.Context) (call context.Context, why *cause, cancel context.CancelFunc) {
	call, why = withCause(ctx)
	call, cancel = context.WithTimeout(call, s.timeout)
	return call, why, cancel
}

// maxRanges is how many prefixes one request asks for; etcd allows 128
// operations by default.
const maxRanges = 100

// Range implements [store.KV]: one request, or several at one revision where
// there are very many prefixes.
func (s *Store) Range(ctx context.Context, prefixes ...string) (store.Page, error) {
	call, why, cancel := s.begin(ctx)
	defer cancel()
	var page store.Page
	prefixes = store.Outermost(prefixes)
	for {
		n := min(len(prefixes), maxRanges)
		if err := s.rangeChunk(call, prefixes[:n], &page); err != nil {
			return store.Page{}, wrap(ctx, "read records", why.because(err))
		}
		if prefixes = prefixes[n:]; len(prefixes) == 0 {
			return page, nil
		}
	}
}

// rangeChunk appends what the prefixes hold to page, at its revision if it has
// one.
func (s *Store) rangeChunk(ctx context.Context, prefixes []string, page *store.Page) error {
	ops := make([]clientv3.Op, 0, len(prefixes))
	for _, p := range prefixes {
		ops = append(ops, clientv3.OpGet(p, clientv3.WithPrefix(), clientv3.WithRev(page.Revision)))
	}
	resp, err := s.client.Txn(ctx).Then(ops...).Commit()
	if err != nil {
		return err
	}
	if page.Revision == 0 {
		page.Revision = resp.Header.Revision
	}
	for _, r := range resp.Responses {
		got := r.GetResponseRange()
		page.Records = slices.Grow(page.Records, len(got.GetKvs()))
		for _, kv := range got.GetKvs() {
			page.Records = append(page.Records, record(kv))
		}
	}
	return nil
}

func record(kv *mvccpb.KeyValue) store.Record {
	return store.Record{
		Key:       string(kv.Key),
		Value:     kv.Value,
		CreateRev: kv.CreateRevision,
		ModRev:    kv.ModRevision,
		Lease:     store.LeaseID(kv.Lease),
	}
}

// Txn implements [store.KV]. After [store.ErrUnavailable] the writes may have
// been made or not: only reading tells.
func (s *Store) Txn(ctx context.Context, conds []store.Cond, writes []store.Write) (int64, error) {
	call, why, cancel := s.begin(ctx)
	defer cancel()
	cmps := make([]clientv3.Cmp, 0, len(conds))
	for _, c := range conds {
		cmps = append(cmps, compare(c))
	}
	ops := make([]clientv3.Op, 0, len(writes))
	for _, w := range writes {
		ops = append(ops, operation(w))
	}
	resp, err := s.client.Txn(call).If(cmps...).Then(ops...).Commit()
	if err != nil {
		return 0, wrap(ctx, "write records", why.because(err))
	}
	if !resp.Succeeded {
		return 0, fmt.Errorf("write records: %w", store.ErrConflict)
	}
	return resp.Header.Revision, nil
}

func compare(c store.Cond) clientv3.Cmp {
	target := clientv3.CreateRevision(c.Key)
	if c.Kind == store.CondModRev {
		target = clientv3.ModRevision(c.Key)
	}
	cmp := clientv3.Compare(target, "=", c.Rev)
	if c.Prefix {
		// Holds if it holds of every key there is: of none, always.
		cmp = cmp.WithPrefix()
	}
	return cmp
}

func operation(w store.Write) clientv3.Op {
	switch {
	case w.Delete && w.Prefix:
		return clientv3.OpDelete(w.Key, clientv3.WithPrefix())
	case w.Delete:
		return clientv3.OpDelete(w.Key)
	default:
		return clientv3.OpPut(w.Key, string(w.Value), clientv3.WithLease(clientv3.LeaseID(w.Lease)))
	}
}

// Grant implements [store.KV].
func (s *Store) Grant(ctx context.Context, ttl time.Duration) (store.LeaseID, error) {
	call, why, cancel := s.begin(ctx)
	defer cancel()
	seconds := int64((ttl + time.Second - 1) / time.Second)
	resp, err := s.client.Grant(call, max(seconds, 1))
	if err != nil {
		return 0, wrap(ctx, "grant lease", why.because(err))
	}
	return store.LeaseID(resp.ID), nil
}

// KeepAlive implements [store.KV].
func (s *Store) KeepAlive(ctx context.Context, id store.LeaseID) (time.Duration, error) {
	call, why, cancel := s.begin(ctx)
	defer cancel()
	resp, err := s.client.KeepAliveOnce(call, clientv3.LeaseID(id))
	if err != nil {
		return 0, wrap(ctx, "renew lease", why.because(err))
	}
	return time.Duration(resp.TTL) * time.Second, nil
}

// Revoke implements [store.KV].
func (s *Store) Revoke(ctx context.Context, id store.LeaseID) error {
	call, why, cancel := s.begin(ctx)
	defer cancel()
	_, err := s.client.Revoke(call, clientv3.LeaseID(id))
	if errors.Is(err, rpctypes.ErrLeaseNotFound) {
		return nil
	}
	return wrap(ctx, "revoke lease", why.because(err))
}
