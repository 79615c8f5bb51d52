package embedstore_test

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ovlnet/ovl/controller/embedstore"
	"github.com/ovlnet/ovl/internal/cluster"
	"github.com/ovlnet/ovl/internal/store"
	"github.com/ovlnet/ovl/internal/store/etcd"
)

const (
	thief  = cluster.HostID("0000000000000000000000000000000a")
	victim = cluster.HostID("0000000000000000000000000000000b")
)

// lodge is a store with guests: whoever calls is the host that the test says.
type lodge struct {
	guest atomic.Value // cluster.HostID
	store *embedstore.Store
	kv    *etcd.Store
}

func openLodge(t *testing.T, dir string) *lodge {
	t.Helper()
	l := &lodge{}
	l.guest.Store(thief)
	var err error
	l.store, err = embedstore.Start(t.Context(), embedstore.Config{
		DataDir: dir, ClientAddr: "127.0.0.1:0", UnsafeNoSync: true,
		Accept: func(context.Context, tls.ConnectionState) (embedstore.Visitor, error) {
			return embedstore.Visitor{Host: l.guest.Load().(cluster.HostID)}, nil
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	l.kv = dial(t, l.store)
	return l
}

func (l *lodge) put(t *testing.T, lease store.LeaseID, keys ...string) error {
	t.Helper()
	var writes []store.Write
	for _, k := range keys {
		writes = append(writes, store.Put(k, []byte("{}"), lease))
	}
	_, err := l.kv.Txn(t.Context(), nil, writes)
	return err
}

// TestOneHostCannotFillTheStore: it may have so many records and no more, also after the
// store started again; what it gives back, or what ends with its lease, it may have
// again; and others may as before.
func TestOneHostCannotFillTheStore(t *testing.T) {
	dir := t.TempDir()
	l := openLodge(t, dir)
	key := func(i int) string { return store.EndpointKey("blue", thief, fmt.Sprintf("c%d", i)) }
	lease, err := l.kv.Grant(t.Context(), time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	const batch = 128
	for i := 0; i < store.MaxHostEndpoints; i += batch {
		var keys []string
		for j := range batch {
			keys = append(keys, key(i+j))
		}
		if err := l.put(t, lease, keys...); err != nil {
			t.Fatal(err)
		}
	}
	refused := func() {
		t.Helper()
		err := l.put(t, lease, key(-1))
		if err == nil || !strings.Contains(err.Error(), "this host has 16384 endpoints, the most that one host may have: run containers on other hosts") {
			t.Errorf("one more: %v", err)
		}
	}
	refused()
	if err := l.put(t, lease, key(7)); err != nil {
		t.Errorf("one that there is: %v", err)
	}
	l.guest.Store(victim)
	if err := l.put(t, 0, store.EndpointKey("blue", victim, "web")); err != nil {
		t.Errorf("another host: %v", err)
	}
	if err := l.store.Close(); err != nil {
		t.Fatal(err)
	}

	l = openLodge(t, dir)
	defer func() { _ = l.store.Close() }()
	refused()
	if _, err := l.kv.Txn(t.Context(), nil, []store.Write{store.Delete(key(7))}); err != nil {
		t.Fatal(err)
	}
	if err := l.put(t, lease, key(-1)); err != nil {
		t.Errorf("one in the place of one that went: %v", err)
	}
	if err := l.put(t, lease, key(-2)); err == nil {
		t.Error("after one went two came")
	}
	if err := l.kv.Revoke(t.Context(), lease); err != nil {
		t.Fatal(err)
	}
	// Of what ends with a lease the ledger hears a moment later.
	err = errors.ErrUnsupported
	for end := time.Now().Add(time.Minute); err != nil && time.Now().Before(end); {
		err = l.put(t, 0, key(-3))
	}
	if err != nil {
		t.Errorf("after all went: %v", err)
	}
}

// TestOneHostsLeases: a host has few, and keeps no other's alive.
func TestOneHostsLeases(t *testing.T) {
	l := openLodge(t, t.TempDir())
	defer func() { _ = l.store.Close() }()
	l.guest.Store(victim)
	theirs, err := l.kv.Grant(t.Context(), time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	l.guest.Store(thief)
	if _, err := l.kv.KeepAlive(t.Context(), theirs); !errors.Is(err, store.ErrRefused) {
		t.Errorf("kept another's lease alive: %v", err)
	}
	if err := l.put(t, theirs, store.HostKey(thief)); !errors.Is(err, store.ErrRefused) {
		t.Errorf("wrote on another's lease: %v", err)
	}
	if err := l.kv.Revoke(t.Context(), theirs); !errors.Is(err, store.ErrRefused) {
		t.Errorf("ended another's lease: %v", err)
	}
	var mine []store.LeaseID
	for err == nil && len(mine) < 100 {
		var id store.LeaseID
		if id, err = l.kv.Grant(t.Context(), time.Minute); err == nil {
			mine = append(mine, id)
		}
	}
	if err == nil || !strings.Contains(err.Error(), "this host has 32 leases") || len(mine) != 32 {
		t.Fatalf("%d leases: %v", len(mine), err)
	}
	if _, err := l.kv.KeepAlive(t.Context(), mine[0]); err != nil {
		t.Errorf("its own lease: %v", err)
	}
	if err := l.kv.Revoke(t.Context(), mine[0]); err != nil {
		t.Fatal(err)
	}
	if _, err := l.kv.Grant(t.Context(), time.Minute); err != nil {
		t.Errorf("one in the place of one that ended: %v", err)
	}
	l.guest.Store(victim)
	if _, err := l.kv.KeepAlive(t.Context(), theirs); err != nil {
		t.Errorf("the other host: %v", err)
	}
}

// TestOneHostCannotFloodTheStore: writing one record again and again ends as well.
func TestOneHostCannotFloodTheStore(t *testing.T) {
	l := openLodge(t, t.TempDir())
	defer func() { _ = l.store.Close() }()
	value := []byte(strings.Repeat(" ", store.MaxValueLen))
	written := 0
	for {
		_, err := l.kv.Txn(t.Context(), nil, []store.Write{store.Put(store.SessionKey(thief), value, 0)})
		if err != nil {
			if !strings.Contains(err.Error(), "has written more than 32 MiB in a minute") {
				t.Fatal(err)
			}
			break
		}
		if written += len(value); written > 256<<20 {
			t.Fatal("no end to it")
		}
	}
	l.guest.Store(victim)
	if err := l.put(t, 0, store.SessionKey(victim)); err != nil {
		t.Errorf("another host: %v", err)
	}
}
