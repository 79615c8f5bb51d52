//go:build kubernetes

package kubernetes_test

import (
	"path/filepath"
	"testing"

	"github.com/ovlnet/ovl/internal/lab/labtest"
)

// cgroup is where the pods of a lab are in each hierarchy of cgroups, all of which
// are the machine's.
func cgroup(lab string) string { return "/ovl-" + lab }

// leaveNoCgroups removes those of a lab's pods when the lab is down: nobody does
// when their processes end with it.
func leaveNoCgroups(t *testing.T, lab string) {
	t.Helper()
	t.Cleanup(func() {
		labtest.SweepGroups(cgroup(lab))
		left, err := filepath.Glob("/sys/fs/cgroup/*" + cgroup(lab))
		must(t, err)
		unified, err := filepath.Glob("/sys/fs/cgroup" + cgroup(lab))
		must(t, err)
		for _, group := range append(left, unified...) {
			t.Errorf("what is left of the pods: %s", group)
		}
	})
}
