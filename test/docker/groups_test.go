//go:build docker

package docker

import (
	"io/fs"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// groupParent is the control group below which engines make those of their
// containers. The hierarchy is the machine's, whatever namespaces a lab has: when
// a lab is killed, its empty groups remain.
const groupParent = "/ovl-docker-test"

// sweepGroups removes the control groups of containers that are no more. One with
// processes in it, of another run of these tests, cannot be removed: rmdir(2)
// says EBUSY.
func sweepGroups() {
	roots, _ := filepath.Glob("/sys/fs/cgroup/*" + groupParent) // a pattern that is well formed
	unified, _ := filepath.Glob("/sys/fs/cgroup" + groupParent)
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
