package guide

import (
	"strings"
	"testing"
)

// fenced replaces ”' by the fence that a Go string cannot hold.
func fenced(s string) string { return strings.ReplaceAll(s, "'''", "```") }

func TestParse(t *testing.T) {
	t.Parallel()
	steps, err := Parse(fenced(`# A guide

'''console
$ ovlctl lab up
…
h1# echo one \
  two
one two
h1# false
(exit code 1)
'''

    a picture

<!-- guide: soon -->
'''console
outside# ip route
'''

<!-- guide: not run: it needs two machines -->
'''sh
reboot
'''

'''json
{}
'''
`))
	if err != nil {
		t.Fatal(err)
	}
	want := []Step{
		{Line: 4, Host: "$", Command: "ovlctl lab up", Want: []string{"…"}},
		{Line: 6, Host: "h1", Command: "echo one \\\n  two", Want: []string{"one two"}},
		{Line: 9, Host: "h1", Command: "false", Code: 1},
		{Line: 17, Host: "outside", Command: "ip route", Soon: true},
	}
	if len(steps) != len(want) {
		t.Fatalf("%d steps, want %d: %+v", len(steps), len(want), steps)
	}
	for i, w := range want {
		g := steps[i]
		if g.Line != w.Line || g.Host != w.Host || g.Command != w.Command || strings.Join(g.Want, "\n") != strings.Join(w.Want, "\n") || g.Code != w.Code || g.Soon != w.Soon {
			t.Errorf("step %d is %+v, want %+v", i, g, w)
		}
	}
}

func TestNeeds(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"<!-- guide: needs runtimes -->\n# Podman\n": "runtimes", "# Podman\n": "", "\n<!-- guide: needs runtimes -->\n": "",
	} {
		if got := Needs(text); got != want {
			t.Errorf("%q needs %q, want %q", text, got, want)
		}
	}
}

func TestParseRefuses(t *testing.T) {
	t.Parallel()
	for name, text := range map[string]string{
		"line 2: a session begins": "'''console\nip route\n'''",
		"line 2: the commands are": "\n'''sh\nip route\n'''",
		"line 3: the block has no": "\n\n'''console\nh1# ip route\n",
		`line 1: "sooon" is`:       "<!-- guide: sooon -->\n'''console\nh1# ip route\n'''",
		`line 1: "not run" is`:     "<!-- guide: not run: why -->\n'''console\nh1# ip route\n'''",
		"line 3: the commands":     "\n<!-- guide: not run -->\n'''sh\nip route\n'''",
	} {
		if _, err := Parse(fenced(text)); err == nil || !strings.Contains(strings.ReplaceAll(err.Error(), "\n", " "), name) {
			t.Errorf("%s: error %v", name, err)
		}
	}
}

func TestRewrite(t *testing.T) {
	t.Parallel()
	const text = "'''console\n$ a\nold\n$ b\nsame\n$ c\n'''\nend\n"
	steps, err := Parse(fenced(text))
	if err != nil {
		t.Fatal(err)
	}
	got := Rewrite(fenced(text), map[int]Outcome{2: {Printed: "new  \nlines\n"}, 6: {Printed: "x\n", Code: 3}}, steps)
	if want := fenced("'''console\n$ a\nnew\nlines\n$ b\nsame\n$ c\nx\n(exit code 3)\n'''\nend\n"); got != want {
		t.Errorf("rewritten:\n%s\nwant\n%s", got, want)
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{"'''console\nh1# a \\\nb\nc\n(exit code 1)\n'''", "<!-- guide: soon -->\n'''console\n$\n'''", "'''sh\n'''", "~~~\n"} {
		f.Add(fenced(s))
	}
	f.Fuzz(func(t *testing.T, text string) {
		steps, _ := Parse(text) // the steps of a bad guide are as good as they can be
		changed := map[int]Outcome{}
		for _, s := range steps {
			if s.from < s.Line || s.to < s.from {
				t.Errorf("the lines shown of %+v are %d to %d", s, s.from, s.to)
			}
			shown := strings.Join(s.Want, "\n")
			if err := s.Check(Outcome{Printed: shown, Code: s.Code}); err != nil && len(s.Want) > 0 && strings.TrimSpace(s.Want[len(s.Want)-1]) != "" {
				t.Errorf("a guide does not match what it shows: %v", err)
			}
			changed[s.Line] = Outcome{Printed: shown, Code: s.Code}
		}
		Rewrite(text, changed, steps)
	})
}
