package conflist

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
)

func TestInstall(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "opt", "cni", "bin")
	for _, version := range []string{"one", "another, longer"} {
		plugin := filepath.Join(t.TempDir(), "ovl-cni")
		if err := os.WriteFile(plugin, []byte(version), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := Install(plugin, dir); err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(filepath.Join(dir, "ovl"))
		if err != nil || string(got) != version {
			t.Errorf("installed %q, %v; want %q", got, err, version)
		}
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 1 {
		t.Fatalf("in %s is %v, %v; want the plugin alone", dir, entries, err)
	}
	if info, err := entries[0].Info(); err != nil || info.Mode() != 0o755 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	if err := Install(filepath.Join(dir, "nothing"), dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a plugin that is not there: %v", err)
	}
}
