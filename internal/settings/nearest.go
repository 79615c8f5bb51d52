package settings

import "github.com/spf13/pflag"

// nearest returns the flag whose name is at most two edits away from key, and
// nearer than all others, or "".
func nearest(flags *pflag.FlagSet, key string) string {
	const far = 3
	if len(key) > 64 {
		return ""
	}
	name, best := "", far
	flags.VisitAll(func(f *pflag.Flag) {
		if d := distance(key, f.Name); d < best && !notSettings[f.Name] {
			name, best = f.Name, d
		}
	})
	return name
}

// distance is Levenshtein's: how many bytes to insert, remove or replace.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j+1]+1, row[j]+1)
		}
	}
	return row[len(b)]
}
