package audit

import (
	"context"
	"sync"

	"google.golang.org/protobuf/proto"
)

// entry gathers what becomes known of one call while it is served.
type entry struct {
	mu            sync.Mutex
	who, what     string
	before, after proto.Message
}

type entryKey struct{}

func within(ctx context.Context, e *entry) context.Context {
	return context.WithValue(ctx, entryKey{}, e)
}

// note lets set change the entry of a call; one without is not recorded.
func note(ctx context.Context, set func(*entry)) {
	e, ok := ctx.Value(entryKey{}).(*entry)
	if !ok {
		return
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	set(e)
}

// By says who calls, once that is proven.
func By(ctx context.Context, who string) { note(ctx, func(e *entry) { e.who = who }) }

// On says what the call is about, where the request alone does not.
func On(ctx context.Context, what string) { note(ctx, func(e *entry) { e.what = what }) }

// Changed says what an object was, and what it is if the call succeeds; nil is
// absent. A field with the option debug_redact is never recorded. Of several
// changes the last counts.
func Changed(ctx context.Context, before, after proto.Message) {
	note(ctx, func(e *entry) { e.before, e.after = before, after })
}
