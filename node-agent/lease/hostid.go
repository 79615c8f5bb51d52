package lease

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/ovlnet/ovl/internal/cluster"
	"github.com/ovlnet/ovl/internal/wholefile"
)

// hostIDFile is where the ID lies in the state directory.
const hostIDFile = "host-id"

// LoadHostID returns the host's ID from the file host-id in dir, and makes both
// the ID and the file if there is none. It survives everything but the loss of
// the directory. A damaged file is an error, never replaced: with another ID the
// host would lose its subnets.
func LoadHostID(dir string) (cluster.HostID, error) {
	path := filepath.Join(dir, hostIDFile)
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return newHostID(dir, path)
	}
	if err != nil {
		return "", fmt.Errorf("read host ID: %w", err)
	}
	id, err := cluster.ParseHostID(strings.TrimSuffix(string(b), "\n"))
	if err != nil {
		return "", fmt.Errorf("read host ID %s: %w; restore the file, or remove it to join as a new host without this one's subnets", path, err)
	}
	return id, nil
}

// newHostID makes an ID and publishes it whole or not at all: a link to a
// complete, synced file. Of two processes that race, both return the winner's.
func newHostID(dir, path string) (cluster.HostID, error) {
	var raw [16]byte
	rand.Read(raw[:]) // never fails (crypto/rand since Go 1.24)
	id := hex.EncodeToString(raw[:])
	switch err := wholefile.Create(path, []byte(id+"\n"), 0o644); {
	case errors.Is(err, fs.ErrExist):
		return LoadHostID(dir)
	case err != nil:
		return "", fmt.Errorf("make host ID: %w", err)
	}
	return cluster.HostID(id), nil
}
