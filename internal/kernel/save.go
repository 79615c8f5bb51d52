package kernel

import (
	"fmt"
	"strings"
)

// saved is what iptables-save tells: the chains of each table with their rules.
type saved map[string]map[string][]savedRule

// savedRule is one rule of a chain.
type savedRule struct {
	spec    string // all after "-A CHAIN "
	rest    string // spec without its comment
	comment string
	target  string // what follows -j or -g
}

// parseSave parses the output of iptables-save(8). Lines that are none of a
// table, a chain, a rule or a remark are an error: the rest could not be
// trusted to be whole.
func parseSave(out string) (saved, error) {
	s := saved{}
	var chains map[string][]savedRule
	for line := range strings.Lines(out) {
		line = strings.TrimRight(line, "\r\n")
		switch {
		case line == "" || line[0] == '#':
			// Remarks: dates, and in nft mode tables that iptables cannot read.
		case line[0] == '*':
			chains = map[string][]savedRule{}
			s[line[1:]] = chains
		case line == "COMMIT":
			chains = nil
		case chains == nil:
			return nil, fmt.Errorf("parse iptables-save: %q stands in no table", clip(line))
		case line[0] == ':':
			name, _, _ := strings.Cut(line[1:], " ")
			chains[name] = nil
		case strings.HasPrefix(line, "-A "):
			name, spec, _ := strings.Cut(line[len("-A "):], " ")
			if _, ok := chains[name]; !ok {
				return nil, fmt.Errorf("parse iptables-save: rule of unknown chain %q", clip(name))
			}
			chains[name] = append(chains[name], parseRule(spec))
		default:
			return nil, fmt.Errorf("parse iptables-save: unknown line %q", clip(line))
		}
	}
	if chains != nil {
		return nil, fmt.Errorf("parse iptables-save: the last table has no end")
	}
	return s, nil
}

// parseRule takes a rule apart as far as we need it.
func parseRule(spec string) savedRule {
	r := savedRule{spec: spec}
	words := splitRule(spec)
	var rest []string
	for i := 0; i < len(words); i++ {
		switch {
		case words[i] == "-m" && i+3 < len(words) && words[i+1] == "comment" && words[i+2] == "--comment" && r.comment == "":
			r.comment = unquote(words[i+3])
			i += 3
			continue
		case (words[i] == "-j" || words[i] == "-g") && i+1 < len(words):
			r.target = words[i+1]
		}
		rest = append(rest, words[i])
	}
	r.rest = strings.Join(rest, " ")
	return r
}

// splitRule splits at spaces outside of double quotes. Within these a backslash
// guards the next byte (xtables_save_string in iptables' libxtables/xtables.c).
func splitRule(spec string) []string {
	var words []string
	start, quoted := -1, false
	for i := 0; i < len(spec); i++ {
		c := spec[i]
		switch {
		case c == ' ' && !quoted:
			if start >= 0 {
				words = append(words, spec[start:i])
			}
			start = -1
			continue
		case c == '\\' && quoted:
			i++
		case c == '"':
			quoted = !quoted
		}
		if start < 0 {
			start = i
		}
	}
	if start >= 0 {
		words = append(words, spec[start:])
	}
	return words
}

func unquote(w string) string {
	if len(w) < 2 || w[0] != '"' || w[len(w)-1] != '"' {
		return w
	}
	w = w[1 : len(w)-1]
	if !strings.Contains(w, `\`) {
		return w
	}
	var b strings.Builder
	for i := 0; i < len(w); i++ {
		if w[i] == '\\' && i+1 < len(w) {
			i++
		}
		b.WriteByte(w[i])
	}
	return b.String()
}

// clip keeps what strangers wrote short in an error.
func clip(s string) string {
	if len(s) > 80 {
		return s[:80] + "…"
	}
	return s
}
