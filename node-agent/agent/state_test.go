package agent

import (
	"testing"
	"time"

	"github.com/ovlnet/ovl/internal/store"
	"github.com/ovlnet/ovl/node-agent/lease"
)

// TestBoth: the store counts as away as soon as one of the two who talk to it
// says so, and as there when both do.
func TestBoth(t *testing.T) {
	early := time.Unix(100, 0)
	late := early.Add(time.Minute)
	for _, c := range []struct {
		mirror, lease           bool
		mirrorSince, leaseSince time.Time
		connected               bool
		since                   time.Time
	}{
		{true, true, early, late, true, late},
		{true, true, late, early, true, late},
		{false, false, early, late, false, early},
		{false, false, late, early, false, early},
		{true, false, early, late, false, late}, // a cable that is out: the watch still waits
		{true, false, late, early, false, early},
		{false, true, early, late, false, early},
		{false, true, late, early, false, late},
	} {
		connected, since := both(store.MirrorStatus{Connected: c.mirror, Since: c.mirrorSince}, lease.Status{Connected: c.lease, Since: c.leaseSince})
		if connected != c.connected || !since.Equal(c.since) {
			t.Errorf("%+v: %v since %v", c, connected, since)
		}
	}
}
