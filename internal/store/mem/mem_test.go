package mem_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ovlnet/ovl/internal/store"
	"github.com/ovlnet/ovl/internal/store/mem"
)

// A client that is cut off fails its calls and stalls its watch, and neither
// loses anything; other clients do not notice.
func TestClientCutOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		s := mem.New()
		c := s.NewClient()
		watch := c.Watch(ctx, "a/", s.Revision())
		c.SetConnected(false)
		if _, err := c.Range(ctx, "a/"); !errors.Is(err, store.ErrUnavailable) {
			t.Fatalf("Range while cut off: %v, want ErrUnavailable", err)
		}
		for _, key := range []string{"a/1", "b/1", "a/2"} {
			if _, err := s.Txn(ctx, nil, []store.Write{store.Put(key, nil, 0)}); err != nil {
				t.Fatal(err)
			}
		}
		synctest.Wait()
		select {
		case b := <-watch:
			t.Fatalf("a cut-off watch delivered %v", b)
		default:
		}
		c.SetConnected(true)
		if b := <-watch; len(b.Events) != 2 || b.Revision != s.Revision() {
			t.Fatalf("after the cut: %v, want both events", b)
		}
	})
}

// Leases age while nobody reaches the store.
func TestOutageAgesLeases(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := mem.New()
		defer s.Close()
		id, err := s.Grant(t.Context(), 2*time.Second)
		if err != nil {
			t.Fatal(err)
		}
		s.SetAvailable(false)
		time.Sleep(3 * time.Second)
		s.SetAvailable(true)
		if _, err := s.KeepAlive(t.Context(), id); !errors.Is(err, store.ErrLeaseGone) {
			t.Fatalf("KeepAlive of an expired lease: %v, want ErrLeaseGone", err)
		}
	})
}
