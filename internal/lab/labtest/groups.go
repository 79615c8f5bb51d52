package labtest

import (
	"io/fs"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// SweepGroups removes the control groups below parent that have no processes. The
// hierarchy is the machine's, whatever namespaces a lab has: when a lab is killed, the
// empty groups of its containers remain. One with processes in it, of another run,
// cannot be removed: rmdir(2) says EBUSY.
func SweepGroups(parent string) {
	roots, _ := filepath.Glob("/sys/fs/cgroup/*" + parent) // a pattern that is well formed
	unified, _ := filepath.Glob("/sys/fs/cgroup" + parent)
	for _, root := range append(roots, unified...) {
		var found []string
		_ = filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
			if err == nil && d.IsDir() {
				found = append(found, path)
			}
			return nil // what goes meanwhile is gone
		})
		for i := range found { // the deepest first
			_ = unix.Rmdir(found[len(found)-1-i])
		}
	}
}
