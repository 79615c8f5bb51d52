package sandbox

import (
	"net/netip"
	"reflect"
	"strings"
	"testing"
)

func addr(s string) netip.Addr { return netip.MustParseAddr(s) }

func addrs(ss ...string) []netip.Addr {
	var out []netip.Addr
	for _, s := range ss {
		out = append(out, addr(s))
	}
	return out
}

func TestParseResolv(t *testing.T) {
	for name, test := range map[string]struct {
		text string
		want Resolv
	}{
		"empty": {"", Resolv{}},
		"usual": {
			"# by hand\nnameserver 192.0.2.1\nnameserver 2001:db8::1\nsearch a.example b.example\noptions edns0 trust-ad\n",
			Resolv{Servers: addrs("192.0.2.1", "2001:db8::1"), Search: []string{"a.example", "b.example"}, Options: []string{"edns0", "trust-ad"}},
		},
		"the last search counts":     {"search a\ndomain b\n", Resolv{Search: []string{"b"}}},
		"comments end a line":        {"nameserver 192.0.2.1 ; mine\n;nameserver 192.0.2.2\n", Resolv{Servers: addrs("192.0.2.1")}},
		"nonsense is left out":       {"nameserver example.org\nnameserver\nfoo bar\n\x00\n", Resolv{}},
		"three servers and no more":  {strings.Repeat("nameserver 192.0.2.1\n", 5), Resolv{Servers: addrs("192.0.2.1", "192.0.2.1", "192.0.2.1")}},
		"a zone belongs to a server": {"nameserver fe80::1%eth0\n", Resolv{Servers: addrs("fe80::1%eth0")}},
	} {
		t.Run(name, func(t *testing.T) {
			if got := ParseResolv(test.text); !reflect.DeepEqual(got, test.want) {
				t.Errorf("got %+v\nwant %+v", got, test.want)
			}
		})
	}
}

func TestResolvWithoutLoopback(t *testing.T) {
	r := ParseResolv("nameserver 127.0.0.53\nnameserver ::1\nnameserver 192.0.2.1\nsearch example\n").withoutLoopback()
	if got, want := r.String(), "nameserver 192.0.2.1\nsearch example\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// What is written reads back the same, whatever it was made from.
func FuzzParseResolv(f *testing.F) {
	f.Add("nameserver 192.0.2.1\nsearch a b\noptions ndots:2\n")
	f.Add("domain x\nnameserver fe80::1%eth0\n")
	f.Fuzz(func(t *testing.T, text string) {
		r := ParseResolv(text)
		if again := ParseResolv(r.String()); again.String() != r.String() {
			t.Errorf("%q reads back as %q", r.String(), again.String())
		}
	})
}

func TestParseStat(t *testing.T) {
	line := func(name, state string) string {
		return "42 (" + name + ") " + state + " 1 42 42 0 -1 4194560 0 0 0 0 0 0 0 0 20 0 1 0 987654 1 2 3\n"
	}
	for _, name := range []string{"sleep", "a b", "x) R 1 1 1 (y", ")"} {
		if got, err := parseStat(line(name, "S")); err != nil || got != 987654 {
			t.Errorf("process %q: %d, %v, want 987654", name, got, err)
		}
	}
	for _, bad := range []string{"", "42 sleep S", "42 (sleep) S 1 2", line("sleep", "Z"), line("sleep", "X")} {
		if got, err := parseStat(bad); err == nil {
			t.Errorf("%q: %d, want an error", bad, got)
		}
	}
}

func FuzzParseStat(f *testing.F) {
	f.Add("42 (sleep) S 1 42 42 0 -1 4194560 0 0 0 0 0 0 0 0 20 0 1 0 987654 1 2 3")
	f.Fuzz(func(t *testing.T, text string) {
		if _, err := parseStat(text); err == nil && !strings.Contains(text, ")") {
			t.Errorf("%q has no name and is accepted", text)
		}
	})
}

func FuzzParseState(f *testing.F) {
	f.Add([]byte(`{"command":["a"],"pid":1,"start":2,"created":"2026-01-01T00:00:00Z"}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		if st, err := parseState(b); err == nil && st.PID < 0 {
			t.Errorf("%q: PID %d is accepted", b, st.PID)
		}
	})
}

func TestHostsFile(t *testing.T) {
	got := Files{Hosts: []HostLine{
		{Addr: addr("10.64.3.2"), Names: []string{"web"}},
		{Addr: addr("fd64::2"), Names: []string{"web", "w"}},
	}}.hosts()
	want := etcMark + "\n127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n10.64.3.2\tweb\nfd64::2\tweb w\n"
	if got != want {
		t.Errorf("got %q\nwant %q", got, want)
	}
}
