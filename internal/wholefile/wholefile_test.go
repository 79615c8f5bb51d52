package wholefile_test

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/ovlnet/ovl/internal/wholefile"
)

// TestModesAndRemains: the file has its mode, whatever stood there and whatever the
// umask says, and nothing else is left in the directory.
func TestModesAndRemains(t *testing.T) {
	for name, put := range map[string]func(string, []byte, fs.FileMode) error{"write": wholefile.Write, "create": wholefile.Create, "replace": wholefile.Replace} {
		for _, mode := range []fs.FileMode{0o600, 0o644} {
			dir := t.TempDir()
			path := filepath.Join(dir, "f")
			if name != "create" {
				if err := os.WriteFile(path, []byte("something longer"), 0o640); err != nil {
					t.Fatal(err)
				}
			}
			if err := put(path, []byte("new"), mode); err != nil {
				t.Fatal(err)
			}
			got, err := os.ReadFile(path)
			info, serr := os.Stat(path)
			entries, derr := os.ReadDir(dir)
			if err := errors.Join(err, serr, derr); err != nil {
				t.Fatal(err)
			}
			if string(got) != "new" || info.Mode() != mode || len(entries) != 1 {
				t.Errorf("%s: %q with mode %s, %d files", name, got, info.Mode(), len(entries))
			}
		}
	}
}

// TestFailures leave what was there, and nothing else.
func TestFailures(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "f")
	if err := wholefile.Write(path, []byte("old"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := wholefile.Create(path, []byte("new"), 0o600); !errors.Is(err, fs.ErrExist) {
		t.Errorf("created over another: %v", err)
	}
	if err := wholefile.Write(filepath.Join(dir, "none", "f"), nil, 0o600); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("wrote into no directory: %v", err)
	}
	if err := os.Mkdir(filepath.Join(dir, "d"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := wholefile.Replace(filepath.Join(dir, "d"), []byte("x"), 0o600); err == nil {
		t.Error("replaced a directory")
	}
	got, err := os.ReadFile(path)
	entries, derr := os.ReadDir(dir)
	if err := errors.Join(err, derr); err != nil || string(got) != "old" || len(entries) != 2 {
		t.Errorf("%q, %d files, %v", got, len(entries), err)
	}
}

// TestReadersSeeAWhole: however many write, who reads sees what one of them wrote.
func TestReadersSeeAWhole(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	if err := wholefile.Replace(path, bytes.Repeat([]byte{0}, 10000), 0o600); err != nil {
		t.Fatal(err)
	}
	var writers sync.WaitGroup
	for i := range byte(4) {
		writers.Go(func() {
			for range 100 {
				if err := wholefile.Replace(path, bytes.Repeat([]byte{i}, 10000), 0o600); err != nil {
					t.Error(err)
				}
			}
		})
	}
	done := make(chan struct{})
	go func() { writers.Wait(); close(done) }()
	for {
		got, err := os.ReadFile(path)
		if err != nil || len(got) != 10000 || bytes.Count(got, got[:1]) != len(got) {
			t.Fatalf("read %d bytes, %v", len(got), err)
		}
		select {
		case <-done:
			return
		default:
		}
	}
}
