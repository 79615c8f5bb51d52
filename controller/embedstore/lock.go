package embedstore

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// lockName is the file in the data directory that its process holds locked.
const lockName = "ovl.lock"

// lockDir makes the data directory if needed and takes it for this process.
// etcd's own lock, bbolt's, waits in silence for ever; this one says who is in
// the way. The kernel drops it with the process.
func lockDir(dir string) (*os.File, error) {
	if dir == "" {
		return nil, errors.New("no data directory given")
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make data directory: %w", err)
	}
	f, err := os.OpenFile(filepath.Join(dir, lockName), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock data directory: %w", err)
	}
	err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if err != nil {
		_ = f.Close()
	}
	if errors.Is(err, unix.EWOULDBLOCK) {
		return nil, fmt.Errorf("lock data directory %s: another process uses it; stop that one or choose another directory", dir)
	}
	if err != nil {
		return nil, fmt.Errorf("lock data directory %s: %w", dir, err)
	}
	return f, nil
}
