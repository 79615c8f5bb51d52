// Package wholefile writes files so that nobody ever reads a part of one.
//
// It must never follow a name that somebody else chose: what it writes is a new file
// in the directory of the old one, which takes its name. Its invariant: a path has the
// old content or the new, with the mode that was asked for, whenever the process or
// the machine stops.
package wholefile

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
)

// Write puts data at path in the place of what is there, and returns when it would
// survive that the machine stops. The directory must exist.
func Write(path string, data []byte, mode fs.FileMode) error {
	return write(path, data, mode, true, os.Rename)
}

// Create is Write where nothing may be yet: otherwise the error is [fs.ErrExist]. Of
// two that race one succeeds.
func Create(path string, data []byte, mode fs.FileMode) error {
	return write(path, data, mode, true, os.Link)
}

// Replace is Write for what is of no use after the machine stopped: it does not wait
// for the disk.
func Replace(path string, data []byte, mode fs.FileMode) error {
	return write(path, data, mode, false, os.Rename)
}

func write(path string, data []byte, mode fs.FileMode, durable bool, place func(from, to string) error) error {
	dir := filepath.Dir(path)
	// A leading dot, and no ending that anybody reads who reads all of a directory.
	f, err := os.CreateTemp(dir, "."+filepath.Base(path)+".*.new") // 0600
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(f.Name()) }() // after a rename there is none
	_, err = f.Write(data)
	if err == nil {
		err = f.Chmod(mode)
	}
	if err == nil && durable {
		err = f.Sync()
	}
	if err := errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err := place(f.Name(), path); err != nil || !durable {
		return err
	}
	return sync(dir)
}

// sync makes a new name in a directory survive that the machine stops.
func sync(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
