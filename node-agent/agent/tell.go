package agent

import (
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/ovlnet/ovl/internal/cluster"
	"github.com/ovlnet/ovl/internal/reconcile"
)

// Transitions are logged, not passes.
const (
	// patience is how long something must be wrong before it is logged: the
	// store tells of a host and of its subnets one after the other, and what is
	// half known for a moment is no problem.
	patience = time.Second
	// maxLogged bounds what one pass logs: among thousands of peers one cause
	// can have thousands of effects.
	maxLogged = 10
)

// trouble is something wrong that has been seen.
type trouble struct {
	since  time.Time
	logged bool
}

// diary remembers what is wrong, so that its beginning and its end are logged
// once each.
type diary map[string]*trouble

// logChanges logs what has been wrong for a while and what no longer is.
func (a *Agent) logChanges(problems []cluster.Problem, outcomes []reconcile.Outcome) {
	now := time.Now()
	seen := map[string]bool{}
	count := 0
	unlogged := false
	note := func(key string, log func()) {
		seen[key] = true
		t := a.diary[key]
		if t == nil {
			t = &trouble{since: now}
			a.diary[key] = t
		}
		switch {
		case t.logged:
		case now.Sub(t.since) < patience:
			unlogged = true
		default:
			t.logged = true
			if count++; count <= maxLogged {
				log()
			}
		}
	}
	for _, p := range problems {
		note(p.Subject+"\x00"+p.What, func() {
			a.cfg.Log.Warn("problem", "subject", p.Subject, "what", p.What, "hint", p.Hint)
		})
	}
	for _, o := range outcomes {
		note(o.Row.Key().String()+"\x00"+string(o.Condition), func() {
			a.cfg.Log.Warn("row not in place", "row", o.Row.Key(), "condition", o.Condition, "err", o.Err)
		})
	}
	if unlogged {
		time.AfterFunc(patience, a.ring)
	}
	count += a.logEnds(seen)
	if count > maxLogged {
		a.cfg.Log.Warn("more of the kind: see `ovlctl agent status`", "messages", count-maxLogged)
	}
}

// logEnds forgets what is no longer wrong and returns how much of it had been
// logged.
func (a *Agent) logEnds(seen map[string]bool) int {
	over := 0
	for _, key := range slices.Sorted(maps.Keys(a.diary)) {
		if seen[key] {
			continue
		}
		if a.diary[key].logged {
			if over++; over <= maxLogged {
				subject, _, _ := strings.Cut(key, "\x00")
				a.cfg.Log.Info("no longer a problem", "subject", subject)
			}
		}
		delete(a.diary, key)
	}
	return over
}

// logOnce logs err when what was tried first fails, and once when it works
// again.
func (a *Agent) logOnce(what string, err error) {
	switch {
	case err != nil && !a.failing[what]:
		a.failing[what] = true
		a.cfg.Log.Warn("does not work", "what", what, "err", err)
	case err == nil && a.failing[what]:
		delete(a.failing, what)
		a.cfg.Log.Info("works again", "what", what)
	}
}
