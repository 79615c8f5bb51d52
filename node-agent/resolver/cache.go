package resolver

import (
	"strings"
	"sync"
	"time"

	"github.com/miekg/dns"
)

// The bounds of the cache.
const (
	maxCached     = 4096      // messages
	maxCachedSize = 4096      // bytes of one message
	maxTTL        = time.Hour // an answer is believed no longer than this
	maxNegative   = 5 * time.Minute
	failureTTL    = time.Second // RFC 9520: even failures, so that they are not asked for in a loop
)

// question is what an answer depends on.
type question struct {
	name          string // in lower case
	rrtype, class uint16
	dnssec        bool // DO: with signatures
	unchecked     bool // CD: though they may be wrong
}

func questionOf(req *dns.Msg) question {
	q := req.Question[0]
	opt := req.IsEdns0()
	return question{strings.ToLower(q.Name), q.Qtype, q.Qclass, opt != nil && opt.Do(), req.CheckingDisabled}
}

// cache remembers answers of the host's resolvers for as long as their TTLs
// say. It is safe for concurrent use.
type cache struct {
	mu      sync.Mutex
	entries map[question]entry
}

type entry struct {
	msg    *dns.Msg // never changed
	stored time.Time
	until  time.Time
}

func newCache() *cache { return &cache{entries: map[question]entry{}} }

// get returns a copy of the answer to q with the TTLs that are left, or nil.
func (c *cache) get(q question) *dns.Msg {
	now := time.Now()
	c.mu.Lock()
	e, ok := c.entries[q]
	if ok && !now.Before(e.until) {
		delete(c.entries, q)
		ok = false
	}
	c.mu.Unlock()
	if !ok {
		return nil
	}
	m := e.msg.Copy()
	age := uint32(now.Sub(e.stored) / time.Second)
	for _, section := range [][]dns.RR{m.Answer, m.Ns, m.Extra} {
		for _, rr := range section {
			h := rr.Header()
			h.Ttl -= min(age, h.Ttl)
		}
	}
	return m
}

// put remembers the answer to q, if it may be.
func (c *cache) put(q question, m *dns.Msg) {
	ttl := lifetime(m)
	if ttl <= 0 || m.Len() > maxCachedSize {
		return
	}
	now := time.Now()
	e := entry{msg: m.Copy(), stored: now, until: now.Add(ttl)}
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.entries) >= maxCached {
		c.makeRoom(now)
	}
	c.entries[q] = e
}

// makeRoom forgets what is over, and some more: which is left to the map, whose
// order an attacker does not know.
func (c *cache) makeRoom(now time.Time) {
	for q, e := range c.entries {
		if !now.Before(e.until) || len(c.entries) > maxCached*7/8 {
			delete(c.entries, q)
		}
	}
}

// lifetime returns how long an answer may be remembered: an answer with records
// until the first of them expires, one without as its SOA says (RFC 2308 section
// 5), a truncated one not at all.
func lifetime(m *dns.Msg) time.Duration {
	switch {
	case m.Truncated:
		return 0
	case m.Rcode == dns.RcodeServerFailure || m.Rcode == dns.RcodeRefused:
		return failureTTL
	case m.Rcode != dns.RcodeSuccess && m.Rcode != dns.RcodeNameError:
		return 0
	}
	ttl, most := time.Duration(0), maxTTL
	if negativeAnswer(m) {
		most = maxNegative
		for _, rr := range m.Ns {
			if soa, ok := rr.(*dns.SOA); ok {
				ttl = seconds(min(soa.Hdr.Ttl, soa.Minttl))
			}
		}
	} else {
		ttl = maxTTL
	}
	for _, section := range [][]dns.RR{m.Answer, m.Ns, m.Extra} {
		for _, rr := range section {
			ttl = min(ttl, seconds(rr.Header().Ttl))
		}
	}
	return min(ttl, most)
}

// negativeAnswer reports whether m says that there is nothing: no such name, or
// no record of the type, though perhaps an alias that leads there.
func negativeAnswer(m *dns.Msg) bool {
	if m.Rcode == dns.RcodeNameError {
		return true
	}
	t := m.Question[0].Qtype
	for _, rr := range m.Answer {
		if h := rr.Header(); h.Rrtype == t || t == dns.TypeANY {
			return false
		}
	}
	return true
}

// seconds reads a TTL; one with its highest bit set is zero (RFC 2181 section 8).
func seconds(ttl uint32) time.Duration {
	if ttl > 1<<31-1 {
		return 0
	}
	return time.Duration(ttl) * time.Second
}
