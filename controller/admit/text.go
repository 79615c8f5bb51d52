package admit

import (
	"maps"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/ovlnet/ovl/internal/cluster"
)

// maxLabelBytes bounds all labels of a network together, so that its record
// fits into the store however its text has to be escaped.
const maxLabelBytes = 8 << 10

func labels(vs *list, field string, m map[string]string) {
	if len(m) > cluster.MaxLabels {
		vs.addf(field, "%d are too many: give at most %d", len(m), cluster.MaxLabels)
		return
	}
	total := 0
	for _, k := range slices.Sorted(maps.Keys(m)) {
		v := m[k]
		total += len(k) + len(v)
		switch {
		case k == "":
			vs.addf(field, "a label has no key: write key=value")
		case len(k) > cluster.MaxLabelLen:
			vs.addf(field, "the key %s is too long: use at most %d bytes", quote(k), cluster.MaxLabelLen)
		case len(v) > cluster.MaxLabelLen:
			vs.addf(field, "the value of %s is too long: use at most %d bytes", quote(k), cluster.MaxLabelLen)
		case !printable(k) || !printable(v):
			vs.addf(field, "%s=%s holds what cannot be printed: use printable text", quote(k), quote(v))
		}
	}
	if total > maxLabelBytes {
		vs.addf(field, "%d bytes are too much: use at most %d bytes for all labels together", total, maxLabelBytes)
	}
}

// printable: labels end up in terminals and logs.
func printable(s string) bool {
	return utf8.ValidString(s) && !strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) })
}

// maxDomainLen leaves room for <name>.<network>. in front of the domain within
// the 253 characters of a DNS name as text (RFC 1035 section 3.1).
const maxDomainLen = 253 - 2*(cluster.MaxNameLen+1)

func domain(vs *list, field, s string) {
	if s == "" {
		return
	}
	if len(s) > maxDomainLen {
		vs.addf(field, "%s is too long: use at most %d characters, so that names of containers fit in front", quote(s), maxDomainLen)
		return
	}
	for label := range strings.SplitSeq(s, ".") {
		if cluster.CheckName(label) != nil {
			vs.addf(field, "%s is not a domain: write labels of a-z, 0-9 and '-' with single dots between, such as lab.example", quote(s))
			return
		}
	}
}

// Query returns what is wrong with text by which something is looked for.
func Query(field, s string) []Violation {
	var vs list
	switch {
	case s == "":
		vs.addf(field, "is empty: give an ID, a name, an address or a MAC")
	case len(s) > 253 || !printable(s):
		vs.addf(field, "%s is no ID, name, address or MAC: give one of these", quote(s))
	}
	return vs
}
