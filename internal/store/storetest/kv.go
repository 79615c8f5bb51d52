package storetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"

	"github.com/ovlnet/ovl/internal/store"
)

func testRevisions(t *testing.T, h Harness) {
	before := list(t, h, "a/").Revision
	created := put(t, h, "a/1", "x")
	if created <= before {
		t.Fatalf("write at revision %d after %d", created, before)
	}
	changed := put(t, h, "a/1", "y")
	r := list(t, h, "a/1").Records[0]
	if r.CreateRev != created || r.ModRev != changed || string(r.Value) != "y" || r.Lease != 0 {
		t.Fatalf("record %+v, want created at %d and changed at %d", r, created, changed)
	}
	write(t, h, store.Delete("a/1"))
	again := put(t, h, "a/1", "z")
	if r := list(t, h, "a/1").Records[0]; r.CreateRev != again || r.ModRev != again {
		t.Fatalf("record %+v after it was made anew at %d", r, again)
	}
	if got := write(t, h, store.Delete("nothing")); got != again {
		t.Fatalf("deleting nothing was revision %d, want still %d", got, again)
	}
	if page := list(t, h); page.Revision != again || len(page.Records) != 0 {
		t.Fatalf("a range over nothing: %+v, want no records at %d", page, again)
	}
}

func testRangeSortedOnce(t *testing.T, h Harness) {
	for _, k := range []string{"b/2", "a/1", "b/10", "c", "b/1", "ab"} {
		put(t, h, k, k)
	}
	page := list(t, h, "b/", "a/1", "b/1", "c")
	want := []string{"a/1", "b/1", "b/10", "b/2", "c"}
	if got := keys(page.Records); !slices.Equal(got, want) {
		t.Fatalf("keys %q, want %q", got, want)
	}
	if page := list(t, h, "d/"); len(page.Records) != 0 || page.Revision == 0 {
		t.Fatalf("empty range: %+v, want no records at a revision", page)
	}
	// What a caller does to a value stays with the caller.
	page.Records[0].Value[0] = 'X'
	if r := list(t, h, "a/1").Records[0]; !bytes.Equal(r.Value, []byte("a/1")) {
		t.Fatalf("the store's value became %q", r.Value)
	}
}

func testRangeLarge(t *testing.T, h Harness) {
	const n = 10_000
	value := bytes.Repeat([]byte("v"), 300)
	var batch []store.Write
	for i := range n {
		batch = append(batch, store.Put(fmt.Sprintf("large/%05d", i), value, 0))
		if len(batch) == 100 {
			write(t, h, batch...)
			batch = nil
		}
	}
	page := list(t, h, "large/")
	if len(page.Records) != n || page.Records[n-1].Key != fmt.Sprintf("large/%05d", n-1) {
		t.Fatalf("%d records, want %d", len(page.Records), n)
	}
}

func testRangeManyPrefixes(t *testing.T, h Harness) {
	const n = 300 // more than etcd takes in one transaction
	var prefixes []string
	for i := range n {
		prefixes = append(prefixes, fmt.Sprintf("p%03d/", i))
	}
	put(t, h, "p000/x", "")
	last := put(t, h, "p299/x", "")
	page := list(t, h, prefixes...)
	if got := keys(page.Records); !slices.Equal(got, []string{"p000/x", "p299/x"}) || page.Revision != last {
		t.Fatalf("keys %q at %d, want both at %d", got, page.Revision, last)
	}
}

func testConditions(t *testing.T, h Harness) {
	created := put(t, h, "a/1", "x")
	changed := put(t, h, "a/1", "y")
	for _, c := range []struct {
		name string
		cond store.Cond
		want bool
	}{
		{"absent key", store.Absent("a/2"), true},
		{"absent key that is there", store.Absent("a/1"), false},
		{"absent key that others begin with", store.Absent("a/"), true},
		{"created then", store.CreatedAt("a/1", created), true},
		{"created at another time", store.CreatedAt("a/1", changed), false},
		{"created, not there", store.CreatedAt("a/2", created), false},
		{"unchanged since", store.Unchanged("a/1", changed), true},
		{"changed since", store.Unchanged("a/1", created), false},
		{"unchanged, never there", store.Unchanged("a/2", 0), true},
		{"unchanged as absent, but there", store.Unchanged("a/1", 0), false},
		{"empty prefix", store.Empty("b/"), true},
		{"prefix with a key", store.Empty("a/"), false},
		{"prefix that is a key", store.Empty("a/1"), false},
	} {
		_, err := h.KV.Txn(t.Context(), []store.Cond{c.cond}, nil)
		if (err == nil) != c.want || err != nil && !errors.Is(err, store.ErrConflict) {
			t.Errorf("%s: %v, want it to hold: %t", c.name, err, c.want)
		}
	}
}

func testConflictWritesNothing(t *testing.T, h Harness) {
	rev := put(t, h, "a/1", "x")
	conds := []store.Cond{store.Absent("a/2"), store.Unchanged("a/1", rev-1)}
	_, err := h.KV.Txn(t.Context(), conds, []store.Write{store.Put("a/2", nil, 0), store.Delete("a/1")})
	if !errors.Is(err, store.ErrConflict) {
		t.Fatalf("error %v, want ErrConflict", err)
	}
	if page := list(t, h, "a/"); !slices.Equal(keys(page.Records), []string{"a/1"}) || page.Revision != rev {
		t.Fatalf("the store became %+v", page)
	}
}

func testOneRevisionPerTxn(t *testing.T, h Harness) {
	put(t, h, "a/0", "")
	rev := write(t, h, store.Put("a/1", nil, 0), store.Put("a/2", nil, 0), store.Delete("a/0"))
	page := list(t, h, "a/")
	if page.Revision != rev || len(page.Records) != 2 || page.Records[0].ModRev != rev || page.Records[1].ModRev != rev {
		t.Fatalf("%+v, want two records at revision %d", page, rev)
	}
}

func testMalformedTxn(t *testing.T, h Harness) {
	var many []store.Write
	for i := range 129 {
		many = append(many, store.Put(fmt.Sprintf("a/%d", i), nil, 0))
	}
	for name, writes := range map[string][]store.Write{
		"one key twice":    {store.Put("a/1", nil, 0), store.Put("a/1", nil, 0)},
		"put and delete":   {store.Put("a/1", nil, 0), store.Delete("a/1")},
		"put under delete": {store.Put("a/1", nil, 0), store.DeletePrefix("a/")},
		"empty key":        {store.Put("", nil, 0)},
		"too many":         many,
		"too large":        {store.Put("a/1", make([]byte, 2<<20), 0)},
	} {
		if _, err := h.KV.Txn(t.Context(), nil, writes); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	if page := list(t, h, "a/"); len(page.Records) != 0 {
		t.Fatalf("malformed transactions left %q", keys(page.Records))
	}
}

func testDeletePrefix(t *testing.T, h Harness) {
	for _, k := range []string{"a/1", "a/2", "a0", "b/1"} {
		put(t, h, k, "")
	}
	write(t, h, store.DeletePrefix("a/"))
	if got := keys(list(t, h, "a", "b").Records); !slices.Equal(got, []string{"a0", "b/1"}) {
		t.Fatalf("left over: %q", got)
	}
}

// Of many that create one key at once, exactly one does: the others are told.
func testOneWinner(t *testing.T, h Harness) {
	const contenders = 50
	var won, lost sync.Map
	var wg sync.WaitGroup
	for i := range contenders {
		wg.Go(func() {
			value := fmt.Appendf(nil, "%d", i)
			_, err := h.KV.Txn(t.Context(), []store.Cond{store.Absent("a/prize")}, []store.Write{store.Put("a/prize", value, 0)})
			switch {
			case err == nil:
				won.Store(string(value), true)
			case errors.Is(err, store.ErrConflict):
				lost.Store(string(value), true)
			default:
				t.Error(err)
			}
		})
	}
	wg.Wait()
	winner := string(list(t, h, "a/prize").Records[0].Value)
	if _, ok := won.Load(winner); !ok || size(&won) != 1 || size(&lost) != contenders-1 {
		t.Fatalf("%d won, %d lost, %q is there", size(&won), size(&lost), winner)
	}
}

func size(m *sync.Map) (n int) {
	m.Range(func(any, any) bool { n++; return true })
	return n
}

func testCancelled(t *testing.T, h Harness) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for name, err := range calls(ctx, h.KV) {
		if !errors.Is(err, context.Canceled) || errors.Is(err, store.ErrUnavailable) {
			t.Errorf("%s with a cancelled context: %v", name, err)
		}
	}
}

func testUnreachable(t *testing.T, h Harness) {
	for name, err := range calls(t.Context(), h.Unreachable) {
		if !errors.Is(err, store.ErrUnavailable) {
			t.Errorf("%s: %v, want ErrUnavailable", name, err)
		}
	}
	// A watch of a store out of reach waits; it ends with its context.
	ctx, cancel := context.WithCancel(t.Context())
	watch := h.Unreachable.Watch(ctx, "a/", 0)
	cancel()
	for b := range watch {
		if b.Err == nil {
			t.Fatalf("a batch from nowhere: %+v", b)
		}
	}
}

// calls makes one call of each kind, all at once.
func calls(ctx context.Context, kv store.KV) map[string]error {
	errs := map[string]error{}
	var mu sync.Mutex
	var wg sync.WaitGroup
	for name, call := range map[string]func() error{
		"Range":     func() error { _, err := kv.Range(ctx, "a/"); return err },
		"Txn":       func() error { _, err := kv.Txn(ctx, nil, []store.Write{store.Put("a/1", nil, 0)}); return err },
		"Grant":     func() error { _, err := kv.Grant(ctx, 1e9); return err },
		"KeepAlive": func() error { _, err := kv.KeepAlive(ctx, 1); return err },
		"Revoke":    func() error { return kv.Revoke(ctx, 1) },
	} {
		wg.Go(func() {
			err := call()
			mu.Lock()
			defer mu.Unlock()
			errs[name] = err
		})
	}
	wg.Wait()
	return errs
}
