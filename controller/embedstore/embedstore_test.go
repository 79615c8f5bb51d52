package embedstore_test

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ovlnet/ovl/controller/embedstore"
	"github.com/ovlnet/ovl/internal/store"
	"github.com/ovlnet/ovl/internal/store/etcd"
)

func start(t *testing.T, dir, addr string) *embedstore.Store {
	t.Helper()
	began := time.Now()
	s, err := embedstore.Start(t.Context(), embedstore.Config{DataDir: dir, ClientAddr: addr, UnsafeNoSync: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("started in %v", time.Since(began))
	return s
}

func dial(t *testing.T, s *embedstore.Store) *etcd.Store {
	t.Helper()
	c, err := etcd.Dial(etcd.Config{Endpoints: s.Endpoints()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// A store started again on its data has it, at another address too, and stops
// without waiting for the watches of its clients.
func TestRestartElsewhere(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "made", "by", "start")
	first := start(t, dir, "127.0.0.1:0")
	kv := dial(t, first)
	rev, err := kv.Txn(t.Context(), nil, []store.Write{store.Put("a/1", []byte("x"), 0)})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	watch := kv.Watch(ctx, "a/", rev-1)
	if b := <-watch; len(b.Events) != 1 {
		t.Fatalf("first batch: %v", b)
	}
	began := time.Now()
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	t.Logf("stopped in %v", time.Since(began))

	second := start(t, dir, ":0")
	defer func() { _ = second.Close() }()
	page, err := dial(t, second).Range(t.Context(), "a/")
	if err != nil {
		t.Fatal(err)
	}
	if len(page.Records) != 1 || page.Records[0].ModRev != rev {
		t.Fatalf("after the restart: %v", page)
	}
}

// What a person gets wrong is one line that says what is wrong.
func TestStartRefuses(t *testing.T) {
	busy, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = busy.Close() }()
	used := t.TempDir()
	running := start(t, used, "127.0.0.1:0")
	defer func() { _ = running.Close() }()
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}

	for _, c := range []struct{ name, dir, addr, want string }{
		{"address in use", t.TempDir(), busy.Addr().String(), "address already in use"},
		{"no port", t.TempDir(), "127.0.0.1", "missing port"},
		{"not our address", t.TempDir(), "192.0.2.1:0", "cannot assign"},
		{"directory in use", used, "127.0.0.1:0", "another process uses it"},
		{"no directory", "", "127.0.0.1:0", "no data directory"},
		{"a file in the way", filepath.Join(file, "data"), "127.0.0.1:0", "not a directory"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := embedstore.Start(t.Context(), embedstore.Config{DataDir: c.dir, ClientAddr: c.addr})
			if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "\n") {
				t.Fatalf("error %v, want one line with %q", err, c.want)
			}
		})
	}
}

// Damaged data is an error, not the end of the process.
func TestDamagedData(t *testing.T) {
	for _, file := range []string{"member/snap/db", "member/wal/0000000000000000-0000000000000000.wal"} {
		t.Run(filepath.Base(file), func(t *testing.T) {
			dir := t.TempDir()
			if err := start(t, dir, "127.0.0.1:0").Close(); err != nil {
				t.Fatal(err)
			}
			path := filepath.Join(dir, file)
			if err := os.WriteFile(path, []byte(strings.Repeat("garbage ", 1024)), 0o600); err != nil {
				t.Fatal(err)
			}
			s, err := embedstore.Start(t.Context(), embedstore.Config{DataDir: dir, ClientAddr: "127.0.0.1:0"})
			if err == nil {
				_ = s.Close()
				t.Fatal("started on damaged data")
			}
			if strings.Contains(err.Error(), "\n") || !strings.Contains(err.Error(), dir) {
				t.Fatalf("error %q, want one line with the directory", err)
			}
			t.Log(err)
		})
	}
}
