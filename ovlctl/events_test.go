package main

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	ovlv1 "github.com/ovlnet/ovl/proto/ovl/v1"
)

func object(t *testing.T, fields map[string]any) *structpb.Struct {
	t.Helper()
	s, err := structpb.NewStruct(fields)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestChange(t *testing.T) {
	was := object(t, map[string]any{"name": "blue", "mtu": 1400, "revision": "1", "internal": true})
	is := object(t, map[string]any{"name": "blue", "mtu": 1380, "revision": "2", "labels": map[string]any{"a": "b"}})
	for _, c := range []struct {
		before, after *structpb.Struct
		want          string
	}{
		{nil, nil, ""},
		{was, was, ""},
		{was, is, `internal: true → none labels: none → {"a":"b"} mtu: 1400 → 1380`},
		{nil, is, `labels={"a":"b"} mtu=1380 name=blue`},
		{was, nil, `internal=true mtu=1400 name=blue`},
	} {
		if got := change(c.before, c.after); got != c.want {
			t.Errorf("the change is %q, want %q", got, c.want)
		}
	}
}

// What is followed is printed so that each event can be read alone.
func TestFollowedEvents(t *testing.T) {
	events := []*ovlv1.Event{
		{Number: 8, Time: timestamppb.New(time.Unix(0, 0)), Who: "admin local", From: "[2001:db8::1]:7", Action: "DeleteNetwork", What: "network \x1b[2J", Outcome: "OK"},
		{Number: 9, Time: timestamppb.New(time.Unix(1, 0)), Who: "operator somebody", Action: "Join", Outcome: "PERMISSION_DENIED"},
	}
	for format, want := range map[string]string{
		formatName: "8\n9\n",
		formatTable: "TIME                   WHO           FROM          ACTION          WHAT           OUTCOME\n" +
			"1970-01-01T00:00:00Z   admin local   2001:db8::1   DeleteNetwork   network ?[2J   OK\n" +
			"1970-01-01T00:00:01Z   operator somebody   -             Join            -              PERMISSION_DENIED\n",
		formatJSON: "", formatYAML: "",
	} {
		var out bytes.Buffer
		f := &follower{o: &options{stdout: &out, output: format}, view: eventView()}
		for _, e := range events {
			if err := f.print(e); err != nil {
				t.Fatal(err)
			}
		}
		if want != "" && out.String() != want {
			t.Errorf("%s:\n%s", format, out.String())
		}
		if n := strings.Count(out.String(), "\n"); format == formatJSON && n != 2 {
			t.Errorf("%s: %d lines", format, n)
		}
		if n := strings.Count(out.String(), "---\n"); format == formatYAML && n != 2 {
			t.Errorf("%s: %d documents", format, n)
		}
	}
}
