package reconcile

import (
	"errors"
	"fmt"
	"time"

	"github.com/ovlnet/ovl/internal/dataplane"
)

// Condition is what became of a row that is not done.
type Condition string

// The conditions.
const (
	Failed    Condition = "failed"    // its operation failed
	Blocked   Condition = "blocked"   // a row that it requires failed
	Contended Condition = "contended" // done, but somebody keeps undoing it: repaired more slowly
)

// Outcome tells of a row that is not simply done.
type Outcome struct {
	Row       dataplane.Row
	Condition Condition
	Err       error
	Tries     int
	Since     time.Time
	Next      time.Time // not tried again before; zero = at the next pass
}

// Report is what a pass did.
type Report struct {
	Started time.Time
	Applied int // operations done
	Wanted  int // rows
	// Outcomes of the rows that are not done, in the order of the tables.
	Outcomes []Outcome
	// Gone lists namespaces that were found to exist no longer.
	Gone []dataplane.NS
	// Err is set when the pass could not observe: nothing was applied.
	Err error
}

// Failure returns an error if one of the rows for which concerns returns true is
// failed or blocked, or if the pass could not observe. Rows that only wait for
// others are told of if none failed itself, and then the first: the cause is the
// same for those that follow from it.
func (r Report) Failure(concerns func(dataplane.Row) bool) error {
	if r.Err != nil {
		return r.Err
	}
	var errs []error
	var blocked error
	for _, o := range r.Outcomes {
		if o.Condition == Contended || !concerns(o.Row) {
			continue
		}
		err := fmt.Errorf("%s %s: %w", o.Condition, o.Row.Key(), o.Err)
		switch {
		case o.Condition == Failed:
			errs = append(errs, err)
		case blocked == nil:
			blocked = err
		}
	}
	if len(errs) == 0 {
		return blocked
	}
	return errors.Join(errs...)
}
