package gate

import (
	"net/netip"
	"sync"
	"time"
)

// limit is a bucket of tokens for each address: burst at once, then one every
// refill. An address that nobody speaks from is forgotten.
type limit struct {
	burst  float64
	refill time.Duration
	now    func() time.Time

	mu      sync.Mutex
	buckets map[netip.Addr]bucket
}

type bucket struct {
	left float64
	at   time.Time
}

// maxBuckets bounds the addresses that are remembered: beyond, full ones go, and
// if there are none the call is refused.
const maxBuckets = 10_000

func newLimit(burst int, refill time.Duration, now func() time.Time) *limit {
	return &limit{burst: float64(burst), refill: refill, now: now, buckets: map[netip.Addr]bucket{}}
}

// take takes a token, if there is one.
func (l *limit) take(from netip.Addr) bool { return l.draw(from, 1) }

// has reports whether there is a token, and takes none.
func (l *limit) has(from netip.Addr) bool { return l.draw(from, 0) }

func (l *limit) draw(from netip.Addr, n float64) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	b, known := l.buckets[from]
	if !known {
		b = bucket{left: l.burst}
	}
	b = l.filled(b)
	if b.left < 1 {
		return false
	}
	if n > 0 && (known || l.room()) {
		b.left -= n
		l.buckets[from] = b
		return true
	}
	return n == 0
}

func (l *limit) filled(b bucket) bucket {
	now := l.now()
	if !b.at.IsZero() {
		b.left = min(l.burst, b.left+float64(now.Sub(b.at))/float64(l.refill))
	}
	b.at = now
	return b
}

// room forgets the addresses whose buckets are full again, if there are too many.
func (l *limit) room() bool {
	if len(l.buckets) < maxBuckets {
		return true
	}
	for addr, b := range l.buckets {
		if l.filled(b).left >= l.burst {
			delete(l.buckets, addr)
		}
	}
	return len(l.buckets) < maxBuckets
}
