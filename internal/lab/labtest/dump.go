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
	{"bridge fdb show", ""},
	{"ip -4 rule", ""},
	{"iptables-save", ""},
	{"ip6tables-save", ""},
}

// volatile is what differs from one moment to the next though nothing was
// changed: numbers of links, which a link that was made again has anew; random
// MACs of the far end; ages, counters and timers; the time in comments.
var volatile = regexp.MustCompile(`(?m)^\d+: |@if\d+|@[a-z0-9-]+:|link-netns \S+|link-netnsid \d+|\[\d+:\d+\]|(?:hello|tcn|topology_change|gc)_timer\s+[0-9.]+|` +
	` (?:num|gso|gro|tso)\S* \d+|allmulti \d+|promiscuity \d+|(?:valid|preferred)_lft \w+|expires \w+|fdb_n_learned \d+|parentbus \S+|parentdev \S+`)

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
	var lines []string
	sorted := true
	for line := range strings.Lines(out) {
		line = strings.Join(strings.Fields(volatile.ReplaceAllString(line, " ")), " ")
		sorted = sorted && !strings.HasPrefix(line, "*")
		if line == "" || strings.HasPrefix(line, "#") || !strings.Contains(line, only) || strings.Contains(line, " fe80::") {
			continue
		}
		lines = append(lines, line)
	}
	if sorted {
		slices.Sort(lines)
	}
	return lines
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
