package fault

import (
	"regexp"
	"strings"
	"testing"

	"github.com/ovlnet/ovl/internal/lab/labtest"
)

// names finds what the braces of a breakage stand for on h1.
func names(t *testing.T, l *labtest.Lab) *strings.Replacer {
	t.Helper()
	tunnel := linkOf(t, l, "h1", "ovx")
	route := l.Run(t, "h1", "sh", "-c", "ip -4 route | grep onlink")
	neigh := l.Run(t, "h1", "ip", "-4", "neigh", "show", "dev", tunnel)
	return strings.NewReplacer(
		"{bridge}", linkOf(t, l, "h1", "ovb"),
		"{tunnel}", tunnel,
		"{veth}", linkOf(t, l, "h1", "ove"),
		"{outside}", "192.168.77.254",
		"{peer}", find(t, route, `^(\S+) via`),
		"{via}", find(t, route, `via (\S+)`),
		"{protocol}", find(t, route, `proto (\S+)`),
		"{vtep}", find(t, neigh, `lladdr (\S+)`),
	)
}

// linkOf returns the only link of ours on a host whose name begins so.
func linkOf(t *testing.T, l *labtest.Lab, host, prefix string) string {
	t.Helper()
	var links []struct {
		Name  string `json:"ifname"`
		Alias string `json:"ifalias"`
	}
	l.JSON(t, &links, host, "ip", "-j", "-d", "link")
	var found []string
	for _, l := range links {
		if strings.HasPrefix(l.Name, prefix) && strings.HasPrefix(l.Alias, "ovl/") {
			found = append(found, l.Name)
		}
	}
	if len(found) != 1 {
		t.Fatalf("links of ours %s… on %s: %v, want one", prefix, host, found)
	}
	return found[0]
}

// find returns the first group of a pattern in text.
func find(t *testing.T, text, pattern string) string {
	t.Helper()
	m := regexp.MustCompile(pattern).FindStringSubmatch(text)
	if m == nil {
		t.Fatalf("find %s: not in %q", pattern, text)
	}
	return m[1]
}
