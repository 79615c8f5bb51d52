package conflist

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
)

// Install puts the plugin at path into dir under the name by which runtimes call it.
// A runtime that begins it meanwhile begins the old one or the new one, and one that
// runs goes on.
func Install(path, dir string) error {
	if err := install(path, dir); err != nil {
		return fmt.Errorf("install the plugin in %s: %w", dir, err)
	}
	return nil
}

func install(path, dir string) error {
	from, err := os.Open(path)
	if err != nil {
		return err
	}
	defer from.Close()                              // only read
	if err := os.MkdirAll(dir, 0o755); err != nil { //nolint:gosec // for every runtime to read
		return err
	}
	to, err := os.CreateTemp(dir, ".ovl-*.tmp")
	if err != nil {
		return err
	}
	defer os.Remove(to.Name()) // gone once it is in place
	_, err = io.Copy(to, from)
	if err == nil {
		err = to.Chmod(0o755)
	}
	if err == nil {
		err = to.Sync()
	}
	if err = errors.Join(err, to.Close()); err != nil {
		return err
	}
	return os.Rename(to.Name(), filepath.Join(dir, Type))
}
