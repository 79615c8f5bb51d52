package audit

import (
	"context"
	"log/slog"
	"net/netip"
	"sync"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/ovlnet/ovl/controller/limit"
	"github.com/ovlnet/ovl/internal/cluster"
	"github.com/ovlnet/ovl/internal/store"
	ovlv1 "github.com/ovlnet/ovl/proto/ovl/v1"
)

// Refusals are recorded as far as these go, for one source and for all: nobody
// who may do nothing shall push out the log what was done.
const (
	sourceBurst, sourceRefill = 20, 6 * time.Second
	allBurst, allRefill       = 300, 2 * time.Second
	// Of what the store refuses programs, which try again for ever, the same is
	// recorded so often alone; what lies between is counted.
	repeatRefill = 10 * time.Minute
)

// Config is what a Trail needs.
type Config struct {
	Store      store.KV
	Log        Log
	Controller string           // names this controller
	Reports    *slog.Logger     // of what goes wrong here
	Now        func() time.Time // nil = [time.Now]
	// StoreTimeout bounds one read or transaction; 0 = 5 s.
	StoreTimeout time.Duration
}

// Trail records what is done.
type Trail struct {
	Config
	sources *limit.Limit[string]
	all     *limit.Limit[struct{}]
	repeats *limit.Limit[string]
	queue   queue

	mu         sync.Mutex
	unrecorded uint32
	broken     error // why the log cannot be written; nil: it can
}

// New returns a Trail; see [Trail.Run].
func New(c Config) *Trail {
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.StoreTimeout == 0 {
		c.StoreTimeout = 5 * time.Second
	}
	return &Trail{
		Config:  c,
		sources: limit.New[string](sourceBurst, sourceRefill, c.Now),
		all:     limit.New[struct{}](allBurst, allRefill, c.Now),
		repeats: limit.New[string](1, repeatRefill, c.Now),
		queue:   newQueue(),
	}
}

// Started records that this controller begins: between this and [Trail.Stopped]
// nothing it was asked is missing.
func (t *Trail) Started(version string) {
	e := t.own("StartController")
	e.After = &structpb.Struct{Fields: map[string]*structpb.Value{"version": structpb.NewStringValue(text(version, maxShort))}}
	t.record(e, changes)
}

// Stopped records that this controller ends.
func (t *Trail) Stopped() { t.record(t.own("StopController"), changes) }

// Advanced records what this controller did by itself.
func (t *Trail) Advanced(what string, before, after proto.Message) {
	e := t.own("AdvanceRotation")
	e.What, e.Before, e.After = text(what, maxWhat), object(before), object(after)
	t.record(e, changes)
}

// Refused records what was refused at another port than the API's. The same again is
// counted, and recorded once in a while.
func (t *Trail) Refused(who, action string, from netip.AddrPort, code codes.Code, err error) {
	e := &ovlv1.Event{
		Who: text(who, maxShort), Action: text(action, maxShort), Outcome: outcome(code), Reason: text(err.Error(), maxReason),
	}
	source := who
	if from.IsValid() {
		e.From = from.String()
	}
	if source == "" {
		source = limit.Source(from.Addr()).String()
	}
	if !t.repeats.Take(source + " " + e.GetAction()) {
		t.mu.Lock()
		t.unrecorded++
		t.mu.Unlock()
		return
	}
	t.refused(e, source)
}

func (t *Trail) own(action string) *ovlv1.Event {
	who := "controller " + t.Controller
	return &ovlv1.Event{Who: who, Action: action, What: who, Outcome: outcome(0)}
}

// record writes an event to the log, and queues it for the store.
func (t *Trail) record(e *ovlv1.Event, r ring) {
	e.Time, e.Controller = timestamppb.New(t.Now()), t.Controller
	line, err := encode(e, maxLine)
	if err == nil {
		err = t.Log.Append(line)
	}
	t.report(err)
	t.queue.push(queued{event: e, ring: r})
}

// refused records a refusal, unless there are too many from that source.
func (t *Trail) refused(e *ovlv1.Event, source string) {
	recorded := t.sources.Has(source) && t.all.Take(struct{}{}) && t.sources.Take(source)
	t.mu.Lock()
	if recorded {
		e.Unrecorded, t.unrecorded = t.unrecorded, 0
	} else {
		t.unrecorded++
	}
	t.mu.Unlock()
	if recorded {
		t.record(e, refusals)
	}
}

// report keeps and logs whether the log can be written, when that changes.
func (t *Trail) report(err error) {
	t.mu.Lock()
	was := t.broken
	t.broken = err
	t.mu.Unlock()
	switch {
	case err != nil && was == nil:
		t.Reports.Error("cannot write the audit log: what is done is not recorded", slog.Any("err", err))
	case err == nil && was != nil:
		t.Reports.Info("the audit log is written again")
	}
}

// Problem returns what is wrong with the log, for the status.
func (t *Trail) Problem() (cluster.Problem, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.broken == nil {
		return cluster.Problem{}, false
	}
	return cluster.Problem{
		Severity: cluster.SeverityError, Subject: "controller " + t.Controller,
		What: "it cannot write its audit log: " + text(t.broken.Error(), maxReason),
		Hint: "make room where it lies (--audit-log), or look at its rights: what is done meanwhile is only in ovlctl events",
	}, true
}

// Events returns what the store has of them, by number, and its revision. What
// this controller recorded before the call is among them, if the store answers.
func (t *Trail) Events(ctx context.Context) ([]*ovlv1.Event, int64, error) {
	t.queue.settle(ctx, t.StoreTimeout)
	ctx, cancel := context.WithTimeout(ctx, t.StoreTimeout)
	defer cancel()
	page, err := t.Store.Range(ctx, Prefix)
	if err != nil {
		return nil, 0, err
	}
	return decodeAll(page.Records), page.Revision, nil
}

// numbered returns a copy of an event with its number.
func numbered(e *ovlv1.Event, n uint64) *ovlv1.Event {
	c, _ := proto.Clone(e).(*ovlv1.Event)
	c.Number = n
	return c
}
