package audit_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/ovlnet/ovl/controller/audit"
)

func open(t *testing.T, path string, files int) *audit.File {
	t.Helper()
	l, err := audit.Open(path, audit.MinSize, files)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l
}

func appendTo(t *testing.T, l audit.Log, lines ...string) {
	t.Helper()
	for _, line := range lines {
		if err := l.Append([]byte(line)); err != nil {
			t.Fatal(err)
		}
	}
}

func read(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestFileIsAppendedTo(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit.log")
	l := open(t, path, 2)
	appendTo(t, l, "a", "b\nb")
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Error(err)
	}
	appendTo(t, open(t, path, 2), "c")
	if got := read(t, path); got != "a\nbb\nc\n" {
		t.Errorf("the log is %q", got)
	}
	if st, err := os.Stat(path); err != nil || st.Mode() != 0o600 {
		t.Errorf("%v, %v", st.Mode(), err)
	}
}

// Power went while a line was written: the next one is a line of its own.
func TestTornLine(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit.log")
	if err := os.WriteFile(path, []byte("a\nhalf a li"), 0o640); err != nil {
		t.Fatal(err)
	}
	appendTo(t, open(t, path, 2), "b")
	if got := read(t, path); got != "a\nhalf a li\nb\n" {
		t.Errorf("the log is %q", got)
	}
	if st, err := os.Stat(path); err != nil || st.Mode() != 0o640 {
		t.Errorf("the mode that somebody gave it became %v, %v", st.Mode(), err)
	}
}

func TestFileIsBounded(t *testing.T) {
	for _, files := range []int{1, 2, 3} {
		dir := t.TempDir()
		path := filepath.Join(dir, "audit.log")
		l := open(t, path, files)
		pad := strings.Repeat("x", audit.MinSize/4)
		const n = 30
		for i := range n {
			appendTo(t, l, fmt.Sprintf("%d %s", i, pad))
		}
		entries, err := os.ReadDir(dir)
		if err != nil || len(entries) != files {
			t.Errorf("%d files: %v, %v", files, entries, err)
		}
		var all string
		for i := files - 1; i >= 0; i-- {
			name := path
			if i > 0 {
				name = fmt.Sprintf("%s.%d", path, i)
			}
			text := read(t, name)
			if len(text) == 0 || len(text) > audit.MinSize {
				t.Errorf("%d files: %s has %d bytes", files, name, len(text))
			}
			all += text
		}
		lines := strings.Split(strings.TrimSpace(all), "\n")
		for i, line := range lines { // the newest ones, without a gap
			if want := fmt.Sprintf("%d %s", n-len(lines)+i, pad); line != want {
				t.Errorf("%d files: line %d of %d begins %.20q", files, i, len(lines), line)
			}
		}
	}
}

// Somebody else rotates: by moving the file away, or by emptying it.
func TestFileMovedAway(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit.log")
	l := open(t, path, 2)
	appendTo(t, l, "a")
	if err := os.Rename(path, path+"-old"); err != nil {
		t.Fatal(err)
	}
	appendTo(t, l, "b")
	if got := read(t, path+"-old") + read(t, path); got != "a\nb\n" {
		t.Errorf("the logs are %q", got)
	}
	if err := os.Truncate(path, 0); err != nil {
		t.Fatal(err)
	}
	appendTo(t, l, "c")
	if got := read(t, path); got != "c\n" {
		t.Errorf("the log is %q", got)
	}
}

func TestFileRefused(t *testing.T) {
	dir := t.TempDir()
	for name, open := range map[string]func() (*audit.File, error){
		"small":     func() (*audit.File, error) { return audit.Open(dir+"/a", audit.MinSize-1, 2) },
		"large":     func() (*audit.File, error) { return audit.Open(dir+"/a", audit.MaxSize+1, 2) },
		"no files":  func() (*audit.File, error) { return audit.Open(dir+"/a", audit.MinSize, 0) },
		"directory": func() (*audit.File, error) { return audit.Open(dir, audit.MinSize, 2) },
		"device":    func() (*audit.File, error) { return audit.Open("/dev/null", audit.MinSize, 2) },
		"nowhere":   func() (*audit.File, error) { return audit.Open(dir+"/no/a", audit.MinSize, 2) },
	} {
		if l, err := open(); err == nil {
			t.Errorf("%s: opened", name)
			_ = l.Close()
		}
	}
	if entries, _ := os.ReadDir(dir); len(entries) > 0 {
		t.Errorf("left: %v", entries)
	}
}

// Lines that come at once, while files become full, are all there and whole.
func TestParallelLines(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "audit.log")
	l := open(t, path, audit.MaxFiles)
	pad := strings.Repeat("x", 8<<10)
	var all sync.WaitGroup
	for i := range 16 {
		all.Go(func() {
			for j := range 8 {
				line, _ := json.Marshal([]any{i, j, pad})
				if err := l.Append(line); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	names, _ := filepath.Glob(path + "*")
	seen := map[string]bool{}
	for _, name := range names {
		for line := range strings.Lines(read(t, name)) {
			var v []any
			if err := json.Unmarshal([]byte(line), &v); err != nil || len(v) != 3 {
				t.Fatalf("line %.40q: %v", line, err)
			}
			seen[fmt.Sprint(v[:2])] = true
		}
	}
	if len(seen) != 16*8 || len(names) < 4 {
		t.Errorf("%d lines in %d files", len(seen), len(names))
	}
}

func TestStream(t *testing.T) {
	var b bytes.Buffer
	l := audit.Stream(&b)
	appendTo(t, l, "a", "b")
	if err := l.Close(); err != nil || b.String() != "a\nb\n" {
		t.Errorf("%q, %v", b.String(), err)
	}
}
