//go:build kubernetes

package kubernetes_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

// cgroup is where the pods of a lab are in each hierarchy of cgroups, all of which
// are the machine's.
func cgroup(lab string) string { return "/ovl-" + lab }

// leaveNoCgroups removes those of a lab's pods when the lab is down: nobody does
// when their processes end with it.
func leaveNoCgroups(t *testing.T, lab string) {
	t.Helper()
	t.Cleanup(func() {
		hierarchies, err := filepath.Glob("/sys/fs/cgroup/*" + cgroup(lab))
		must(t, err)
		for _, root := range append(hierarchies, "/sys/fs/cgroup"+cgroup(lab)) {
			var dirs []string
			err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
				if err == nil && d.IsDir() {
					dirs = append(dirs, path)
				}
				return err
			})
			if errors.Is(err, fs.ErrNotExist) {
				continue
			}
			must(t, err)
			for _, dir := range slices.Backward(dirs) {
				if err := os.Remove(dir); err != nil {
					t.Errorf("what is left of the pods: %v", err)
				}
			}
		}
	})
}
