package labtest

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// dumps are the commands that show all that ovl may touch on a host, each with
// what its lines must contain to count; empty: all count.
var dumps = []struct{ command, only string }{
	{"ip -o -d link", ""},
	{"ip -o address", "inet"},
	{"ip -4 route show table all", ""},
	{"ip -6 route show table all", ""},
	{"ip neigh show nud permanent", ""},
	{"bridge fdb show", "permanent"}, // what a bridge learns comes and goes
	{"ip -4 rule", ""},
	{"iptables-save", ""},
	{"ip6tables-save", ""},
	// Each element of a set on a line of its own: their order says nothing.
	{"nft -s list ruleset inet | tr '{},' '\\n'", ""},
	{"nft -s list ruleset bridge | tr '{},' '\\n'", ""},
}

// volatile is what differs from one moment to the next though nothing was
// changed: numbers of links, which a link that was made again has anew;
// whether the far end is up; ages, counters and timers.
var volatile = regexp.MustCompile(strings.Join([]string{
	`^\d+: `, `@if\d+`, `@[a-z0-9-]+:`, `link-netns \S+`, `link-netnsid \d+`,
	`NO-CARRIER,`, `,(?:LOWER_UP|M-DOWN)`, ` state (?:UP|DOWN|LOWERLAYERDOWN|UNKNOWN|forwarding|disabled)\b`, ` linkdown`,
	`\[\d+:\d+\]`, `\b[a-z_]+_timer +[0-9.]+`, `\b(?:num|gso|gro|tso)\S* \d+`, `allmulti \d+`, `promiscuity \d+`,
	`(?:valid|preferred)_lft \w+`, `expires \w+`, `fdb_n_learned \d+`, `\bparent(?:bus|dev) \S+`,
	`hold_timer +[0-9.]+`, `topology_change(?:_detected|_ack)? \d`, `config_pending \d`,
}, "|"))

// Dump returns all that ovl may touch in the host's own namespace, sorted, and
// without what changes by itself: equal dumps are equal states.
func (l *Lab) Dump(tb testing.TB, host string) string {
	tb.Helper()
	return l.dump(tb, host, "")
}

// DumpNamespace is [Lab.Dump] of a named namespace on the host.
func (l *Lab) DumpNamespace(tb testing.TB, host, name string) string {
	tb.Helper()
	return l.dump(tb, host, "ip netns exec "+name+" ")
}

// dump runs all commands in one shell: each entry of the lab costs more than
// what is asked there.
func (l *Lab) dump(tb testing.TB, host, prefix string) string {
	tb.Helper()
	const mark = "\x1e"
	var script strings.Builder
	script.WriteString("set -e\n")
	for _, d := range dumps {
		fmt.Fprintf(&script, "%s%s\nprintf '\\036'\n", prefix, d.command)
	}
	out := strings.Split(l.Run(tb, host, "sh", "-c", script.String()), mark)
	var all strings.Builder
	for i, d := range dumps {
		fmt.Fprintf(&all, "# %s%s\n%s\n", prefix, d.command, strings.Join(stable(out[i], d.only), "\n"))
	}
	return all.String()
}

// stable returns the lines of out that count, sorted, since the kernel lists
// what is made again last. The rules of iptables keep their order: there it is
// the meaning.
func stable(out, only string) []string {
	if strings.Contains(out, "\n*") || strings.HasPrefix(out, "*") {
		return rules(out)
	}
	var lines []string
	for line := range strings.Lines(out) {
		line = strings.Join(strings.Fields(volatile.ReplaceAllString(line, "")), " ")
		if line == "" || !strings.Contains(line, only) || slices.ContainsFunc(kernels, func(k string) bool { return strings.Contains(line, k) }) {
			continue
		}
		lines = append(lines, line)
	}
	slices.Sort(lines)
	return lines
}

// kernels mark what the kernel makes by itself, and of which it makes more
// while a host forwards: link-local addresses and multicast memberships.
var kernels = []string{" fe80::", "multicast ff00::/8", "33:33:", "01:00:5e:"}

// rules returns what iptables-save wrote, each line with its table. A chain of
// the kernel's own that accepts is nothing: that it is listed at all depends
// on who has looked at its table.
func rules(out string) []string {
	var lines []string
	table := ""
	for line := range strings.Lines(out) {
		line = strings.TrimSpace(volatile.ReplaceAllString(line, ""))
		switch {
		case strings.HasPrefix(line, "*"):
			table = line[1:]
		case line == "", line == "COMMIT", strings.HasPrefix(line, "#"), strings.HasPrefix(line, ":") && strings.HasSuffix(line, " ACCEPT"):
		default:
			lines = append(lines, table+" "+line)
		}
	}
	return lines
}

// Difference returns the first lines in which two dumps differ; empty: none.
func Difference(want, got string) string {
	w, g := strings.Split(want, "\n"), strings.Split(got, "\n")
	for i := range max(len(w), len(g)) {
		switch {
		case i >= len(w):
			return "it has more: " + g[i]
		case i >= len(g):
			return "it lacks: " + w[i]
		case w[i] != g[i]:
			return fmt.Sprintf("it has\n%s\nwhere it had\n%s", g[i], w[i])
		}
	}
	return ""
}

// AtRest reports what the host's agent would change now, and nil if nothing.
func (l *Lab) AtRest(tb testing.TB, host string) error {
	tb.Helper()
	r := l.Do(tb, host, "ovlctl", "agent", "diff", "-o", "json")
	if r.Code != 0 {
		return fmt.Errorf("agent diff on %s: exit code %d: %s", host, r.Code, r.Stderr)
	}
	if got := strings.TrimSpace(r.Stdout); got != "[]" {
		return fmt.Errorf("a pass on %s would change %s", host, got)
	}
	return nil
}
