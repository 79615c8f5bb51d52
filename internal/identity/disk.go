package identity

import (
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/ovlnet/ovl/internal/wholefile"
)

// Write puts data at path, readable by its owner alone (0600): whole or not at
// all, also when the machine stops. The directory must exist.
func Write(path string, data []byte) error {
	if err := wholefile.Write(path, data, 0o600); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}

// errLoose is a key that others than its owner may read.
var errLoose = errors.New("others than its owner may read this key: chmod 600 it")

// Read returns the file at path, of at most [MaxPEM] bytes.
func Read(path string) ([]byte, error) { return read(path, 0) }

// ReadKey is Read for a file that holds a key: one that others may read is
// refused.
func ReadKey(path string) ([]byte, error) { return read(path, 0o077) }

func read(path string, forbidden os.FileMode) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("read identity: %w", err)
	}
	defer f.Close() // only read
	st, err := f.Stat()
	if err == nil && !st.Mode().IsRegular() {
		err = errors.New("not a file")
	}
	if err == nil && st.Mode().Perm()&forbidden != 0 {
		err = errLoose
	}
	var data []byte
	if err == nil {
		data, err = io.ReadAll(io.LimitReader(f, MaxPEM+1))
	}
	if err == nil && len(data) > MaxPEM {
		err = fmt.Errorf("larger than %d bytes", MaxPEM)
	}
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	return data, nil
}
