package guide

import (
	"strings"
	"testing"
)

func TestMatch(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		want, got string
		match     bool
	}{
		{"", "", true},
		{"", "a", false},
		{"a", "", false},
		{"a  b", "a b", true},
		{"a b", "a\tb ", true},
		{"a", "a\nb", false},
		{"b\na", "a\nb", false},
		{"a … c", "a b d c", true},
		{"a … c", "a b c d", false},
		{"a.c", "abc", false},
		{"…", "", true},
		{"…", "a\nb", true},
		{"a\n…\nc", "a\nc", true},
		{"a\n…\nc", "a\nb\nd\nc", true},
		{"a\n…\nc", "a\nb\nc\nd", false},
		{"…\nb\n…", "a\nb\nd\nc", true},
		{"…\nd\n…", "a\nb\nc", false},
	} {
		lines := func(s string) []string { return Outcome{Printed: s}.lines() }
		if got := match(lines(c.want), lines(c.got)); got != c.match {
			t.Errorf("%q against %q: %v", c.want, c.got, got)
		}
	}
}

// small is a guide in which every line counts.
const small = `'''console
$ echo one; echo two
one
two
$ A=three
$ printf '%s  %s\n' $A four
three four
$ echo why >&2; (exit 7)
why
(exit code 7)
'''

<!-- guide: soon -->
'''console
$ echo x >>"$LOG"; wc -l <"$LOG"
3
'''
`

// typed follows a guide of this machine alone and returns what is wrong with it.
func typed(t *testing.T, text string) error {
	t.Helper()
	steps, err := Parse(fenced(text))
	if err != nil {
		return err
	}
	r := &Reader{Dir: t.TempDir(), Bin: "/nowhere"}
	defer r.Close()
	for _, s := range steps {
		s.Command = strings.ReplaceAll(s.Command, "$LOG", r.Dir+"/log")
		for range 3 { // what is soon right is asked again, without a clock
			if _, err = r.Do(t.Context(), s); err == nil || !s.Soon {
				break
			}
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// TestABrokenGuideIsABrokenTest changes one line of a guide at a time.
func TestABrokenGuideIsABrokenTest(t *testing.T) {
	t.Parallel()
	if err := typed(t, small); err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(small, "\n")
	for i, line := range lines {
		if line == "" || strings.HasPrefix(line, "'''") {
			continue
		}
		for _, change := range []string{line + "!", line + "\nmore"} {
			broken := append([]string{}, lines...)
			broken[i] = change
			if err := typed(t, strings.Join(broken, "\n")); err == nil {
				t.Errorf("the guide passes with %q in place of %q", change, line)
			}
		}
	}
}

func TestAHostNeedsALab(t *testing.T) {
	t.Parallel()
	if err := typed(t, "'''console\nh1# true\n'''"); err == nil || !strings.Contains(err.Error(), "no lab") {
		t.Errorf("a command on a host of no lab: %v", err)
	}
}
