package main

import (
	"fmt"
	"io"
	"strings"

	ovlv1 "github.com/ovlnet/ovl/proto/ovl/v1"
)

// severityError is the severity of what makes a host or the cluster unhealthy;
// anything else is a warning.
const severityError = "error"

// problemLine is a problem in one line: what, and what to do about it.
func problemLine(p *ovlv1.Problem) string {
	s := p.GetSubject() + ": " + p.GetWhat()
	if p.GetHint() != "" {
		s += "; " + p.GetHint()
	}
	return s
}

func problemsLine(ps []*ovlv1.Problem) string {
	var out []string
	for _, p := range ps {
		out = append(out, problemLine(p))
	}
	return strings.Join(out, " | ")
}

// sayProblems writes a line for each problem to w.
func sayProblems(w io.Writer, ps []*ovlv1.Problem) {
	for _, p := range ps {
		fmt.Fprintf(w, "%s: %s\n", first(p.GetSeverity(), "warning"), oneLine(problemLine(p)))
	}
}

func anyError(ps []*ovlv1.Problem) bool {
	for _, p := range ps {
		if p.GetSeverity() == severityError {
			return true
		}
	}
	return false
}
