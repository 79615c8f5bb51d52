package limit_test

import (
	"net/netip"
	"testing"
	"time"

	"github.com/ovlnet/ovl/controller/limit"
)

func TestLimit(t *testing.T) {
	now := time.Unix(1000, 0)
	l := limit.New[string](2, time.Second, func() time.Time { return now })
	take := func(from string, want bool) {
		t.Helper()
		if has := l.Has(from); has != want {
			t.Errorf("%s has a token: %v, want %v", from, has, want)
		}
		if got := l.Take(from); got != want {
			t.Errorf("%s takes a token: %v, want %v", from, got, want)
		}
	}
	take("a", true)
	take("a", true)
	take("a", false)
	take("b", true) // has its own
	now = now.Add(time.Second)
	take("a", true)
	take("a", false)
	now = now.Add(time.Hour)
	take("a", true)
	take("a", true)
	take("a", false) // no more than the burst, however long it was quiet
}

func TestSourcesAreBounded(t *testing.T) {
	now := time.Unix(1000, 0)
	l := limit.New[int](1, time.Second, func() time.Time { return now })
	for i := range limit.MaxSources {
		if !l.Take(i) {
			t.Fatalf("source %d gets nothing", i)
		}
	}
	if l.Take(-1) {
		t.Error("one more source is remembered")
	}
	now = now.Add(time.Second)
	if !l.Take(-1) {
		t.Error("those that are quiet are not forgotten")
	}
}

func TestSource(t *testing.T) {
	for from, want := range map[string]string{
		"192.0.2.1":          "192.0.2.1",
		"::ffff:192.0.2.1":   "192.0.2.1",
		"2001:db8:0:1::7":    "2001:db8:0:1::",
		"2001:db8:0:1:f::":   "2001:db8:0:1::",
		"fe80::1%eth0":       "fe80::",
		"2001:db8:0:2:a:b::": "2001:db8:0:2::",
	} {
		if got := limit.Source(netip.MustParseAddr(from)); got != netip.MustParseAddr(want) {
			t.Errorf("%s is counted by %s, want %s", from, got, want)
		}
	}
	if got := limit.Source(netip.Addr{}); got.IsValid() {
		t.Errorf("nowhere is counted by %s", got)
	}
}
