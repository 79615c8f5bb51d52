package dockerdriver

import (
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/tools/txtar"
)

// FuzzCalls throws messages at every call: whatever an engine says is answered, in one
// line if it is an error, and makes no more of networks and endpoints than it names.
func FuzzCalls(f *testing.F) {
	r := newRig(f, network("blue", 5, "10.70.0.0/16", "fd70::/48"), network("red", 6, "10.71.0.0/16"))
	methods := slices.Sorted(maps.Keys(r.calls()))
	files, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(files) == 0 {
		f.Fatalf("no transcripts: %v", err)
	}
	for _, file := range files {
		ar, err := txtar.ParseFile(file)
		if err != nil {
			f.Fatal(err)
		}
		for _, m := range ar.Files {
			if at := slices.Index(methods, m.Name); at >= 0 {
				message, _, _ := strings.Cut(string(m.Data), "----\n")
				f.Add(uint8(at), message)
			}
		}
	}
	f.Fuzz(func(t *testing.T, at uint8, body string) {
		method := methods[int(at)%len(methods)]
		networks, endpoints := len(r.book.List()), len(r.room.atts)
		answer, failure := r.call(t, method, body)
		if strings.ContainsAny(failure, "\n\r") || failure == "" && answer == nil {
			t.Errorf("%s %q: %q, %v", method, body, failure, answer)
		}
		if len(r.book.List()) > networks+1 || len(r.room.atts) > endpoints+1 {
			t.Errorf("%s %q made more than one thing", method, body)
		}
	})
}

// FuzzPage: a page that is read is as it was written.
func FuzzPage(f *testing.F) {
	f.Add([]byte(`{"id":"a1","network":"blue","marked":true,"pools":["10.70.0.0/16","fd70::/48"],"egressDocker":true}`))
	f.Add([]byte(`{"id":"a1","pools":["10.70.0.1/16"]}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		p, err := decodePage("a1", raw)
		if err != nil {
			return
		}
		r := newRig(t)
		if err := r.book.Put(p); err != nil {
			t.Errorf("%+v cannot be written: %v", p, err)
		}
		if again, err := OpenBook(r.book.db); err != nil || len(again.List()) != 1 {
			t.Errorf("%+v cannot be read again: %v", p, err)
		}
	})
}

// TestServer: what is no call, or too much of one, and what comes before the agent is ready.
func TestServer(t *testing.T) {
	r := newRig(t)
	for _, c := range []struct {
		method, path, body string
		code               int
	}{
		{http.MethodGet, "/Plugin.Activate", "", http.StatusMethodNotAllowed},
		{http.MethodPost, "/Plugin.Activate", "", http.StatusOK},
		{http.MethodPost, "/NetworkDriver.AllocateNetwork", "{}", http.StatusNotFound},
		{http.MethodPost, "/NetworkDriver.Join", strings.Repeat("x", maxBody+1), http.StatusBadRequest},
	} {
		w := httptest.NewRecorder()
		r.server.ServeHTTP(w, httptest.NewRequest(c.method, c.path, strings.NewReader(c.body)))
		if w.Code != c.code || w.Header().Get("Content-Type") != contentType {
			t.Errorf("%s %s: %d %s", c.method, c.path, w.Code, w.Body)
		}
	}
}

// TestStarting: an engine that asks before the agent is ready waits, and is told if that
// takes too long.
func TestStarting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := NewServer(slog.New(slog.DiscardHandler))
		ask := func(method string) string {
			w := httptest.NewRecorder()
			s.ServeHTTP(w, httptest.NewRequest(http.MethodPost, "/"+method, strings.NewReader("{}")))
			return w.Body.String()
		}
		if got := ask("Plugin.Activate"); !strings.Contains(got, "NetworkDriver") {
			t.Errorf("activation waits for the agent: %s", got)
		}
		began := time.Now()
		if got := ask("NetworkDriver.Leave"); !strings.Contains(got, "still starting") || time.Since(began) != patience {
			t.Errorf("after %v: %s", time.Since(began), got)
		}
		time.AfterFunc(time.Second, func() { s.Ready(New(Config{})) })
		began = time.Now()
		if got := ask("NetworkDriver.DiscoverNew"); strings.TrimSpace(got) != "{}" || time.Since(began) != time.Second {
			t.Errorf("after %v: %s", time.Since(began), got)
		}
	})
}
