//go:build docker

package docker

import "github.com/ovlnet/ovl/internal/lab/labtest"

// groupParent is the control group below which engines make those of their
// containers.
const groupParent = "/ovl-docker-test"

func sweepGroups() { labtest.SweepGroups(groupParent) }
