package roll_test

import (
	"context"
	"log/slog"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/ovlnet/ovl/controller/roll"
	"github.com/ovlnet/ovl/internal/identity"
	"github.com/ovlnet/ovl/internal/store"
	"github.com/ovlnet/ovl/internal/store/mem"
)

var host = identity.Who{Role: identity.Host, Name: strings.Repeat("0a", 16)}

func write(t *testing.T, kv store.KV, m roll.Member) {
	t.Helper()
	value, err := roll.EncodeMember(m)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := kv.Txn(t.Context(), nil, []store.Write{store.Put(roll.MemberKey(m.Who), value, 0)}); err != nil {
		t.Fatal(err)
	}
}

// One who has just joined is let in, whether the watch has heard of it or not;
// who is removed, or has joined again with another key, is told, and not let in.
func TestRoll(t *testing.T) {
	s := mem.New()
	defer s.Close()
	kv := s.NewClient()
	r := roll.New(kv, slog.New(slog.DiscardHandler))
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { defer close(ended); r.Run(ctx) }()
	defer func() { cancel(); <-ended }()

	if _, err := r.Check(ctx, host, identity.Print{1}); identity.FaultOf(err) != identity.Removed {
		t.Fatalf("a stranger: %v", err)
	}
	write(t, kv, roll.Member{Who: host, Name: "h1", Key: identity.Print{1}})
	gone, err := r.Check(ctx, host, identity.Print{1})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.Check(ctx, host, identity.Print{2}); identity.FaultOf(err) != identity.Removed {
		t.Fatalf("another key: %v", err)
	}
	write(t, kv, roll.Member{Who: host, Name: "h1", Key: identity.Print{2}})
	<-gone
	if _, err := r.Check(ctx, host, identity.Print{1}); identity.FaultOf(err) != identity.Removed {
		t.Errorf("the old key: %v", err)
	}
	gone, err = r.Check(ctx, host, identity.Print{2})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := kv.Txn(ctx, nil, []store.Write{store.Delete(roll.MemberKey(host))}); err != nil {
		t.Fatal(err)
	}
	<-gone
	if _, err := r.Check(ctx, host, identity.Print{2}); identity.FaultOf(err) != identity.Removed {
		t.Errorf("removed: %v", err)
	}
	for _, who := range []identity.Who{{Role: identity.Admin, Name: identity.Local}, {Role: identity.Controller, Name: "c"}} {
		if _, err := r.Check(ctx, who, identity.Print{9}); err != nil {
			t.Errorf("%s: %v", who, err)
		}
	}
}

func TestRecords(t *testing.T) {
	at := time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)
	m := roll.Member{Who: host, Name: "h1", Key: identity.Print{1}, Joined: at, Token: "abc", Revision: 7, Trusts: []identity.Print{{3}, {4}}, Issuer: identity.Print{4}, Said: at}
	value, err := roll.EncodeMember(m)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := roll.DecodeMember(store.Record{Key: roll.MemberKey(host), Value: value, ModRev: 7}); err != nil || !reflect.DeepEqual(got, m) {
		t.Errorf("%v, %v; want %v", got, err, m)
	}
	tok := roll.Token{ID: "abcdefgh", Hash: identity.Print{2}, Role: identity.Host, Name: "h1", Uses: 3, Used: 1, Created: at, Expires: at.Add(time.Hour), Creator: "admin local", CA: identity.Print{5}, Revision: 7}
	if value, err = roll.EncodeToken(tok); err != nil {
		t.Fatal(err)
	}
	if got, err := roll.DecodeToken(store.Record{Key: roll.TokenKey(tok.ID), Value: value, ModRev: 7}); err != nil || got != tok {
		t.Errorf("%v, %v; want %v", got, err, tok)
	}
}

// A record that somebody else wrote makes nobody a member and no token.
func FuzzRecords(f *testing.F) {
	f.Add(roll.MemberKey(host), []byte(`{"name":"h1","key":"`+strings.Repeat("00", 32)+`"}`))
	f.Add(roll.TokenKey("abcdefgh"), []byte(`{"hash":"`+strings.Repeat("00", 32)+`","role":"controller"}`))
	f.Add(roll.NameKey("h1"), []byte(`{"host":"x"}`))
	f.Fuzz(func(t *testing.T, key string, value []byte) {
		r := store.Record{Key: key, Value: value}
		if m, err := roll.DecodeMember(r); err == nil && (m.Who.Check() != nil || roll.MemberKey(m.Who) != key) {
			t.Errorf("%q is member %v", key, m)
		}
		if tok, err := roll.DecodeToken(r); err == nil && (tok.Role == identity.Controller || roll.TokenKey(tok.ID) != key) {
			t.Errorf("%q is token %v", key, tok)
		}
		_, _ = roll.DecodeName(r)
	})
}
