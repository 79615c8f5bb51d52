package main

import (
	"context"
	"time"

	"github.com/ovlnet/ovl/internal/dataplane"
)

type tmpMonitor struct{}

func (tmpMonitor) Watch([]dataplane.NS) {}
func (tmpMonitor) Run(ctx context.Context, wake func(dataplane.Scope)) error {
	t := time.NewTicker(500 * time.Millisecond)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
			wake(dataplane.FullScope())
		}
	}
}
