package lab

import (
	"errors"
	"os"
)

// skipper is what [SkipIfForbidden] needs of a test.
type skipper interface {
	Helper()
	Skipf(format string, args ...any)
	Fatalf(format string, args ...any)
}

// SkipIfForbidden skips a test if err says that this kernel lets an ordinary
// user make no lab. With CI=true that is a failure: a test that never runs
// there tests nothing.
func SkipIfForbidden(t skipper, err error) {
	t.Helper()
	if !errors.Is(err, ErrForbidden) {
		return
	}
	if os.Getenv("CI") == "true" {
		t.Fatalf("make a lab: %v", err)
	}
	t.Skipf("make a lab: %v", err)
}
