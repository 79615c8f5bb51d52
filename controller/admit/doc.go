// Package admit decides what a controller lets into the cluster: names,
// address ranges, sizes, identifiers, labels, page tokens.
//
// It is pure: functions over values that return every violation, not only the
// first. It must never do I/O, log or keep state. The invariant it keeps is that
// a network without violations can be written, overlaps nothing that it was
// told of, and gives every host a subnet with room for a container.
package admit

import (
	"fmt"
	"strings"
)

// Violation is one thing wrong with a request.
type Violation struct {
	Field       string // path in the request message: subnets[0]
	Description string // one line: what, why and what to do
}

// String returns the violation as one line.
func (v Violation) String() string { return v.Field + ": " + v.Description }

// Join returns the violations as one line.
func Join(vs []Violation) string {
	texts := make([]string, len(vs))
	for i, v := range vs {
		texts[i] = v.String()
	}
	return strings.Join(texts, "; ")
}

// list gathers violations.
type list []Violation

func (l *list) addf(field, format string, args ...any) {
	*l = append(*l, Violation{Field: field, Description: fmt.Sprintf(format, args...)})
}

// quote keeps hostile text out of lines for people: escaped and clipped.
func quote(s string) string {
	if len(s) > 80 {
		s = s[:80] + "…"
	}
	return fmt.Sprintf("%q", s)
}
