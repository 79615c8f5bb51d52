package audit

import (
	"bytes"
	"encoding/json"
	"strings"
	"unicode"

	"google.golang.org/genproto/googleapis/rpc/code"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/known/structpb"

	ovlv1 "github.com/ovlnet/ovl/proto/ovl/v1"
)

// The bounds of an event, in bytes.
const (
	maxReason = 512 // the longest text
	maxWhat   = 256
	maxShort  = 128      // of each other text
	maxLine   = 64 << 10 // of a line in the log
)

// outcome is the name of a code as in every API of Google's: PERMISSION_DENIED.
func outcome(c codes.Code) string { return code.Code(c).String() }

// text makes what others wrote fit for a log: printable, and bounded.
func text(s string, limit int) string {
	s = printable(s)
	if len(s) > limit {
		s = strings.ToValidUTF8(s[:limit-len("…")], "") + "…"
	}
	return s
}

// printable replaces what would control a terminal.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}, strings.ToValidUTF8(s, "?"))
}

// object returns a message of the API as it is recorded: without what is secret.
func object(m proto.Message) *structpb.Struct {
	if m == nil || !m.ProtoReflect().IsValid() {
		return nil
	}
	m = proto.Clone(m)
	redact(m.ProtoReflect())
	b, err := protojson.Marshal(m)
	if err != nil {
		return nil // not UTF-8: no object of ours
	}
	s := &structpb.Struct{}
	if protojson.Unmarshal(b, s) != nil {
		return nil
	}
	return s
}

// redact clears every field that has the option debug_redact, at any depth.
func redact(m protoreflect.Message) {
	m.Range(func(f protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		options, _ := f.Options().(*descriptorpb.FieldOptions)
		switch {
		case options.GetDebugRedact():
			m.Clear(f)
		case f.IsMap():
			if f.MapValue().Message() != nil {
				v.Map().Range(func(_ protoreflect.MapKey, v protoreflect.Value) bool { redact(v.Message()); return true })
			}
		case f.IsList() && f.Message() != nil:
			for i := range v.List().Len() {
				redact(v.List().Get(i).Message())
			}
		case f.Message() != nil:
			redact(v.Message())
		}
		return true
	})
}

// encode returns an event as one line of JSON of at most limit bytes, without
// the line's end. One that is too long loses what it was before and after.
func encode(e *ovlv1.Event, limit int) ([]byte, error) {
	line, err := compact(e)
	if err == nil && len(line) > limit {
		e, _ = proto.Clone(e).(*ovlv1.Event)
		e.Before, e.After, e.Clipped = nil, nil, true
		line, err = compact(e)
	}
	return line, err
}

// compact removes the white space that protojson varies on purpose.
func compact(m proto.Message) ([]byte, error) {
	b, err := protojson.Marshal(m)
	if err != nil {
		return nil, err
	}
	var buf bytes.Buffer
	err = json.Compact(&buf, b)
	return buf.Bytes(), err
}
