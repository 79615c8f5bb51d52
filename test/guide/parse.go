package guide

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// Machine is the host of the prompt "$": no lab's, but this machine itself.
const Machine = "$"

// Step is one command of a guide and what it must print.
type Step struct {
	Line    int      // of the prompt, from 1
	Host    string   // h1, outside, …; or [Machine]
	Command string   // maybe of several lines
	Want    []string // the lines shown below it, without the exit code
	Code    int      // the exit code that it must end with
	Soon    bool     // repeat it until it is as shown
	Root    string   // why only root can run it; empty: everybody can

	from, to int // the lines shown are these of the document, from 0, to excluded
}

var (
	prompt    = regexp.MustCompile(`^(?:(h[0-9]+|control|outside)#|(\$))(?: (.*))?$`)
	exitCode  = regexp.MustCompile(`^\(exit code ([0-9]+)\)$`)
	directive = regexp.MustCompile(`^<!-- guide: (.*?) -->$`)
	fence     = regexp.MustCompile("^(`{3,}|~{3,})\\s*(\\S*)")
)

var needs = regexp.MustCompile(`^<!-- guide: needs (\S+) -->\n`)

// Needs returns what a guide says that it takes, and "" if it takes nothing but a lab.
func Needs(text string) string {
	if m := needs.FindStringSubmatch(text); m != nil {
		return m[1]
	}
	return ""
}

// Parse finds the steps of a guide. The error names each line that is not as
// the package's comment says.
func Parse(text string) ([]Step, error) {
	p := parser{lines: strings.Split(text, "\n")}
	for i := 0; i < len(p.lines); {
		i = p.block(i)
	}
	return p.steps, errors.Join(p.errs...)
}

type parser struct {
	lines []string
	steps []Step
	errs  []error
}

func (p *parser) fail(line int, format string, args ...any) {
	p.errs = append(p.errs, fmt.Errorf("line %d: %s", line+1, fmt.Sprintf(format, args...)))
}

// block reads one line that is no code, or a fenced block, and returns the line
// after it.
func (p *parser) block(i int) int {
	m := fence.FindStringSubmatch(p.lines[i])
	if m == nil {
		return i + 1
	}
	end := i + 1
	for end < len(p.lines) && strings.TrimSpace(p.lines[end]) != m[1] {
		end++
	}
	if end == len(p.lines) {
		p.fail(i, "the block has no end")
		return end
	}
	said, why := p.said(i)
	switch {
	case m[2] == "console" && (said == "" || said == "soon" || said == "root" && why != ""):
		p.session(i+1, end, Step{Soon: said == "soon", Root: why})
	case m[2] == "sh" && said == "not run" && why != "":
	case m[2] == "sh":
		p.fail(i, "the commands are not run, and nothing says why")
	case said != "":
		p.fail(i-1, "%q is nothing to say of a block of %s", said, m[2])
	}
	return end + 1
}

// said returns what the comment before the block at line i says, and why.
func (p *parser) said(i int) (what, why string) {
	if i == 0 {
		return "", ""
	}
	m := directive.FindStringSubmatch(p.lines[i-1])
	if m == nil {
		return "", ""
	}
	what, why, _ = strings.Cut(m[1], ": ")
	return what, why
}

// session reads the commands in the lines from i to end; all are like one.
func (p *parser) session(i, end int, like Step) {
	for i < end {
		m := prompt.FindStringSubmatch(p.lines[i])
		if m == nil {
			p.fail(i, "a session begins with a prompt, such as h1# or $")
			return
		}
		s := like
		s.Line, s.Host, s.Command = i+1, m[1]+m[2], m[3]
		for i++; strings.HasSuffix(s.Command, `\`) && i < end; i++ {
			s.Command += "\n" + p.lines[i]
		}
		s.from = i
		for i < end && !prompt.MatchString(p.lines[i]) {
			i++
		}
		s.to = i
		s.Want = slices.Clone(p.lines[s.from:s.to])
		if n := len(s.Want) - 1; n >= 0 {
			if code := exitCode.FindStringSubmatch(s.Want[n]); code != nil {
				s.Want = s.Want[:n]
				s.Code, _ = strconv.Atoi(code[1]) // digits; too many are a code that no command has
			}
		}
		p.steps = append(p.steps, s)
	}
}

// Rewrite returns the guide's text with what came out in place of what was
// shown, for each of the steps in changed.
func Rewrite(text string, changed map[int]Outcome, steps []Step) string {
	lines := strings.Split(text, "\n")
	for _, s := range slices.Backward(steps) {
		o, ok := changed[s.Line]
		if !ok {
			continue
		}
		lines = slices.Replace(lines, s.from, s.to, o.shown()...)
	}
	return strings.Join(lines, "\n")
}
