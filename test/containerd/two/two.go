//go:build tools

// Package two names the programs of containerd 2, which Debian has not yet, for
// `make containerd2`. They have a module of their own, so that nothing of theirs is
// in ovl's.
package two

import (
	_ "github.com/containerd/containerd/v2/cmd/containerd"
	_ "github.com/containerd/containerd/v2/cmd/containerd-shim-runc-v2"
	_ "github.com/containerd/containerd/v2/cmd/ctr"
)
