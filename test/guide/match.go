package guide

import (
	"fmt"
	"regexp"
	"strings"
)

// anything stands for any text within a line, and alone for any lines.
const anything = "…"

// Outcome is what a command did.
type Outcome struct {
	Printed string // stdout and stderr, as they came
	Code    int
}

// lines returns what was printed by lines, without empty ones at the end.
func (o Outcome) lines() []string {
	text := strings.TrimRight(o.Printed, "\n \t")
	if text == "" {
		return nil
	}
	return strings.Split(text, "\n")
}

// shown is how a guide shows the outcome.
func (o Outcome) shown() []string {
	lines := o.lines()
	for i, l := range lines {
		lines[i] = strings.TrimRight(l, " \t")
	}
	if o.Code != 0 {
		lines = append(lines, fmt.Sprintf("(exit code %d)", o.Code))
	}
	return lines
}

// Check returns how the outcome differs from what the guide shows, and nil if
// it does not.
func (s Step) Check(o Outcome) error {
	switch {
	case o.Code != s.Code:
		return fmt.Errorf("line %d: %s: exit code %d, want %d; it prints\n%s", s.Line, s.Command, o.Code, s.Code, o.Printed)
	case !match(s.Want, o.lines()):
		return fmt.Errorf("line %d: %s: it prints\n%s\nand the guide shows\n%s", s.Line, s.Command, o.Printed, strings.Join(s.Want, "\n"))
	}
	return nil
}

// match reports whether the lines got are those wanted.
func match(want, got []string) bool {
	if len(want) == 0 {
		return len(got) == 0
	}
	if strings.TrimSpace(want[0]) == anything {
		for skip := range len(got) + 1 {
			if match(want[1:], got[skip:]) {
				return true
			}
		}
		return false
	}
	return len(got) > 0 && matchLine(want[0], got[0]) && match(want[1:], got[1:])
}

// matchLine compares two lines. Columns are as wide as what is in them, and a
// tab may be shown as spaces: white space is white space.
func matchLine(want, got string) bool {
	want, got = strings.Join(strings.Fields(want), " "), strings.Join(strings.Fields(got), " ")
	if !strings.Contains(want, anything) {
		return want == got
	}
	parts := strings.Split(want, anything)
	for i, p := range parts {
		parts[i] = regexp.QuoteMeta(p)
	}
	return regexp.MustCompile("^" + strings.Join(parts, ".*") + "$").MatchString(got)
}
