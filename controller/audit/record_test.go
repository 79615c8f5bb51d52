package audit_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/ovlnet/ovl/controller/audit"
	"github.com/ovlnet/ovl/internal/store"
)

const (
	slot = audit.Prefix + "changes/0000"
	good = `{"number":"7","time":"2026-11-21T05:21:56.5Z","who":"admin local","action":"CreateNetwork","what":"network blue","outcome":"OK","after":{"name":"blue","labels":{"a":["b"]}}}`
)

// The layout is on disk in every cluster: it does not change by accident.
func TestDecode(t *testing.T) {
	for _, key := range []string{slot, audit.Prefix + "changes/07ff", audit.Prefix + "refusals/01ff", audit.Prefix + "renewals/01ff"} {
		e, err := audit.Decode(store.Record{Key: key, Value: []byte(good)})
		if err != nil || e.GetNumber() != 7 || e.GetWho() != "admin local" || e.GetAfter().GetFields()["name"].GetStringValue() != "blue" {
			t.Errorf("%s: %v, %v", key, e, err)
		}
	}
	if _, err := audit.Decode(store.Record{Key: slot, Value: []byte(strings.Replace(good, "{", `{"fieldOfTomorrow":[1],`, 1))}); err != nil {
		t.Errorf("of a newer version: %v", err)
	}
	for _, key := range []string{
		"", audit.Prefix, audit.Prefix + "head", audit.Prefix + "changes/", audit.Prefix + "changes/0800", audit.Prefix + "changes/0", audit.Prefix + "changes/00000",
		audit.Prefix + "changes/07FF", audit.Prefix + "refusals/0200", audit.Prefix + "renewals/0200", audit.Prefix + "changes/-001", audit.Prefix + "others/0000", store.Root + "networks/blue",
	} {
		if e, err := audit.Decode(store.Record{Key: key, Value: []byte(good)}); err == nil {
			t.Errorf("decoded at %q: %v", key, e)
		}
	}
	for name, value := range map[string]string{
		"empty": "", "null": "null", "array": "[]", "no number": strings.Replace(good, `"number":"7",`, "", 1),
		"number":     strings.Replace(good, `"7"`, `"9007199254740992"`, 1),
		"no time":    strings.Replace(good, `"time":"2026-11-21T05:21:56.5Z",`, "", 1),
		"year":       strings.Replace(good, "2026", "0000", 1),
		"no action":  strings.Replace(good, "CreateNetwork", "", 1),
		"no outcome": strings.Replace(good, `"OK"`, `""`, 1),
		"escape":     strings.Replace(good, "admin", `\u001b[2J`, 1),
		"CSI":        strings.Replace(good, "admin", `\u009b2J`, 1),
		"within":     strings.Replace(good, `["b"]`, `[{"c":"\u001b"}]`, 1),
		"a name":     strings.Replace(good, `"labels"`, `"\u001b"`, 1),
		"long who":   strings.Replace(good, "admin", strings.Repeat("a", 129), 1),
		"deep":       strings.Replace(good, `["b"]`, strings.Repeat("[", 3000), 1),
		"long":       strings.Repeat(" ", 4<<10) + good,
	} {
		if e, err := audit.Decode(store.Record{Key: slot, Value: []byte(value)}); err == nil {
			t.Errorf("%s: decoded %v", name, e)
		} else if strings.ContainsAny(err.Error(), "\n\x1b") {
			t.Errorf("%s: error text %q", name, err)
		}
	}
}

// Whatever lies in the store, what is decoded is bounded and can be printed, and
// decodes again as the same.
func FuzzDecode(f *testing.F) {
	f.Add(slot, []byte(good))
	f.Add(audit.Prefix+"refusals/0001", []byte(`{"number":1,"time":"2026-11-21T05:21:56Z","action":"Join","outcome":"UNAUTHENTICATED","reason":"…","unrecorded":3}`))
	f.Add(audit.Prefix+"head", []byte(`{"number":3,"changes":2,"refusals":1}`))
	f.Fuzz(func(t *testing.T, key string, value []byte) {
		e, err := audit.Decode(store.Record{Key: key, Value: value})
		if err != nil {
			return
		}
		again, err := protojson.Marshal(e)
		if err != nil {
			t.Fatal(err)
		}
		if strings.ContainsFunc(string(again), func(r rune) bool { return r < ' ' && r != '\n' || r >= 0x7f && r < 0xa0 }) || !json.Valid(again) {
			t.Errorf("%q", again)
		}
		if same, err := audit.Decode(store.Record{Key: key, Value: again}); len(again) <= 4<<10 && (err != nil || !proto.Equal(e, same)) {
			t.Errorf("%v, %v, want %v", same, err, fmt.Sprint(e))
		}
	})
}
