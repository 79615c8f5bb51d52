package mem_test

import (
	"context"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/ovlnet/ovl/internal/store/mem"
	"github.com/ovlnet/ovl/internal/store/storetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestConformance(t *testing.T) {
	storetest.Run(t, func(t *testing.T) storetest.Harness {
		s := mem.New()
		t.Cleanup(func() { _ = s.Close() })
		away := s.NewClient()
		away.SetConnected(false)
		return storetest.Harness{
			KV:          s,
			Compact:     func(_ context.Context, rev int64) error { s.Compact(rev); return nil },
			Unreachable: away,
			LeaseTTL:    time.Second,
		}
	})
}
