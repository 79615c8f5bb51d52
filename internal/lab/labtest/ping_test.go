package labtest

import (
	"slices"
	"testing"
)

func TestAnswers(t *testing.T) {
	const line = "64 bytes from 10.64.2.2: icmp_seq="
	for name, c := range map[string]struct {
		out      string
		answered int
		missing  []int
	}{
		"all":          {line + "1 ttl=62 time=0.1 ms\n" + line + "2 ttl=62 time=0.1 ms\n", 2, nil},
		"two lost":     {line + "1 ttl=62 time=0.1 ms\n" + line + "4 ttl=62 time=0.1 ms\n", 2, []int{2, 3}},
		"the first":    {line + "2 ttl=62 time=0.1 ms\n", 1, []int{1}},
		"out of order": {line + "2 ttl=62 time=0.1 ms\n" + line + "1 ttl=62 time=9 ms\n" + line + "3 ttl=62 time=9 ms\n", 3, nil},
		"none":         {"PING 10.64.2.2\n--- 10.64.2.2 ping statistics ---\n", 0, nil},
		"no answer":    {"From 10.64.2.1 icmp_seq=1 Destination Host Unreachable\n", 0, nil},
		"not a number": {line + "99999999999999999999 ttl=62\n", 0, nil},
	} {
		answered, missing := answers(c.out)
		if answered != c.answered || !slices.Equal(missing, c.missing) {
			t.Errorf("%s: %d answers, missing %v, want %d and %v", name, answered, missing, c.answered, c.missing)
		}
	}
}
