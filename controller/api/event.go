package api

import (
	"context"
	"fmt"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/ovlnet/ovl/controller/audit"
	"github.com/ovlnet/ovl/internal/store"
	ovlv1 "github.com/ovlnet/ovl/proto/ovl/v1"
)

// events implements EventService.
type events struct {
	ovlv1.UnimplementedEventServiceServer
	*Server
}

// eventOrder is the order of the list: see facts.go.
func eventOrder(e *ovlv1.Event) string { return fmt.Sprintf("%016x", e.GetNumber()) }

// all returns what is kept, oldest first, and the revision of the store.
func (s *events) all(ctx context.Context, doing string) ([]*ovlv1.Event, int64, error) {
	if s.trail == nil {
		return nil, 0, status.Errorf(codes.Unimplemented, "%s: this controller records nothing", doing)
	}
	all, revision, err := s.trail.Events(ctx)
	return all, revision, failed(ctx, doing, err)
}

// ListEvents implements EventService.
func (s *events) ListEvents(ctx context.Context, req *ovlv1.ListEventsRequest) (*ovlv1.ListEventsResponse, error) {
	doing := "list events"
	c, vs := newCursor("events", req)
	if err := invalid(doing, vs); err != nil {
		return nil, err
	}
	all, _, err := s.all(ctx, doing)
	if err != nil {
		return nil, err
	}
	page, next := take(c, all, eventOrder)
	return &ovlv1.ListEventsResponse{Events: page, NextPageToken: next}, nil
}

// WatchEvents implements EventService.
func (s *events) WatchEvents(req *ovlv1.WatchEventsRequest, stream grpc.ServerStreamingServer[ovlv1.Event]) error {
	doing := "watch events"
	ctx, cancel := context.WithCancel(stream.Context())
	defer cancel()
	all, revision, err := s.all(ctx, doing)
	if err != nil {
		return err
	}
	last := req.GetAfter()
	if newest := len(all) - 1; last > 0 && (newest < 0 || last > all[newest].GetNumber()) {
		return status.Errorf(codes.OutOfRange, "%s: number %d has not been reached: begin again without one", doing, last)
	}
	// A client that has its headers knows that it is watching.
	if err := stream.SendHeader(nil); err != nil {
		return err
	}
	send := func(some []*ovlv1.Event) error {
		for _, e := range some {
			if e.GetNumber() <= last {
				continue
			}
			if err := stream.Send(e); err != nil {
				return err
			}
			last = e.GetNumber()
		}
		return nil
	}
	if err := send(all); err != nil {
		return err
	}
	for b := range backlog(ctx, s.kv.Watch(ctx, audit.Prefix, revision)) {
		if b.Err != nil {
			return failed(ctx, doing, b.Err)
		}
		if err := send(audit.Added(b)); err != nil {
			return err
		}
	}
	return failed(ctx, doing, fmt.Errorf("the watch ended: %w", store.ErrUnavailable))
}
