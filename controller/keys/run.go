package keys

import (
	"context"
	"log/slog"
	"time"

	"github.com/ovlnet/ovl/internal/identity"
)

const (
	// look is the longest wait between two looks at the clock: timers stand
	// still while a machine is suspended.
	look = time.Hour
	// again is how long after a failure the next try follows.
	again = time.Minute
)

// Run renews the certificates at half of their life, until ctx is done. Nothing
// restarts: later handshakes show the new ones.
func (k *Keys) Run(ctx context.Context, log *slog.Logger) {
	for {
		wait := min(identity.RenewAt(k.Credential.Pair().Leaf()).Sub(k.config.Now()), look)
		if wait <= 0 {
			wait = k.try(log)
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return
		}
	}
}

func (k *Keys) try(log *slog.Logger) time.Duration {
	if err := k.renew(); err != nil {
		log.Error("cannot renew the controller's certificates", slog.Any("err", err), slog.Time("expire", k.Credential.Pair().Leaf().NotAfter))
		return again
	}
	log.Info("renewed the controller's certificates", slog.Time("expire", k.Credential.Pair().Leaf().NotAfter))
	return 0
}
