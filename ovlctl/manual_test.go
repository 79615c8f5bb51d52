package main

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// TestManual reads every command of ovlctl and make that README and the docs
// tell people to type against what there is. What a reader copies works, or at
// least parses.
func TestManual(t *testing.T) {
	targets := makeTargets(t)
	checked := 0
	for _, file := range manualFiles(t) {
		raw, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range commandsIn(string(raw)) {
			checked++
			switch c.words[0] {
			case "ovlctl":
				if err := parses(c); err != nil {
					t.Errorf("%s: %s: %v", file, strings.Join(c.words, " "), err)
				}
			case "make":
				for _, target := range c.words[1:] {
					if !strings.Contains(target, "=") && !slices.Contains(targets, target) {
						t.Errorf("%s: the Makefile has no target %q", file, target)
					}
				}
			}
		}
	}
	t.Logf("%d commands", checked)
	if checked < 50 {
		t.Errorf("found %d commands in the docs: the test does not read them any more", checked)
	}
}

func manualFiles(t *testing.T) []string {
	t.Helper()
	files, err := filepath.Glob("../*.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{"../docs", "../deploy", "../vagrant"} {
		err := filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
			if strings.HasSuffix(path, ".md") {
				files = append(files, path)
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return files
}

func makeTargets(t *testing.T) []string {
	t.Helper()
	raw, err := os.ReadFile("../Makefile")
	if err != nil {
		t.Fatal(err)
	}
	var targets []string
	for _, m := range regexp.MustCompile(`(?m)^([a-z0-9-]+):`).FindAllStringSubmatch(string(raw), -1) {
		targets = append(targets, m[1])
	}
	return targets
}

// manualCommand is a command in a text. A mention in a sentence, such as
// `ovlctl run`, may lack its arguments.
type manualCommand struct {
	words   []string
	mention bool
}

var (
	inlineCode = regexp.MustCompile("`([^`]+)`")
	// Where one command ends and the next begins, and what is no command.
	commandEnd   = regexp.MustCompile(`&&|[;|>]|\s#.*| -- `)
	commandStart = regexp.MustCompile(`^(?:.*\s|.*/)?(ovlctl|make)( .*|$)`)
)

// commandsIn returns the commands in a Markdown text: those of indented blocks,
// and those in backticks.
func commandsIn(text string) []manualCommand {
	var all []manualCommand
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, "\n")
		if strings.HasPrefix(line, "    ") {
			all = append(all, commandsOf(line, false)...)
			continue
		}
		for _, m := range inlineCode.FindAllStringSubmatch(line, -1) {
			all = append(all, commandsOf(m[1], true)...)
		}
	}
	return all
}

func commandsOf(code string, mention bool) []manualCommand {
	var all []manualCommand
	for _, part := range commandEnd.Split(code, -1) {
		m := commandStart.FindStringSubmatch(part)
		if m == nil || strings.ContainsAny(part, "$(│─┤├=") && !strings.Contains(part, "make fuzz") {
			continue
		}
		words := append([]string{m[1]}, strings.Fields(strings.NewReplacer("'", "", `"`, "", "`", "").Replace(m[2]))...)
		all = append(all, manualCommand{words: words, mention: mention})
	}
	return all
}

// parses finds the command in the tree and reads its flags and arguments.
func parses(c manualCommand) error {
	root := newRootCommand(newOptions())
	cmd, rest, err := root.Find(c.words[1:])
	if err != nil {
		return err
	}
	if cmd.HasSubCommands() && len(rest) > 0 {
		return usagef("no command %q", rest[0])
	}
	if err := cmd.ParseFlags(rest); err != nil {
		return err
	}
	if c.mention || cmd.Name() == "exec" { // the command after " -- " was cut off
		return nil
	}
	return cmd.ValidateArgs(cmd.Flags().Args())
}
