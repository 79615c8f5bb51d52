package conflist

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/ovlnet/ovl/internal/wholefile"
)

// Install puts the plugin at path into dir under the name by which runtimes call it.
// A runtime that begins it meanwhile begins the old one or the new one, and one that
// runs goes on.
func Install(path, dir string) error {
	plugin, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("install the plugin: %w", err)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil { //nolint:gosec // for every runtime to read
		return fmt.Errorf("install the plugin: %w", err)
	}
	if err := wholefile.Write(filepath.Join(dir, Type), plugin, 0o755); err != nil {
		return fmt.Errorf("install the plugin: %w", err)
	}
	return nil
}
