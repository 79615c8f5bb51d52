package attach

import (
	"bytes"
	"fmt"
	"net/netip"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"go.etcd.io/bbolt"

	"github.com/ovlnet/ovl/internal/cluster"
)

func pfxs(ss ...string) []netip.Prefix {
	var out []netip.Prefix
	for _, s := range ss {
		out = append(out, pfx(s))
	}
	return out
}

// sample returns a whole attachment.
func sample(id string, last byte) cluster.Attachment {
	return cluster.Attachment{
		ID: id, Name: id, NetNS: "/run/netns/" + id, Hostname: id, Labels: map[string]string{"a": "b"},
		Interfaces: []cluster.Interface{{
			Network: "blue", NetworkCreated: 4, Name: "eth0", MAC: cluster.MAC{2, 0, 0, 0, 0, last}, Aliases: []string{"www"},
			Addrs:     []netip.Prefix{netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 64, 3, last}), 24), pfx("fd64::7/64")},
			Bandwidth: cluster.Bandwidth{Ingress: cluster.Rate{Bits: 1e6, Burst: 8e4}, Egress: cluster.Rate{Bits: 2e6, Burst: uint64(last) * 1e4}},
		}},
		Created: time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC),
	}
}

func openDB(t *testing.T, path string) *bbolt.DB {
	t.Helper()
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{Timeout: time.Second})
	if err != nil {
		t.Fatal(err)
	}
	return db
}

// What was answered survives the process.
func TestJournalReopen(t *testing.T) {
	path := filepath.Join(t.TempDir(), "journal.db")
	db := openDB(t, path)
	j, err := OpenJournal(db)
	if err != nil {
		t.Fatal(err)
	}
	for i, id := range []string{"b", "a", "c"} {
		if err := j.Put(sample(id, byte(i+2))); err != nil {
			t.Fatal(err)
		}
	}
	if err := j.Delete("c"); err != nil {
		t.Fatal(err)
	}
	before := j.List()
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}

	db = openDB(t, path)
	defer func() { _ = db.Close() }()
	if j, err = OpenJournal(db); err != nil {
		t.Fatal(err)
	}
	if after := j.List(); !reflect.DeepEqual(after, before) || ids(after) != "[a b]" {
		t.Errorf("after reopening: %+v, want %+v", after, before)
	}
}

// The list is kept sorted change by change, and the one before stays as it was.
func TestJournalLists(t *testing.T) {
	db := openDB(t, filepath.Join(t.TempDir(), "journal.db"))
	defer db.Close()
	j, err := OpenJournal(db)
	if err != nil {
		t.Fatal(err)
	}
	var before []cluster.Attachment
	for i, step := range []struct{ put, remove, want string }{
		{put: "b", want: "b"},
		{put: "d", want: "bd"},
		{put: "a", want: "abd"},
		{put: "c", want: "abcd"},
		{put: "c", want: "abcd"},
		{remove: "a", want: "bcd"},
		{remove: "x", want: "bcd"},
		{remove: "d", want: "bc"},
		{remove: "b", want: "c"},
		{remove: "c", want: ""},
		{put: "e", want: "e"},
	} {
		before = j.List()
		was := fmt.Sprint(before)
		if step.put != "" {
			err = j.Put(sample(step.put, byte(i+2)))
		} else {
			err = j.Delete(step.remove)
		}
		if err != nil {
			t.Fatal(err)
		}
		var ids string
		for _, a := range j.List() {
			ids += a.ID
			if kept, _ := j.Get(a.ID); !reflect.DeepEqual(kept, a) {
				t.Errorf("step %d: %s is listed as %v, and is %v", i, a.ID, a, kept)
			}
		}
		if ids != step.want {
			t.Errorf("step %d: list is %q, want %q", i, ids, step.want)
		}
		if fmt.Sprint(before) != was {
			t.Errorf("step %d: the list that others have has changed", i)
		}
	}
}

// Nothing is shown that is not on disk.
func TestJournalWriteFails(t *testing.T) {
	r := newRig(t)
	if err := r.journal.Put(sample("a", 2)); err != nil {
		t.Fatal(err)
	}
	_ = r.db.Close()
	if err := r.journal.Put(sample("b", 3)); err == nil {
		t.Error("written to a closed file")
	}
	if err := r.journal.Delete("a"); err == nil {
		t.Error("deleted from a closed file")
	}
	if got := ids(r.journal.List()); got != "[a]" {
		t.Errorf("shows %s, want [a]", got)
	}
}

func TestJournalParallel(t *testing.T) {
	r := newRig(t)
	var wg sync.WaitGroup
	for i := range 100 {
		wg.Go(func() {
			id := fmt.Sprintf("c%02d", i)
			if err := r.journal.Put(sample(id, byte(i))); err != nil {
				t.Error(err)
			}
			if _, ok := r.journal.Get(id); !ok {
				t.Errorf("%s is not shown after it was written", id)
			}
			if i%2 == 0 {
				if err := r.journal.Delete(id); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	j, err := OpenJournal(r.db)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := ids(j.List()), ids(r.journal.List()); got != want || len(j.List()) != 50 {
		t.Errorf("on disk %s, shown %s, want 50", got, want)
	}
}

// What is put in and taken out by itself is the caller's own.
func TestJournalCopies(t *testing.T) {
	r := newRig(t)
	a := sample("a", 2)
	if err := r.journal.Put(a); err != nil {
		t.Fatal(err)
	}
	a.Interfaces[0].Name = "changed"
	found := r.journal.Find(a.Name)
	found[0].Labels["a"], found[0].Interfaces[0].Addrs[0] = "changed", pfx("10.0.0.0/8")
	if got, _ := r.journal.Get("a"); !reflect.DeepEqual(got, sample("a", 2)) {
		t.Errorf("the journal was changed from outside: %+v", got)
	}
}

// A record that cannot be read hides no other, is told of, and can be removed
// or replaced.
func TestJournalBrokenRecords(t *testing.T) {
	r := newRig(t, network("blue", 7, 8, "10.64.0.0/16"))
	good, err := encode(sample("good", 2))
	if err != nil {
		t.Fatal(err)
	}
	broken := map[string]string{
		"torn": string(good[:len(good)/2]), "empty": "", "null": "null", "of another": string(good), "list": "[]",
		"climbing": `{"id":"climbing","name":"x","netns":"/run/../etc","interfaces":[]}`,
	}
	err = r.db.Update(func(tx *bbolt.Tx) error {
		b := tx.Bucket(journalBucket)
		for k, v := range broken {
			if err := b.Put([]byte(k), []byte(v)); err != nil {
				return err
			}
		}
		return b.Put([]byte("good"), good)
	})
	if err != nil {
		t.Fatal(err)
	}
	r = startRig(t, r.db, r.loop, r.subnets)
	if got := ids(r.List()); got != "[good]" {
		t.Errorf("shows %s, want [good]", got)
	}
	if ps := r.journal.Problems(); len(ps) != len(broken) || !strings.Contains(ps[0].Subject, "climbing") {
		t.Errorf("problems %v, want %d", ps, len(broken))
	}
	if err := r.Detach(t.Context(), "torn"); err != nil {
		t.Errorf("detach: %v", err)
	}
	r.mustAttach(t, ask("null", "blue"))
	if ps := r.journal.Problems(); len(ps) != len(broken)-2 {
		t.Errorf("%d problems left, want %d", len(ps), len(broken)-2)
	}
}

// An agent that was killed at any moment of an attach finds either nothing of
// it or all of it, and in the latter case answers the runtime's second try.
func TestCrash(t *testing.T) {
	r := newRig(t, network("blue", 7, 8, "10.64.0.0/16"))
	req := ask("web", "blue")
	// Killed after the journal was written, before a pass.
	att, err := r.claim(t.Context(), req, map[string]cluster.Network{"blue": r.loop.networks[0]})
	if err != nil {
		t.Fatal(err)
	}
	r.release(att.ID) // what is in memory dies
	r = startRig(t, r.db, r.loop, r.subnets)
	if len(r.List()) != 0 {
		t.Error("something is there that was never written")
	}
	if err := r.journal.Put(att); err != nil {
		t.Fatal(err)
	}
	r = startRig(t, r.db, r.loop, r.subnets)
	if len(r.subnets.published) != 1 {
		t.Errorf("published %v at the start, want one endpoint", r.subnets.published)
	}
	other := r.mustAttach(t, ask("db", "blue"))
	if other.Interfaces[0].Addrs[0] == att.Interfaces[0].Addrs[0] {
		t.Error("the address of a container from before the restart was given out")
	}
	if again := r.mustAttach(t, req); !reflect.DeepEqual(again, att) {
		t.Errorf("second try: %+v, want %+v", again, att)
	}
}

func TestDecodeSegment(t *testing.T) {
	for segment, ok := range map[int]bool{-1: false, 0: true, 1: true, cluster.MaxSegments - 1: true, cluster.MaxSegments: false} {
		a := sample("web", 2)
		a.Interfaces[0].Segment = segment
		raw, err := encode(a)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := decode("web", raw); (err == nil) != ok || ok && got.Interfaces[0].Segment != segment {
			t.Errorf("segment %d: decoded %d (%v)", segment, got.Interfaces[0].Segment, err)
		}
	}
}

// FuzzDecode: hostile records are refused, and what is taken is within bounds
// and survives being written again.
func FuzzDecode(f *testing.F) {
	raw, err := encode(sample("web", 2))
	if err != nil {
		f.Fatal(err)
	}
	f.Add("web", raw)
	f.Add("web", []byte(`{"id":"web","name":"web","netns":"/run/netns/web","interfaces":[{"network":"a","name":"eth0","addrs":["::ffff:1.2.3.4/120"],"mac":"02:00:00:00:00:01"}]}`))
	for _, segment := range []string{"-1", "1", "1000", "1e99"} {
		f.Add("web", bytes.Replace(raw, []byte(`"aliases":`), []byte(`"segment":`+segment+`,"aliases":`), 1))
	}
	f.Fuzz(func(t *testing.T, key string, raw []byte) {
		a, err := decode(key, raw)
		if err != nil {
			if strings.Contains(err.Error(), "\n") {
				t.Errorf("error of several lines: %q", err)
			}
			return
		}
		if err := checkStored(a); err != nil {
			t.Fatalf("decoded what is out of bounds: %v", err)
		}
		again, err := encode(a)
		if err != nil {
			t.Fatal(err)
		}
		b, err := decode(key, again)
		if err != nil || b.ID != a.ID || !reflect.DeepEqual(b.Interfaces, a.Interfaces) && len(a.Interfaces) > 0 {
			t.Fatalf("decoded %+v, written and decoded again %+v (%v)", a, b, err)
		}
	})
}
