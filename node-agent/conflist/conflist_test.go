package conflist

import (
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/containernetworking/cni/libcni"
)

func TestText(t *testing.T) {
	raw, err := Text("blue", "/run/other.sock")
	if err != nil {
		t.Fatal(err)
	}
	c, err := libcni.NetworkConfFromBytes(raw)
	if err != nil {
		t.Fatal(err)
	}
	if c.Name != "blue" || c.CNIVersion != "1.1.0" || len(c.Plugins) != 1 || c.Plugins[0].Network.Type != Type || !c.Plugins[0].Network.Capabilities["portMappings"] {
		t.Errorf("read as %+v", c)
	}
	if !strings.Contains(string(raw), `"socket": "/run/other.sock"`) || !strings.Contains(string(raw), `"cniVersion": "1.0.0"`) {
		t.Errorf("%s", raw)
	}
	if _, err := Text("My_Net", ""); err == nil {
		t.Error("a network that cannot be is written")
	}
}

// world is what a Writer looks at.
type world struct {
	*Writer
	ready  error
	exists bool
	path   string
	news   int
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{ready: errors.New("not yet"), path: filepath.Join(t.TempDir(), "net.d", Name)}
	var err error
	w.Writer, err = New(Config{
		Dir: filepath.Dir(w.path), Network: "blue", Log: slog.New(slog.DiscardHandler), Changed: func() { w.news++ },
		Ready: func() error { return w.ready }, Exists: func(string) bool { return w.exists },
	})
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func (w *world) has(t *testing.T, want string) {
	t.Helper()
	got, err := os.ReadFile(w.path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) || string(got) != want {
		t.Errorf("the file holds %q (%v), want %q", got, err, want)
	}
}

func TestWriter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		go func() { _ = w.Run(t.Context()) }()
		look := func() {
			w.Wake()
			synctest.Wait()
		}
		look()
		w.has(t, "")
		w.ready = nil
		look()
		w.has(t, "")
		if p := w.Problems(); len(p) != 1 || !strings.Contains(p[0].What, "no network blue") {
			t.Errorf("problems %v", p)
		}
		w.exists = true
		look()
		w.has(t, string(w.want))
		if p := w.Problems(); len(p) != 0 {
			t.Errorf("problems %v", p)
		}
		if st, err := os.Stat(w.path); err != nil || st.Mode() != 0o644 {
			t.Errorf("mode %v (%v)", st.Mode(), err)
		}
		if w.news != 2 {
			t.Errorf("told of %d changes of the problems, want 2", w.news)
		}
		if err := os.WriteFile(w.path, []byte("{}"), 0o600); err != nil {
			t.Fatal(err)
		}
		look()
		w.has(t, string(w.want))

		// An agent that is not ready leaves it where it is.
		w.ready = errors.New("fenced")
		look()
		w.has(t, string(w.want))

		entries, err := os.ReadDir(filepath.Dir(w.path))
		if err != nil || len(entries) != 1 {
			t.Errorf("beside it: %v (%v)", entries, err)
		}
		for range 2 {
			if err := Remove(filepath.Dir(w.path)); err != nil {
				t.Error(err)
			}
			w.has(t, "")
		}
	})
}

func TestWriterSaysWhyNot(t *testing.T) {
	w := newWorld(t)
	w.ready, w.exists = nil, true
	if err := os.WriteFile(filepath.Dir(w.path), nil, 0o600); err != nil { // no directory
		t.Fatal(err)
	}
	w.sync()
	if p := w.Problems(); len(p) != 1 || !strings.Contains(p[0].What, Name) || !strings.Contains(p[0].Hint, "--cni-conf-dir") {
		t.Errorf("problems %v", p)
	}
}
