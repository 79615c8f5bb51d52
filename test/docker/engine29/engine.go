//go:build tools

// Package engine29 names the programs of Docker engine 29, for `make engine29`.
// They have a module of their own, so that nothing of theirs is in ovl's.
package engine29

import (
	_ "github.com/moby/moby/v2/cmd/docker-proxy"
	_ "github.com/moby/moby/v2/cmd/dockerd"
	_ "github.com/opencontainers/runc"
)
