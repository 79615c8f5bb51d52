package etcd_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/ovlnet/ovl/controller/embedstore"
	"github.com/ovlnet/ovl/internal/store"
	"github.com/ovlnet/ovl/internal/store/etcd"
)

// serve starts an etcd at an address of its own in 127.0.0.0/8, which nobody
// else takes while it is stopped.
func serve(t *testing.T, dir, addr string) *embedstore.Store {
	t.Helper()
	s, err := embedstore.Start(t.Context(), embedstore.Config{DataDir: dir, ClientAddr: addr, UnsafeNoSync: true})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// While the server is away, calls say so; when it is back, the client's calls
// and its watches go on, and a mirror of it too.
func TestOutage(t *testing.T) {
	dir := t.TempDir()
	server := serve(t, dir, "127.79.86.76:0")
	addr := server.Addr().String()
	kv := dial(t, etcd.Config{Endpoints: []string{addr}, RequestTimeout: 500 * time.Millisecond})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()

	changed := make(chan struct{}, 1)
	m := store.NewMirror(store.MirrorConfig{KV: kv, Changed: func() {
		select {
		case changed <- struct{}{}:
		default:
		}
	}})
	m.SetPrefixes(store.DrainsPrefix)
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		_ = m.Run(ctx)
	}()
	defer func() {
		cancel()
		<-stopped
	}()
	mirrored := func(n int) {
		t.Helper()
		for len(m.Records()) != n {
			<-changed
		}
	}

	rev := drain(t, kv, "1")
	watch := kv.Watch(ctx, store.DrainsPrefix, rev)
	mirrored(1)
	if err := server.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := kv.Range(ctx, store.DrainsPrefix); !errors.Is(err, store.ErrUnavailable) {
		t.Fatalf("Range while the server is away: %v, want ErrUnavailable", err)
	}
	if _, err := kv.Txn(ctx, nil, nil); err == nil || !strings.Contains(err.Error(), "connection refused") {
		t.Fatalf("Txn while the server is away: %v, want the reason", err)
	}
	if err := m.Refresh(ctx); !errors.Is(err, store.ErrUnavailable) || len(m.Records()) != 1 {
		t.Fatalf("Refresh while the server is away: %v, %d records", err, len(m.Records()))
	}

	server = serve(t, dir, addr)
	defer func() { _ = server.Close() }()
	back := time.Now()
	rev = drain(t, kv, "2")
	b := <-watch
	for b.Err == nil && len(b.Events) == 0 {
		b = <-watch
	}
	if b.Err != nil || b.Revision != rev {
		t.Fatalf("watch resumed with %+v, want revision %d", b, rev)
	}
	mirrored(2)
	t.Logf("caught up in %v", time.Since(back))
}

// drain writes a record, trying again while the connection comes back.
func drain(t *testing.T, kv store.KV, name string) int64 {
	t.Helper()
	for {
		rev, err := kv.Txn(t.Context(), nil, []store.Write{store.Put(store.DrainsPrefix+name, nil, 0)})
		if err == nil {
			return rev
		}
		if !errors.Is(err, store.ErrUnavailable) {
			t.Fatal(err)
		}
	}
}
