package audit

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/ovlnet/ovl/internal/store"
	ovlv1 "github.com/ovlnet/ovl/proto/ovl/v1"
)

// Prefix begins the keys of the events in the store: a ring of changes, and two of
// what must not push them out: refusals, which anybody can cause, and renewals of
// certificates, which every member needs all the time, and all at once while the CA
// changes. An event overwrites the one that had its slot, so that none can grow.
// Controllers alone may read or write them.
const Prefix = store.Root + "events/" // <ring>/<slot>, and head

// headKey is where the next event goes. Every write compares it: that is what
// gives the events of all controllers one order.
const headKey = Prefix + "head"

// ring is one of the three.
type ring string

const (
	changes  ring = "changes"
	refusals ring = "refusals"
	renewals ring = "renewals"
)

// slots is how many events it has room for: what EventService promises.
func (r ring) slots() uint64 {
	if r == changes {
		return 2048
	}
	return 512
}

// maxValue bounds an event in the store, in bytes: all rings together then
// hold 12 MiB at most. All texts of one fit, each byte of them escaped.
const maxValue = 4 << 10

// maxNumber is the highest number of an event: what JSON's readers can count to.
const maxNumber = 1<<53 - 1

// key is that of a ring's n-th event.
func (r ring) key(n uint64) string { return fmt.Sprintf("%s%s/%04x", Prefix, r, n%r.slots()) }

// isKey reports whether a key is that of a slot.
func isKey(key string) bool {
	for _, r := range []ring{changes, refusals, renewals} {
		slot, ok := strings.CutPrefix(key, Prefix+string(r)+"/")
		n, err := strconv.ParseUint(slot, 16, 64)
		if ok && err == nil && n < r.slots() && r.key(n) == key {
			return true
		}
	}
	return false
}

// head says how many events there have been: in all, and in each ring.
type head struct {
	Number   uint64 `json:"number"`
	Changes  uint64 `json:"changes"`
	Refusals uint64 `json:"refusals"`
	Renewals uint64 `json:"renewals"`
}

// next returns the key at which the next event of a ring goes, and counts that one.
func (h *head) next(r ring) string {
	h.Number++
	n := &h.Changes
	switch r {
	case refusals:
		n = &h.Refusals
	case renewals:
		n = &h.Renewals
	case changes:
	}
	*n++
	return r.key(*n - 1)
}

func encodeHead(h head) ([]byte, error) { return json.Marshal(h) }

func decodeHead(value []byte) (head, error) {
	var h head
	if len(value) > maxValue {
		return h, fmt.Errorf("decode %s: %d bytes, want at most %d", headKey, len(value), maxValue)
	}
	if err := json.Unmarshal(value, &h); err != nil {
		return head{}, fmt.Errorf("decode %s: %w", headKey, err)
	}
	if h.Number < 1 || h.Number > maxNumber || max(h.Changes, h.Refusals, h.Renewals) > h.Number {
		return head{}, fmt.Errorf("decode %s: counts %d, %d, %d and %d", headKey, h.Number, h.Changes, h.Refusals, h.Renewals)
	}
	return h, nil
}

// Decode returns the event in a record of the store. It is bounded, its texts
// can be printed, and its number is one.
func Decode(r store.Record) (*ovlv1.Event, error) {
	if !isKey(r.Key) {
		return nil, fmt.Errorf("parse key %.160q: not a key of an event", r.Key)
	}
	if len(r.Value) > maxValue {
		return nil, fmt.Errorf("decode %s: %d bytes, want at most %d", r.Key, len(r.Value), maxValue)
	}
	e := &ovlv1.Event{}
	err := protojson.UnmarshalOptions{DiscardUnknown: true}.Unmarshal(r.Value, e)
	if err == nil {
		err = check(e)
	}
	if err != nil {
		return nil, fmt.Errorf("decode %s: %w", r.Key, err)
	}
	return e, nil
}

func check(e *ovlv1.Event) error {
	if n := e.GetNumber(); n < 1 || n > maxNumber {
		return fmt.Errorf("number %d: want 1 to %d", n, uint64(maxNumber))
	}
	if err := e.GetTime().CheckValid(); err != nil {
		return err
	}
	if e.GetAction() == "" || e.GetOutcome() == "" {
		return errors.New("an event without an action or an outcome")
	}
	for _, s := range []string{e.GetController(), e.GetWho(), e.GetFrom(), e.GetAction(), e.GetOutcome()} {
		if err := checkText(s, maxShort); err != nil {
			return err
		}
	}
	if err := errors.Join(checkText(e.GetWhat(), maxWhat), checkText(e.GetReason(), maxReason)); err != nil {
		return err
	}
	return errors.Join(checkObject(e.GetBefore()), checkObject(e.GetAfter()))
}

func checkText(s string, limit int) error {
	if text(s, limit) != s {
		return fmt.Errorf("text %.80q: want at most %d bytes of printable text", s, limit)
	}
	return nil
}

// checkObject reports whether all of an object can be printed.
func checkObject(s *structpb.Struct) error {
	for name, v := range s.GetFields() {
		if err := checkValue(structpb.NewStringValue(name)); err != nil {
			return err
		}
		if err := checkValue(v); err != nil {
			return err
		}
	}
	return nil
}

func checkValue(v *structpb.Value) error {
	switch k := v.GetKind().(type) {
	case *structpb.Value_StringValue:
		if printable(k.StringValue) != k.StringValue {
			return fmt.Errorf("text %.80q: want printable text", k.StringValue)
		}
	case *structpb.Value_StructValue:
		return checkObject(k.StructValue)
	case *structpb.Value_ListValue:
		for _, v := range k.ListValue.GetValues() {
			if err := checkValue(v); err != nil {
				return err
			}
		}
	}
	return nil
}
