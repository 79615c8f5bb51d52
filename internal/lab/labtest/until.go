package labtest

import (
	"testing"
	"time"
)

// patience bounds every wait for another process. It is no measure of speed:
// a machine with two busy cores must pass.
const patience = 30 * time.Second

// Until asks until ready returns nil, and fails the test with the last error
// if that takes too long. It returns how long it took. Other processes are all
// that it is for: within one there is a channel to wait on.
func Until(tb testing.TB, what string, ready func() error) time.Duration {
	tb.Helper()
	began := time.Now()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		err := ready()
		took := time.Since(began)
		if err == nil {
			return took
		}
		if took > patience {
			tb.Fatalf("wait until %s: still not after %v: %v", what, took.Round(time.Second), err)
		}
		select {
		case <-tick.C:
		case <-tb.Context().Done():
			tb.Fatalf("wait until %s: the test is over: %v", what, err)
		}
	}
}
