package rotation_test

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ovlnet/ovl/controller/keys"
	"github.com/ovlnet/ovl/controller/roll"
	"github.com/ovlnet/ovl/controller/rotation"
	"github.com/ovlnet/ovl/internal/cluster"
	"github.com/ovlnet/ovl/internal/identity"
	"github.com/ovlnet/ovl/internal/store"
	"github.com/ovlnet/ovl/internal/store/mem"
)

// controller is one of several on a store.
type controller struct {
	*rotation.Rotation
	keys *keys.Keys
	dir  string
}

func start(t *testing.T, kv store.KV, c keys.Config) *controller {
	t.Helper()
	c.Life = time.Hour
	k, err := keys.Open(c)
	if err != nil {
		t.Fatal(err)
	}
	log := slog.New(slog.DiscardHandler)
	members := roll.New(kv, log)
	r := rotation.New(rotation.Config{Store: kv, Keys: k, Roll: members, Controller: c.Hostname, Life: time.Hour, Log: log})
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { defer close(ended); members.Run(ctx) }()
	go func() { _ = r.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-ended })
	return &controller{r, k, c.Dir}
}

func (c *controller) file(name string) string { return filepath.Join(c.dir, name) }

// reach waits until the record is in a phase, as the store tells of its changes.
func reach(t *testing.T, kv store.KV, phase identity.Phase) identity.Authorities {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	a, rev, err := roll.Authorities(ctx, kv)
	if err != nil {
		t.Fatal(err)
	}
	if rev > 0 && a.Phase == phase {
		return a
	}
	for b := range kv.Watch(ctx, roll.CAKey, rev) {
		for _, e := range b.Events {
			if a, err = identity.ParseAuthorities(e.Record.Value); err == nil && a.Phase == phase {
				return a
			}
		}
	}
	t.Fatalf("phase %q instead of %q", a.Phase, phase)
	return a
}

func newStore(t *testing.T) store.KV {
	t.Helper()
	s := mem.New()
	t.Cleanup(func() { _ = s.Close() })
	return s.NewClient()
}

func read(t *testing.T, path string) []byte {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// Of two controllers each needs the key of the next CA; then they go on together.
func TestTwoControllers(t *testing.T) {
	kv := newStore(t)
	one := start(t, kv, keys.Config{Dir: t.TempDir(), Hostname: "one"})
	old := reach(t, kv, identity.Rest)
	given := keys.Config{Dir: t.TempDir(), Hostname: "two", Life: time.Hour, CACert: filepath.Join(t.TempDir(), "ca"), CAKey: filepath.Join(t.TempDir(), "key")}
	for from, to := range map[string]string{"ca.pem": given.CACert, "ca-key.pem": given.CAKey} {
		if err := identity.Write(to, read(t, one.file(from))); err != nil {
			t.Fatal(err)
		}
	}
	two := start(t, kv, given)
	if _, err := two.State(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := one.Begin(t.Context(), nil, nil); err != nil {
		t.Fatal(err)
	}
	next := reach(t, kv, identity.Spread).Newest()
	if _, _, err := two.Read(t.Context()); !errors.Is(err, keys.ErrNoKey) {
		t.Errorf("a controller without the key: %v", err)
	}
	if got := two.keys.InForce(); len(got) != 1 || got[0] != old.Issuer() {
		t.Errorf("it trusts %v, though it has not the key", got)
	}
	if ps := two.Problems(); len(ps) != 1 || !strings.Contains(ps[0].What, "ca rotate --ca-cert") {
		t.Errorf("its problems: %v", ps)
	}
	if _, err := two.Begin(t.Context(), read(t, one.file("next-ca.pem")), read(t, one.file("next-ca-key.pem"))); err != nil {
		t.Fatal(err)
	}
	if a := reach(t, kv, identity.Issue); a.Issuer() != next || a.Cluster != old.Cluster {
		t.Errorf("%+v", a)
	}
	if _, err := two.Finish(t.Context(), true); err != nil {
		t.Fatal(err)
	}
	for _, c := range []*controller{one, two} {
		if _, _, err := c.Read(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got := c.keys.InForce(); len(got) != 1 || got[0] != next {
			t.Errorf("in force: %v, want %v", got, next)
		}
		if _, err := os.Stat(c.file("next-ca-key.pem")); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("the next key is still the next one: %v", err)
		}
	}
	// The flags still name the CA of before: that is no reason not to start.
	if k, err := keys.Open(given); err != nil || k.InForce()[0] != next {
		t.Errorf("with the flags of before: %v", err)
	}
	if at, ok := reach(t, kv, identity.Rest).DroppedAt(old.Issuer()); !ok || time.Since(at) > time.Minute {
		t.Errorf("the old one was dropped at %v, %v", at, ok)
	}
	if _, err := one.Finish(t.Context(), true); err == nil {
		t.Error("finished twice")
	}
}

// lossy is a store to which the connection breaks as the CAs are written, as it may
// over the step itself.
type lossy struct {
	store.KV
	fate fate

	mu    sync.Mutex
	away  int    // readings that fail until one does not
	queue func() // the writing that comes late
}

// fate is what becomes of the first writing, whose answer never comes.
type fate string

const (
	unmade fate = "it is not made"
	made   fate = "it is made"
	late   fate = "it is made as the next one comes"
	beaten fate = "another one is made"
	fine   fate = ""
)

func (l *lossy) Txn(ctx context.Context, conds []store.Cond, writes []store.Write) (int64, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if writes[0].Key != roll.CAKey || l.fate == fine && l.queue == nil {
		return l.KV.Txn(ctx, conds, writes)
	}
	if l.queue != nil {
		l.queue()
		l.queue = nil
		return l.KV.Txn(ctx, conds, writes)
	}
	var err error
	switch l.fate {
	case made:
		_, err = l.KV.Txn(ctx, conds, writes)
	case late:
		l.queue = func() { _, _ = l.KV.Txn(ctx, conds, writes) }
	case beaten:
		_, err = l.KV.Txn(ctx, nil, []store.Write{store.Put(roll.CAKey, append([]byte(" "), writes[0].Value...), 0)})
	case unmade, fine:
	}
	if err != nil {
		return 0, err
	}
	l.fate, l.away = fine, 2
	return 0, fmt.Errorf("write records: %w: the connection is closed", store.ErrUnavailable)
}

func (l *lossy) Range(ctx context.Context, prefixes ...string) (store.Page, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.away > 0 {
		l.away--
		return store.Page{}, fmt.Errorf("read records: %w", store.ErrUnavailable)
	}
	return l.KV.Range(ctx, prefixes...)
}

// Who takes a step hears that it was taken, though the answer of the store was lost;
// and nothing is taken for his that another one did.
func TestLostAnswer(t *testing.T) {
	for _, f := range []fate{unmade, made, late, beaten} {
		t.Run(string(f), func(t *testing.T) {
			kv := &lossy{KV: newStore(t)}
			k, err := keys.Open(keys.Config{Dir: t.TempDir(), Hostname: "c", Life: time.Hour})
			if err != nil {
				t.Fatal(err)
			}
			log := slog.New(slog.DiscardHandler)
			r := rotation.New(rotation.Config{Store: kv, Keys: k, Roll: roll.New(kv, log), Controller: "c", Life: time.Hour, Log: log})
			if _, _, err := r.Read(t.Context()); err != nil {
				t.Fatal(err)
			}
			steps := []struct {
				to   identity.Phase
				take func() (rotation.State, error)
			}{
				{identity.Spread, func() (rotation.State, error) { return r.Begin(t.Context(), nil, nil) }},
				{identity.Issue, func() (rotation.State, error) { return r.Finish(t.Context(), false) }},
				{identity.Rest, func() (rotation.State, error) { return r.Finish(t.Context(), false) }},
			}
			for _, step := range steps {
				kv.fate = f
				s, err := step.take()
				if f == beaten {
					if !errors.Is(err, store.ErrConflict) {
						t.Errorf("to %q, which another one did: %v", step.to, err)
					}
					continue
				}
				if err != nil || s.Phase != step.to {
					t.Fatalf("to %q: %q, %v", step.to, s.Phase, err)
				}
			}
		})
	}
}

// A controller that is asked before it has read anything begins the cluster first.
func TestBeginAtOnce(t *testing.T) {
	k, err := keys.Open(keys.Config{Dir: t.TempDir(), Hostname: "c", Life: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	kv, log := newStore(t), slog.New(slog.DiscardHandler)
	r := rotation.New(rotation.Config{Store: kv, Keys: k, Roll: roll.New(kv, log), Controller: "c", Life: time.Hour, Log: log})
	if s, err := r.Begin(t.Context(), nil, nil); err != nil || s.Phase != identity.Spread || s.Issuer() != s.Cluster {
		t.Errorf("%+v, %v", s, err)
	}
}

// A controller that dies between the record and its files, or between two of its
// files, starts again as the record says.
func TestCrash(t *testing.T) {
	kv := newStore(t)
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	dir := t.TempDir()
	open := func() *keys.Keys {
		k, err := keys.Open(keys.Config{Dir: dir, Hostname: "c", Life: time.Hour})
		if err != nil {
			t.Fatal(err)
		}
		return k
	}
	k := open()
	at := time.Now()
	a := identity.NewAuthorities(k.InForce()[0], at)
	next, err := k.Next(nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	if again, err := open().Next(nil, nil); err != nil || again != next {
		t.Errorf("a rotation that was begun twice has two CAs: %v, %v", again, err)
	}
	for _, step := range []struct {
		name  string
		a     identity.Authorities
		crash func()
	}{
		{"spread, nothing adopted", a.Begin(next, at), func() {}},
		{"issue, nothing adopted", a.Begin(next, at).Advance(at), func() {}},
		{"rest, the key renamed alone", a.Begin(next, at).Advance(at).Drop(at), func() {
			if err := os.Rename(filepath.Join(dir, "next-ca-key.pem"), filepath.Join(dir, "ca-key.pem")); err != nil {
				t.Fatal(err)
			}
		}},
		{"rest", a.Begin(next, at).Advance(at).Drop(at), func() {}},
	} {
		value, err := step.a.Encode()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := kv.Txn(ctx, nil, []store.Write{store.Put(roll.CAKey, value, 0)}); err != nil {
			t.Fatal(err)
		}
		step.crash()
		k := open()
		log := slog.New(slog.DiscardHandler)
		r := rotation.New(rotation.Config{Store: kv, Keys: k, Roll: roll.New(kv, log), Controller: "c", Life: time.Hour, Log: log})
		if _, _, err := r.Read(ctx); err != nil {
			t.Fatalf("%s: %v", step.name, err)
		}
		if got := identity.Text(k.InForce()); got != identity.Text(step.a.Trusted) {
			t.Errorf("%s: in force are %s, want %s", step.name, got, identity.Text(step.a.Trusted))
		}
		if got := identity.PrintOf(k.Credential.Pair().Chain[1]); got != step.a.Issuer() {
			t.Errorf("%s: it shows a certificate of %s", step.name, got)
		}
	}
	if got := identity.Prints(mustCerts(t, filepath.Join(dir, "ca.pem"))); got[0] != next {
		t.Errorf("at the end the CA's file holds %v", got)
	}
}

func mustCerts(t *testing.T, path string) []*x509.Certificate {
	t.Helper()
	certs, err := identity.ParseCerts(read(t, path))
	if err != nil {
		t.Fatal(err)
	}
	return certs
}

// Who writes the store brings in no CA of his own.
func TestHostileRecord(t *testing.T) {
	kv := newStore(t)
	c := start(t, kv, keys.Config{Dir: t.TempDir(), Hostname: "c"})
	a := reach(t, kv, identity.Rest)
	for _, value := range []string{"", "{}", `{"fingerprint":"x"}`, string(encode(t, a.Begin(identity.Print{1}, time.Now()))), string(encode(t, a.Begin(identity.Print{1}, time.Now()).Advance(time.Now())))} {
		if _, err := kv.Txn(t.Context(), nil, []store.Write{store.Put(roll.CAKey, []byte(value), 0)}); err != nil {
			t.Fatal(err)
		}
		if _, _, err := c.Read(t.Context()); err == nil {
			t.Errorf("%q was taken", value)
		}
		if got := c.keys.InForce(); len(got) != 1 || got[0] != a.Issuer() {
			t.Errorf("%q: in force are %v", value, got)
		}
	}
}

func encode(t *testing.T, a identity.Authorities) []byte {
	t.Helper()
	value, err := a.Encode()
	if err != nil {
		t.Fatal(err)
	}
	return value
}

// Who has not followed is named, and nobody is once all certificates of before have
// ended.
func TestBehind(t *testing.T) {
	kv := newStore(t)
	now := time.Now()
	k, err := keys.Open(keys.Config{Dir: t.TempDir(), Hostname: "c", Life: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	log := slog.New(slog.DiscardHandler)
	r := rotation.New(rotation.Config{Store: kv, Keys: k, Roll: roll.New(kv, log), Controller: "c", Life: time.Hour, Log: log, Now: func() time.Time { return now }})
	first, _, err := r.Read(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	put := func(m roll.Member) {
		value, err := roll.EncodeMember(m)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := kv.Txn(t.Context(), nil, []store.Write{store.Put(roll.MemberKey(m.Who), value, 0)}); err != nil {
			t.Fatal(err)
		}
	}
	ann := roll.Member{Who: identity.Who{Role: identity.Viewer, Name: "ann"}, Key: identity.Print{1}, Joined: now, Trusts: first.Trusted, Issuer: first.Issuer()}
	put(ann)
	s, err := r.Begin(t.Context(), nil, nil)
	if err != nil || len(s.Behind) != 1 || s.Behind[0].Name != "ann" || s.Members != 1 {
		t.Fatalf("%+v, %v", s, err)
	}
	_, err = r.Finish(t.Context(), false)
	if _, ok := errors.AsType[*rotation.BehindError](err); !ok || !strings.Contains(err.Error(), "viewer ann") {
		t.Errorf("finished without ann: %v", err)
	}
	ann.Trusts = s.Trusted
	put(ann)
	if s, err = r.Finish(t.Context(), false); err != nil || s.Phase != identity.Issue || len(s.Behind) != 1 {
		t.Fatalf("%+v, %v", s, err)
	}
	if _, err = r.Finish(t.Context(), false); err == nil {
		t.Error("dropped what ann's certificate is of")
	}
	now = now.Add(time.Hour + time.Second)
	if s, err = r.Finish(t.Context(), false); err != nil || s.Phase != identity.Rest {
		t.Errorf("%+v, %v", s, err)
	}
}

func FuzzDecodePresence(f *testing.F) {
	f.Add([]byte(`{"name":"c","trusted":["` + strings.Repeat("00", 32) + `"]}`))
	f.Fuzz(func(t *testing.T, value []byte) {
		name, _, err := rotation.DecodePresence(store.Record{Key: rotation.ControllersPrefix + "x", Value: value})
		if err == nil && cluster.CheckName(name) != nil {
			t.Errorf("a controller of the name %q", name)
		}
	})
}
