package embedstore

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"go.etcd.io/bbolt"
	bbolterrors "go.etcd.io/bbolt/errors"
)

// lockWait is how long another program may hold the database. It is not
// another controller (see lockDir): a backup, or an etcd on the same directory.
const lockWait = time.Second

// precheck opens the database once and closes it. etcd opens it in a goroutine
// of its own, where what is wrong ends the process.
func precheck(dir string) (err error) {
	path := filepath.Join(dir, "member", "snap", "db")
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	// bbolt trusts the numbers in a page: what is damaged may panic.
	defer func() {
		if r := recover(); r != nil {
			err = damaged(dir, fmt.Errorf("open %s: %v", path, r))
		}
	}()
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{ReadOnly: true, Timeout: lockWait})
	if errors.Is(err, bbolterrors.ErrTimeout) {
		return fmt.Errorf("open %s: another process holds it; stop that one or choose another directory", path)
	}
	if err != nil {
		return damaged(dir, fmt.Errorf("open %s: %w", path, err))
	}
	return db.Close()
}

// damaged says what to do about data that cannot be read.
func damaged(dir string, err error) error {
	return fmt.Errorf("%w; restore %s from a backup or move it away", err, dir)
}
