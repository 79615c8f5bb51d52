package resolver

import (
	"context"
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/miekg/dns"
)

// outside is the host's resolvers as a test wants them.
type outside struct {
	mu     sync.Mutex
	asked  []string // network and server, in order
	answer func(network string, server netip.Addr, m *dns.Msg) (*dns.Msg, error)
}

func (o *outside) exchange(ctx context.Context, network string, m *dns.Msg, server netip.AddrPort) (*dns.Msg, error) {
	o.mu.Lock()
	o.asked = append(o.asked, network+" "+server.Addr().String())
	o.mu.Unlock()
	r, err := o.answer(network, server.Addr(), m)
	if errors.Is(err, errSilent) {
		<-ctx.Done()
		err = ctx.Err()
	}
	if err != nil {
		return nil, err
	}
	b, err := r.Pack() // what is on the wire is what counts
	if err != nil {
		return nil, err
	}
	out := new(dns.Msg)
	return out, out.Unpack(b)
}

// errSilent makes a server say nothing at all.
var errSilent = errors.New("silent")

func (o *outside) take() []string {
	o.mu.Lock()
	defer o.mu.Unlock()
	asked := o.asked
	o.asked = nil
	return asked
}

func newForwarder(t *testing.T, resolv string, o *outside) (f *forwarder, path string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "resolv.conf")
	writeFile(t, path, resolv)
	own := func(a netip.Addr) bool { return a == netip.MustParseAddr("10.64.1.1") }
	return &forwarder{upstreams: newUpstreams(path, own), cache: newCache(), exchange: o.exchange}, path
}

func writeFile(t *testing.T, path, text string) {
	t.Helper()
	// Renamed into place, as everybody does who writes this file.
	if err := os.WriteFile(path+".new", []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
}

func record(t *testing.T, text string) dns.RR {
	t.Helper()
	rr, err := dns.NewRR(text)
	if err != nil {
		t.Fatal(err)
	}
	return rr
}

func answering(t *testing.T, records ...string) func(string, netip.Addr, *dns.Msg) (*dns.Msg, error) {
	return func(_ string, _ netip.Addr, m *dns.Msg) (*dns.Msg, error) {
		r := new(dns.Msg).SetReply(m)
		for _, text := range records {
			r.Answer = append(r.Answer, record(t, text))
		}
		return r, nil
	}
}

const one, two = "192.0.2.1", "192.0.2.2"

const resolvTwo = "nameserver " + one + "\nnameserver " + two + "\n"

func TestForwardRemembersForTheTTL(t *testing.T) {
	o := &outside{answer: answering(t, "example.com. 60 IN A 198.51.100.7")}
	f, _ := newForwarder(t, resolvTwo, o)
	synctest.Test(t, func(t *testing.T) {
		req := query("Example.COM.", dns.TypeA)
		for i, want := range []struct {
			after time.Duration
			asked bool
			ttl   uint32
		}{{0, true, 60}, {0, false, 60}, {20 * time.Second, false, 40}, {40 * time.Second, true, 60}} {
			time.Sleep(want.after) // of synctest's clock
			m := f.answer(req)
			if summary(m) != "198.51.100.7" || m.Answer[0].Header().Ttl != want.ttl || m.Id != req.Id || m.Question[0] != req.Question[0] {
				t.Errorf("answer %d: %v, want TTL %d", i, m, want.ttl)
			}
			if asked := len(o.take()) > 0; asked != want.asked {
				t.Errorf("answer %d: asked the server: %t", i, asked)
			}
		}
	})
}

func TestForwardRemembersThatThereIsNothing(t *testing.T) {
	o := &outside{answer: func(_ string, _ netip.Addr, m *dns.Msg) (*dns.Msg, error) {
		r := new(dns.Msg).SetRcode(m, dns.RcodeNameError)
		r.Ns = []dns.RR{record(t, "com. 900 IN SOA a. b. 1 2 3 4 30")}
		return r, nil
	}}
	f, _ := newForwarder(t, resolvTwo, o)
	synctest.Test(t, func(t *testing.T) {
		req := query("nope.example.com.", dns.TypeA)
		for i, want := range []struct {
			after time.Duration
			asked int
		}{{0, 1}, {29 * time.Second, 0}, {time.Second, 1}} {
			time.Sleep(want.after) // of synctest's clock
			if got := summary(f.answer(req)); got != "NXDOMAIN" {
				t.Errorf("answer %d: %s", i, got)
			}
			if asked := o.take(); len(asked) != want.asked {
				t.Errorf("answer %d: asked %v, want %d", i, asked, want.asked)
			}
		}
	})
}

func TestForwardAsksTheNext(t *testing.T) {
	good := answering(t, "example.com. 0 IN A 198.51.100.7")
	for name, c := range map[string]struct {
		first func(m *dns.Msg) (*dns.Msg, error)
		took  time.Duration
		rests bool // and is asked last for a while
	}{
		"after silence":     {func(*dns.Msg) (*dns.Msg, error) { return nil, errSilent }, askLimit, true},
		"after a refusal":   {func(*dns.Msg) (*dns.Msg, error) { return nil, errors.New("connection refused") }, 0, true},
		"after SERVFAIL":    {func(m *dns.Msg) (*dns.Msg, error) { return refuse(m, dns.RcodeServerFailure), nil }, 0, false},
		"after REFUSED":     {func(m *dns.Msg) (*dns.Msg, error) { return refuse(m, dns.RcodeRefused), nil }, 0, false},
		"after other names": {func(m *dns.Msg) (*dns.Msg, error) { return new(dns.Msg).SetReply(query("evil.com.", dns.TypeA)), nil }, 0, true},
		"after an echo":     {func(m *dns.Msg) (*dns.Msg, error) { return m, nil }, 0, true},
	} {
		t.Run(name, func(t *testing.T) {
			o := &outside{}
			o.answer = func(network string, server netip.Addr, m *dns.Msg) (*dns.Msg, error) {
				if server.String() == one {
					return c.first(m)
				}
				return good(network, server, m)
			}
			f, _ := newForwarder(t, resolvTwo, o)
			synctest.Test(t, func(t *testing.T) {
				began := time.Now()
				if got := summary(f.answer(query("example.com.", dns.TypeA))); got != "198.51.100.7" || time.Since(began) != c.took {
					t.Errorf("%s after %v, want an answer after %v", got, time.Since(began), c.took)
				}
				if asked := o.take(); !slices.Equal(asked, []string{"udp " + one, "udp " + two}) {
					t.Errorf("asked %v", asked)
				}
				f.answer(query("example.com.", dns.TypeA))
				if asked := o.take(); (asked[0] == "udp "+two) != c.rests {
					t.Errorf("then asked %v", asked)
				}
				time.Sleep(rest) // of synctest's clock
				f.answer(query("example.com.", dns.TypeA))
				if asked := o.take(); asked[0] != "udp "+one {
					t.Errorf("later asked %v", asked)
				}
			})
		})
	}
}

// TestForwardFailsInTime: a client gives up after five seconds; it must have
// been told by then, and those that ask again at once must not wait at all.
func TestForwardFailsInTime(t *testing.T) {
	o := &outside{answer: func(string, netip.Addr, *dns.Msg) (*dns.Msg, error) { return nil, errSilent }}
	f, _ := newForwarder(t, "nameserver 192.0.2.1\nnameserver 192.0.2.2\nnameserver 192.0.2.3\nnameserver 192.0.2.4\n", o)
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		if got := summary(f.answer(query("example.com.", dns.TypeA))); got != "SERVFAIL" || time.Since(began) != totalLimit {
			t.Errorf("%s after %v", got, time.Since(began))
		}
		if asked := o.take(); len(asked) != maxServers {
			t.Errorf("asked %v", asked)
		}
		if got := summary(f.answer(query("example.com.", dns.TypeA))); got != "SERVFAIL" || time.Since(began) != totalLimit {
			t.Errorf("then %s after %v", got, time.Since(began))
		}
	})
}

func TestForwardPassesTheWorstAnswerOn(t *testing.T) {
	o := &outside{answer: func(_ string, _ netip.Addr, m *dns.Msg) (*dns.Msg, error) { return refuse(m, dns.RcodeRefused), nil }}
	f, _ := newForwarder(t, resolvTwo, o)
	if got := summary(f.answer(query("example.com.", dns.TypeA))); got != "REFUSED" {
		t.Errorf("%s, want REFUSED", got)
	}
}

func TestForwardOverTCP(t *testing.T) {
	o := &outside{answer: func(network string, _ netip.Addr, m *dns.Msg) (*dns.Msg, error) {
		r := new(dns.Msg).SetReply(m)
		if network == "udp" {
			r.Truncated = true
			return r, nil
		}
		for range 100 {
			r.Answer = append(r.Answer, record(t, "example.com. 60 IN TXT "+strings.Repeat("x", 100)))
		}
		return r, nil
	}}
	f, _ := newForwarder(t, "nameserver "+one+"\n", o)
	req := query("example.com.", dns.TypeTXT)
	m := f.answer(req)
	if len(m.Answer) != 100 || m.Truncated || !slices.Equal(o.take(), []string{"udp " + one, "tcp " + one}) {
		t.Fatalf("%d records", len(m.Answer))
	}
	if whole := finish(req, m.Copy(), true); len(whole.Answer) != 100 || whole.Truncated {
		t.Errorf("over TCP %d records", len(whole.Answer))
	}
	part := finish(req, m.Copy(), false)
	if part.Len() > dns.MinMsgSize || !part.Truncated {
		t.Errorf("over UDP %d bytes, truncated %t", part.Len(), part.Truncated)
	}
}

func TestForwardAsksWithoutEDNSWhoDoesNotKnowIt(t *testing.T) {
	good := answering(t, "example.com. 60 IN A 198.51.100.7")
	o := &outside{}
	o.answer = func(network string, server netip.Addr, m *dns.Msg) (*dns.Msg, error) {
		if m.IsEdns0() != nil {
			return refuse(m, dns.RcodeFormatError), nil
		}
		return good(network, server, m)
	}
	f, _ := newForwarder(t, "nameserver "+one+"\n", o)
	if got := summary(f.answer(query("example.com.", dns.TypeA))); got != "198.51.100.7" {
		t.Error(got)
	}
}

// TestForwardSharesAnAnswer: a hundred who ask the same at once ask once.
func TestForwardSharesAnAnswer(t *testing.T) {
	good := answering(t, "example.com. 0 IN A 198.51.100.7")
	o := &outside{}
	f, _ := newForwarder(t, resolvTwo, o)
	synctest.Test(t, func(t *testing.T) {
		o.answer = func(network string, server netip.Addr, m *dns.Msg) (*dns.Msg, error) {
			time.Sleep(100 * time.Millisecond) // of synctest's clock
			return good(network, server, m)
		}
		var wg sync.WaitGroup
		for i := range 100 {
			wg.Go(func() {
				req := query("example.com.", dns.TypeA)
				req.Id = uint16(i)
				if m := f.answer(req); summary(m) != "198.51.100.7" || m.Id != uint16(i) {
					t.Errorf("answer %v", m)
				}
			})
		}
		wg.Wait()
		if asked := o.take(); len(asked) != 1 {
			t.Errorf("asked %d times", len(asked))
		}
	})
}

// TestForwardKeepsEDNSToItself: what a server says about the hop to us is not
// told on.
func TestForwardKeepsEDNSToItself(t *testing.T) {
	o := &outside{answer: func(_ string, _ netip.Addr, m *dns.Msg) (*dns.Msg, error) {
		r := new(dns.Msg).SetReply(m)
		r.Answer = []dns.RR{record(t, "example.com. 60 IN A 198.51.100.7")}
		r.AuthenticatedData = true
		return r.SetEdns0(4096, false), nil
	}}
	f, _ := newForwarder(t, "nameserver "+one+"\n", o)
	plain := finish(query("example.com.", dns.TypeA), f.answer(query("example.com.", dns.TypeA)), false)
	if plain.IsEdns0() != nil || plain.AuthenticatedData {
		t.Errorf("to one without EDNS: %v", plain)
	}
	req := query("example.com.", dns.TypeA).SetEdns0(4096, true)
	if m := finish(req, f.answer(req), false); m.IsEdns0() == nil || m.IsEdns0().UDPSize() != udpSize || !m.IsEdns0().Do() || !m.AuthenticatedData || len(m.Extra) != 1 {
		t.Errorf("to one with EDNS: %v", m)
	}
	req.IsEdns0().SetVersion(1)
	if m := finish(req, f.answer(req), false); m.Rcode != dns.RcodeBadVers || len(m.Answer) != 0 {
		t.Errorf("to one with EDNS 1: %v", m)
	}
}

func TestUpstreamsFollowTheFile(t *testing.T) {
	o := &outside{answer: answering(t, "example.com. 0 IN A 198.51.100.7")}
	f, path := newForwarder(t, "nameserver 10.64.1.1\nnameserver "+one+"\n", o)
	synctest.Test(t, func(t *testing.T) {
		ask := func() string { return summary(f.answer(query("example.com.", dns.TypeA))) }
		if got := ask(); got != "198.51.100.7" || !slices.Equal(o.take(), []string{"udp " + one}) {
			t.Errorf("%s; an address of ours must not be asked", got)
		}
		writeFile(t, path, "nameserver "+two+"\n")
		time.Sleep(lookAgain) // of synctest's clock
		if got := ask(); got != "198.51.100.7" || !slices.Equal(o.take(), []string{"udp " + two}) {
			t.Errorf("%s; not from the new server", got)
		}
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		time.Sleep(lookAgain)
		if got := ask(); got != "198.51.100.7" || !slices.Equal(o.take(), []string{"udp " + two}) {
			t.Errorf("%s; a file that is being replaced must change nothing", got)
		}
		writeFile(t, path, "# nobody\n")
		time.Sleep(lookAgain)
		if got := ask(); got != "SERVFAIL" || len(o.take()) != 0 {
			t.Errorf("%s without any server", got)
		}
	})
}

func TestParseResolv(t *testing.T) {
	got, err := parseResolv(strings.NewReader("; c\nnameserver 0.0.0.0\nnameserver fe80::1%eth0\nnameserver no\nnameserver ::ffff:192.0.2.1\nnameserver 192.0.2.1\nnameserver 192.0.2.2\nsearch x\n"))
	if err != nil {
		t.Fatal(err)
	}
	var texts []string
	for _, s := range got {
		texts = append(texts, s.String())
	}
	if !slices.Equal(texts, []string{"127.0.0.1:53", "[fe80::1%eth0]:53", "192.0.2.1:53"}) {
		t.Errorf("servers %v", texts)
	}
}

func FuzzParseResolv(f *testing.F) {
	f.Add(resolvTwo)
	f.Fuzz(func(t *testing.T, text string) {
		servers, err := parseResolv(strings.NewReader(text))
		if err == nil && len(servers) > maxServers {
			t.Errorf("%d servers", len(servers))
		}
		for _, s := range servers {
			if !s.IsValid() || s.Addr().IsUnspecified() || s.Addr().IsMulticast() {
				t.Errorf("server %v", s)
			}
		}
	})
}

// FuzzForward: whatever a server answers, the asker gets an answer to the
// question, without what it did not ask for.
func FuzzForward(f *testing.F) {
	m := new(dns.Msg).SetReply(query("example.com.", dns.TypeA))
	m.Answer = []dns.RR{&dns.A{Hdr: dns.RR_Header{Name: "example.com.", Rrtype: dns.TypeA, Class: dns.ClassINET, Ttl: 60}, A: []byte{1, 2, 3, 4}}}
	b, err := m.Pack()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	path := filepath.Join(f.TempDir(), "resolv.conf")
	if err := os.WriteFile(path, []byte("nameserver "+one+"\n"), 0o600); err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, packet []byte) {
		fw := &forwarder{upstreams: newUpstreams(path, func(netip.Addr) bool { return false }), cache: newCache()}
		fw.exchange = func(_ context.Context, _ string, out *dns.Msg, _ netip.AddrPort) (*dns.Msg, error) {
			m := new(dns.Msg)
			if err := m.Unpack(packet); err != nil {
				return nil, err
			}
			m.Id = out.Id
			return m, nil
		}
		req := query("example.com.", dns.TypeA)
		for range 2 { // the second time from the cache
			m := finish(req, fw.answer(req), false)
			if m.Id != req.Id || !m.Response || len(m.Question) != 1 || m.Question[0] != req.Question[0] || m.IsEdns0() != nil {
				t.Fatalf("answer %v", m)
			}
			if b, err := m.Pack(); err == nil && len(b) > dns.MinMsgSize {
				t.Fatalf("answer of %d bytes", len(b))
			}
		}
	})
}

func TestCacheIsBounded(t *testing.T) {
	c := newCache()
	for i := range 3 * maxCached {
		q := query("x.", dns.TypeA)
		m := new(dns.Msg).SetReply(q)
		m.Answer = []dns.RR{&dns.A{Hdr: dns.RR_Header{Name: "x.", Rrtype: dns.TypeA, Class: dns.ClassINET, Ttl: 60}, A: []byte{1, 2, 3, 4}}}
		c.put(question{name: strings.Repeat("x", i%50) + netip.AddrFrom4([4]byte{0, 0, byte(i >> 8), byte(i)}).String()}, m)
		if len(c.entries) > maxCached {
			t.Fatalf("%d entries", len(c.entries))
		}
	}
	if len(c.entries) < maxCached/2 {
		t.Errorf("%d entries are left", len(c.entries))
	}
}
