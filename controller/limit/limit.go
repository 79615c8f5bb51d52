// Package limit holds back who does too much: a bucket of tokens for each
// source.
//
// It must never decide what a refusal means, nor grow with the number of those
// that come. Its invariant: no source gets more than its burst and then one for
// each refill, and at most [MaxSources] are remembered.
package limit

import (
	"net/netip"
	"sync"
	"time"
)

// Limit is a bucket of tokens for each source: burst at once, then one every
// refill. A source that nobody hears of is forgotten.
type Limit[S comparable] struct {
	burst  float64
	refill time.Duration
	now    func() time.Time

	mu      sync.Mutex
	buckets map[S]bucket
}

type bucket struct {
	left float64
	at   time.Time
}

// MaxSources bounds the sources that are remembered: beyond, those with full
// buckets go, and if there are none a new source gets nothing.
const MaxSources = 10_000

// New returns a Limit.
func New[S comparable](burst int, refill time.Duration, now func() time.Time) *Limit[S] {
	return &Limit[S]{burst: float64(burst), refill: refill, now: now, buckets: map[S]bucket{}}
}

// Take takes a token, if there is one.
func (l *Limit[S]) Take(from S) bool { return l.draw(from, 1) }

// TakeN takes n tokens, if there are as many.
func (l *Limit[S]) TakeN(from S, n int) bool { return l.draw(from, float64(n)) }

// Reserve takes a token, perhaps one that is still to come: wait is how long until it
// is there. Where that would be longer than most it takes none.
func (l *Limit[S]) Reserve(from S, most time.Duration) (wait time.Duration, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	b, known := l.buckets[from]
	if !known {
		b = bucket{left: l.burst}
	}
	b = l.filled(b)
	if b.left < 1 {
		wait = time.Duration((1 - b.left) * float64(l.refill))
	}
	if wait > most || !known && !l.room() {
		return 0, false
	}
	b.left--
	l.buckets[from] = b
	return wait, true
}

// Has reports whether there is a token, and takes none.
func (l *Limit[S]) Has(from S) bool { return l.draw(from, 0) }

func (l *Limit[S]) draw(from S, n float64) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	b, known := l.buckets[from]
	if !known {
		b = bucket{left: l.burst}
	}
	b = l.filled(b)
	if b.left < max(n, 1) {
		return false
	}
	if n > 0 && (known || l.room()) {
		b.left -= n
		l.buckets[from] = b
		return true
	}
	return n == 0
}

func (l *Limit[S]) filled(b bucket) bucket {
	now := l.now()
	if !b.at.IsZero() {
		b.left = min(l.burst, b.left+float64(now.Sub(b.at))/float64(l.refill))
	}
	b.at = now
	return b
}

// room forgets the sources whose buckets are full again, if there are too many.
func (l *Limit[S]) room() bool {
	if len(l.buckets) < MaxSources {
		return true
	}
	for from, b := range l.buckets {
		if l.filled(b).left >= l.burst {
			delete(l.buckets, from)
		}
	}
	return len(l.buckets) < MaxSources
}

// Source returns what one who calls from an address is counted by: the address,
// or the /64 in IPv6, of which each machine can make up as many as it likes (RFC
// 4291 section 2.5.4, RFC 8981).
func Source(a netip.Addr) netip.Addr {
	a = a.Unmap().WithZone("")
	if !a.Is6() {
		return a
	}
	p, err := a.Prefix(64)
	if err != nil {
		return a
	}
	return p.Addr()
}
