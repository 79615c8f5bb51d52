package main

import (
	"context"
	"errors"
	"time"

	"github.com/ovlnet/ovl/internal/dataplane"
	"github.com/ovlnet/ovl/internal/reconcile"
	"github.com/ovlnet/ovl/internal/telemetry"
)

// metered is a kernel whose operations are counted.
type metered struct {
	reconcile.Kernel
	metrics *telemetry.Agent
}

func (m metered) Apply(ctx context.Context, op dataplane.Op) error {
	err := m.Kernel.Apply(ctx, op)
	m.count(op, err)
	return err
}

func (m metered) count(op dataplane.Op, err error) {
	result := "done"
	if err != nil {
		result = reconcile.ClassOf(err).String()
	}
	m.metrics.Ops.WithLabelValues(op.Row.Key().Table().String(), op.Verb.String(), result).Inc()
}

// WriteChains implements [reconcile.Grouper], as far as the kernel within does.
func (m metered) WriteChains(ctx context.Context, ops []dataplane.Op) error {
	g, ok := m.Kernel.(reconcile.Grouper)
	if !ok {
		return errors.ErrUnsupported
	}
	err := g.WriteChains(ctx, ops)
	if err == nil {
		for _, op := range ops {
			m.count(op, nil)
		}
	}
	return err
}

// Sweep implements [reconcile.Sweeper], as far as the kernel within does.
func (m metered) Sweep(ctx context.Context, links []dataplane.Link) {
	if s, ok := m.Kernel.(reconcile.Sweeper); ok {
		s.Sweep(ctx, links)
	}
}

// Fill implements [reconcile.Filler], as far as the kernel within does.
func (m metered) Fill(ctx context.Context, elements []dataplane.Element) error {
	f, ok := m.Kernel.(reconcile.Filler)
	if !ok {
		return errors.ErrUnsupported
	}
	err := f.Fill(ctx, elements)
	if err == nil {
		m.metrics.Ops.WithLabelValues(dataplane.TableElement.String(), dataplane.Create.String(), "done").Add(float64(len(elements)))
	}
	return err
}

// tellEvery is how old the gauges may be.
const tellEvery = 2 * time.Second

// tell keeps the gauges current until ctx is done.
func (r *running) tell(ctx context.Context) error {
	tick := time.NewTicker(tellEvery)
	defer tick.Stop()
	var passes uint64
	for {
		s := r.loop.Status()
		m := r.metrics
		m.Passes.WithLabelValues(resultOf(s.Err, len(s.Outcomes))).Add(float64(s.Passes - passes))
		passes = s.Passes
		m.Rows.Set(float64(s.Wanted))
		m.RowsNotDone.Reset()
		for _, o := range s.Outcomes {
			m.RowsNotDone.WithLabelValues(string(o.Condition)).Inc()
		}
		m.StoreConnected.Set(0)
		if s.StoreConnected {
			m.StoreConnected.Set(1)
		}
		m.Attachments.Set(float64(len(r.List())))
		m.Subnets.Reset()
		for _, h := range r.keeper.Held() {
			m.Subnets.WithLabelValues(h.Network).Inc()
		}
		m.Problems.Reset()
		for _, p := range append(s.Problems, r.keeper.Status().Problems...) {
			m.Problems.WithLabelValues(string(p.Severity)).Inc()
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

func resultOf(err error, notDone int) string {
	switch {
	case err != nil:
		return "unobserved"
	case notDone > 0:
		return "incomplete"
	}
	return "done"
}
