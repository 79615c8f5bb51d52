package lease

import (
	"math/rand/v2"
	"time"

	"golang.org/x/sys/unix"
)

// Boottime returns a clock of the time since boot, suspend included
// (CLOCK_BOOTTIME, clock_gettime(2)). Go's own monotonic clock is
// CLOCK_MONOTONIC, which stands still while a laptop or a VM is suspended: a
// host that slept through its ownership time would wake up and believe that it
// still owned its subnets.
func Boottime() func() time.Duration {
	return func() time.Duration {
		var ts unix.Timespec
		// It cannot fail: the clock exists since Linux 2.6.39 and ts is ours.
		_ = unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts)
		return time.Duration(ts.Nano())
	}
}

// usable returns how long a lease may be relied on that the store gave ttl at
// the moment when we asked. The kernel slews a clock by at most 500 ppm
// (adjtimex(2)), so ours and the server's drift apart by at most a thousandth.
func usable(ttl time.Duration) time.Duration { return ttl - ttl/1000 }

// jittered returns d shortened by up to a quarter, so that hosts which started
// together do not renew together.
func jittered(d time.Duration) time.Duration {
	return d - rand.N(max(d/4, 1)) //nolint:gosec // no secret
}
