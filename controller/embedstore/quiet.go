package embedstore

import (
	"context"
	"log/slog"
)

// untilEnd passes warnings on until the store is told to stop: then etcd calls
// each of its listeners that closes a failure.
type untilEnd struct {
	slog.Handler
	ending <-chan struct{}
}

// Enabled implements [slog.Handler].
func (h untilEnd) Enabled(ctx context.Context, l slog.Level) bool {
	select {
	case <-h.ending:
		return false
	default:
		return h.Handler.Enabled(ctx, l)
	}
}
