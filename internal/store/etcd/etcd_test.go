package etcd_test

import (
	"context"
	"net"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/goleak"

	"github.com/ovlnet/ovl/controller/embedstore"
	"github.com/ovlnet/ovl/internal/store"
	"github.com/ovlnet/ovl/internal/store/etcd"
	"github.com/ovlnet/ovl/internal/store/storetest"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m)
}

// The suite against a real etcd, one for all tests: each gets it empty.
func TestConformance(t *testing.T) {
	server, err := embedstore.Start(t.Context(), embedstore.Config{
		DataDir: t.TempDir(), ClientAddr: "127.0.0.1:0", UnsafeNoSync: true,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = server.Close() })
	kv := dial(t, etcd.Config{Endpoints: server.Endpoints()})
	away := dial(t, etcd.Config{Endpoints: []string{nobody(t)}, RequestTimeout: 500 * time.Millisecond})
	raw, err := clientv3.New(clientv3.Config{Endpoints: server.Endpoints(), Logger: etcd.ZapLogger(nil)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = raw.Close() })

	storetest.Run(t, func(t *testing.T) storetest.Harness {
		if _, err := kv.Txn(t.Context(), nil, []store.Write{store.DeletePrefix("")}); err != nil {
			t.Fatal(err)
		}
		return storetest.Harness{
			KV: kv,
			Compact: func(ctx context.Context, rev int64) error {
				_, err := raw.Compact(ctx, rev)
				return err
			},
			Unreachable: away,
			LeaseTTL:    time.Second,
		}
	})
}

func dial(t *testing.T, cfg etcd.Config) *etcd.Store {
	t.Helper()
	s, err := etcd.Dial(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// nobody returns an address at which nobody listens: at 127.0.0.1 another test might
// get the port at once.
func nobody(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.79.86.77:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	return addr
}

func TestDialRefuses(t *testing.T) {
	for _, endpoints := range [][]string{nil, {""}, {"127.0.0.1"}, {"127.0.0.1:"}, {"ftp://127.0.0.1:1"}, {"http://127.0.0.1"}, {"http://%zz:1"}} {
		if s, err := etcd.Dial(etcd.Config{Endpoints: endpoints}); err == nil {
			_ = s.Close()
			t.Errorf("Dial(%q) succeeded", endpoints)
		}
	}
}
