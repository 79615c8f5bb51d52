package build

import (
	"runtime/debug"
	"strings"
	"testing"
)

func TestBuildFallsBack(t *testing.T) {
	info := &debug.BuildInfo{
		Main:     debug.Module{Version: "v9.9.9"},
		Settings: []debug.BuildSetting{{Key: "vcs.revision", Value: strings.Repeat("a", 40)}, {Key: "vcs.modified", Value: "true"}},
	}
	if got, want := (Info{}).or(info), (Info{Version: "v9.9.9", Commit: "aaaaaaaaaaaa-dirty"}); got != want {
		t.Errorf("unstamped = %+v, want %+v", got, want)
	}
	stamped := Info{Version: "v1", Commit: "b"}
	if got := stamped.or(info); got != stamped {
		t.Errorf("stamped = %+v, want it unchanged", got)
	}
	if v := Version(); v.Version == "" || v.Commit == "" || v.Go == "" {
		t.Errorf("Version() = %+v has an empty field", v)
	}
}
