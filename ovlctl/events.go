package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/types/known/structpb"

	ovlv1 "github.com/ovlnet/ovl/proto/ovl/v1"
)

// followed is how many events that have been --follow begins with.
const followed = 10

func newEventsCommand(o *options) *cobra.Command {
	var (
		follow bool
		tail   int
	)
	c := &cobra.Command{
		Use:   "events",
		Short: "Show what was done to the cluster, by whom, and what was refused",
		Long: `Shows the newest changes that were made or tried through any controller, and the
newest refusals, oldest first; for admins. What changed is a column of -o wide, and
before and after are in -o json. With --follow it begins with the last ` + fmt.Sprint(followed) + ` and goes
on, as one JSON object a line with -o json, until it is interrupted.

The controllers keep the last 2,048 changes, the last 512 refusals and the last 512
renewals of certificates here; all of them are in the audit log of the controller that
was asked (ovl-controller --audit-log).`,
		Example: `  ovlctl events
  ovlctl events --tail 20 -o wide
  ovlctl events --follow
  ovlctl events -o json | jq '.[] | select(.outcome != "OK")'`,
		Args:              exactly(),
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(c *cobra.Command, _ []string) error {
			switch {
			case tail < 0:
				return usagef("events: --tail %d: want none or more", tail)
			case follow && !changed(c, "tail"):
				tail = followed
			case !changed(c, "tail"):
				tail = -1
			}
			if follow {
				return o.followEvents(c.Context(), tail, changed(c, "timeout"))
			}
			return o.onController(c.Context(), func(ctx context.Context, cl *client) error {
				all, err := cl.listEvents(ctx)
				if err != nil {
					return cl.explain("list events", err)
				}
				return eventView().list(o, last(all, tail))
			})
		},
	}
	c.Flags().BoolVarP(&follow, "follow", "f", false, "go on with those that come")
	c.Flags().IntVar(&tail, "tail", 0, fmt.Sprintf("only so many of the last ones (default: all, with --follow %d)", followed))
	return c
}

func eventView() view[*ovlv1.Event] {
	return view[*ovlv1.Event]{
		name: func(e *ovlv1.Event) string { return number(e.GetNumber()) },
		columns: []column[*ovlv1.Event]{
			{title: "TIME", cell: func(e *ovlv1.Event) string { return when(e.GetTime()) }},
			{title: "WHO", cell: (*ovlv1.Event).GetWho},
			{title: "FROM", cell: func(e *ovlv1.Event) string { return addressAlone(e.GetFrom()) }},
			{title: "ACTION", cell: (*ovlv1.Event).GetAction},
			{title: "WHAT", cell: (*ovlv1.Event).GetWhat},
			{title: "OUTCOME", cell: (*ovlv1.Event).GetOutcome},
			{title: "CHANGE", wide: true, cell: func(e *ovlv1.Event) string { return change(e.GetBefore(), e.GetAfter()) }},
			{title: "REASON", wide: true, cell: reason},
			{title: "CONTROLLER", wide: true, cell: (*ovlv1.Event).GetController},
			{title: "NUMBER", wide: true, cell: func(e *ovlv1.Event) string { return number(e.GetNumber()) }},
		},
	}
}

// addressAlone leaves out the port, which says little; JSON has it.
func addressAlone(from string) string {
	if at, err := netip.ParseAddrPort(from); err == nil {
		return at.Addr().String()
	}
	return from
}

func reason(e *ovlv1.Event) string {
	if n := e.GetUnrecorded(); n > 0 {
		return fmt.Sprintf("%s (and %d refusals before that were only counted)", e.GetReason(), n)
	}
	return e.GetReason()
}

// change says in one cell how an object became another.
func change(before, after *structpb.Struct) string {
	names := map[string]bool{}
	for name := range before.GetFields() {
		names[name] = true
	}
	for name := range after.GetFields() {
		names[name] = true
	}
	var parts []string
	for name := range names {
		was, is := field(before, name), field(after, name)
		switch {
		case was == is || name == "revision":
		case before == nil:
			parts = append(parts, name+"="+is)
		case after == nil:
			parts = append(parts, name+"="+was)
		default:
			parts = append(parts, fmt.Sprintf("%s: %s → %s", name, cmp.Or(was, "none"), cmp.Or(is, "none")))
		}
	}
	slices.Sort(parts)
	return strings.Join(parts, " ")
}

func field(s *structpb.Struct, name string) string {
	v, ok := s.GetFields()[name]
	if !ok {
		return ""
	}
	if text, ok := v.GetKind().(*structpb.Value_StringValue); ok {
		return text.StringValue
	}
	b, err := protojson.Marshal(v)
	if err != nil {
		return ""
	}
	return strings.ReplaceAll(string(b), " ", "") // protojson varies them
}

// last returns the last n of all; -1 is all.
func last[T any](all []T, n int) []T {
	if n < 0 || n >= len(all) {
		return all
	}
	return all[len(all)-n:]
}

func (c *client) listEvents(ctx context.Context) ([]*ovlv1.Event, error) {
	return collect(func(token string) ([]*ovlv1.Event, string, error) {
		r, err := c.events().ListEvents(ctx, &ovlv1.ListEventsRequest{PageSize: pageSize, PageToken: token})
		return r.GetEvents(), r.GetNextPageToken(), err
	})
}

func (c *client) events() ovlv1.EventServiceClient { return ovlv1.NewEventServiceClient(c.conn) }

// again is the wait before a controller that went away is asked again.
const again = time.Second

// followEvents prints the last events, then those that come, for as long as it
// is let. A controller that goes away is asked again for what came after.
func (o *options) followEvents(ctx context.Context, tail int, bounded bool) error {
	cl, err := o.dialController()
	if err != nil {
		return err
	}
	defer cl.close()
	first, cancel := o.deadline(ctx)
	defer cancel()
	if bounded {
		ctx = first
	}
	all, err := cl.listEvents(first)
	if err != nil {
		return cl.explain("list events", err)
	}
	f := &follower{o: o, view: eventView()}
	if len(all) > 0 {
		f.after = all[len(all)-1].GetNumber()
	}
	if err := f.print(last(all, tail)...); err != nil {
		return err
	}
	for away := false; ; {
		before := f.after
		err := f.follow(ctx, cl)
		switch {
		case ctx.Err() != nil:
			return ended(ctx)
		case status.Code(err) != codes.Unavailable:
			return cl.explain("follow events", err)
		}
		if !away || f.after != before {
			o.say("%s is away: what happens meanwhile follows when it is back", cl.who)
		}
		away = true
		select {
		case <-time.After(again):
		case <-ctx.Done():
			return ended(ctx)
		}
	}
}

// ended is how one ends who was to go on for ever: interrupting it is its end,
// and so is the time that --timeout gives.
func ended(ctx context.Context) error {
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return codef(exitUnreachable, "follow events: the time is up (--timeout)")
	}
	return nil
}

// follower prints events as they come.
type follower struct {
	o      *options
	view   view[*ovlv1.Event]
	after  uint64 // the last one that was seen
	widths []int  // of the columns so far
}

func (f *follower) follow(ctx context.Context, cl *client) error {
	stream, err := cl.events().WatchEvents(ctx, &ovlv1.WatchEventsRequest{After: f.after})
	if err != nil {
		return err
	}
	for {
		e, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return status.Error(codes.Unavailable, "the watch ended")
		}
		if err != nil {
			return err
		}
		if err := f.print(e); err != nil {
			return err
		}
		f.after = e.GetNumber()
	}
}

// print prints events so that each can be read alone: JSON a line, YAML a
// document, a table that grows.
func (f *follower) print(events ...*ovlv1.Event) error {
	if f.o.output == formatTable || f.o.output == formatWide {
		return f.rows(events)
	}
	for _, e := range events {
		if err := f.printOne(e); err != nil {
			return err
		}
	}
	return nil
}

func (f *follower) printOne(e *ovlv1.Event) error {
	switch f.o.output {
	case formatName:
		return f.view.names(f.o, []*ovlv1.Event{e})
	case formatYAML:
		fmt.Fprintln(f.o.stdout, "---")
		return printMessage(f.o, e)
	}
	return printLine(f.o, e)
}

// rows prints lines of a table of which nobody knows how wide it will be.
func (f *follower) rows(events []*ovlv1.Event) error {
	columns := f.view.shown(f.o.output == formatWide)
	var rows [][]string
	if f.widths == nil {
		f.widths = make([]int, len(columns))
		rows = append(rows, titles(columns))
	}
	for _, e := range events {
		rows = append(rows, cells(columns, e)...)
	}
	for _, row := range rows {
		for i, cell := range row {
			f.widths[i] = max(f.widths[i], len([]rune(cellText(cell))))
		}
	}
	for _, row := range rows {
		var line strings.Builder
		for i, cell := range row {
			fmt.Fprintf(&line, "%-*s", f.widths[i]+3, cellText(cell))
		}
		if _, err := fmt.Fprintln(f.o.stdout, strings.TrimRight(line.String(), " ")); err != nil {
			return err
		}
	}
	return nil
}
