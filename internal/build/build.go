// Package build says what a binary was built from. It stands on nothing, so that a
// program that has to start at once can say it too. It must never do more.
package build

import (
	"fmt"
	"runtime"
	"runtime/debug"
)

// Stamped by the build: -ldflags "-X github.com/ovlnet/ovl/internal/build.version=…".
//
//nolint:gochecknoglobals // the linker can only write package variables
var (
	version string
	commit  string
)

// Info says what a binary was built from.
type Info struct {
	Version string `json:"version"` // v0.1.0, or "dev"
	Commit  string `json:"commit"`  // of git, with "-dirty" if files had changed; or "unknown"
	Go      string `json:"go"`      // version of the compiler
}

// Version returns what this binary was built from: what the build stamped, or
// else what the go command recorded.
func Version() Info {
	b := Info{Version: version, Commit: commit, Go: runtime.Version()}
	info, ok := debug.ReadBuildInfo()
	if ok {
		b = b.or(info)
	}
	if b.Version == "" {
		b.Version = "dev"
	}
	if b.Commit == "" {
		b.Commit = "unknown"
	}
	return b
}

func (b Info) or(info *debug.BuildInfo) Info {
	if b.Version == "" && info.Main.Version != "(devel)" {
		b.Version = info.Main.Version
	}
	if b.Commit != "" {
		return b
	}
	dirty := ""
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			b.Commit = s.Value
		case "vcs.modified":
			if s.Value == "true" {
				dirty = "-dirty"
			}
		}
	}
	if b.Commit != "" {
		b.Commit = b.Commit[:min(12, len(b.Commit))] + dirty
	}
	return b
}

// String is the build in one line: "v0.1.0 (commit 0123456789ab, go1.26.8)".
func (b Info) String() string {
	return fmt.Sprintf("%s (commit %s, %s)", b.Version, b.Commit, b.Go)
}
