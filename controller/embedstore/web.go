package embedstore

import (
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
)

// webSocket is where etcd serves its HTTP pages (metrics, health, version): a
// socket in the data directory, which belongs to root alone. The directory is
// named by a descriptor, since the path of a socket has 107 bytes at most
// (unix(7)) and that of a directory does not.
type webSocket struct {
	dir  *os.File
	path string
}

const webName = "http.sock"

func newWebSocket(dataDir string) (*webSocket, error) {
	dir, err := os.Open(dataDir)
	if err != nil {
		return nil, fmt.Errorf("open data directory: %w", err)
	}
	w := &webSocket{dir: dir, path: filepath.Join(dataDir, webName)}
	if err := w.remove(); err != nil { // left from a crash; the directory is locked
		return nil, errors.Join(err, dir.Close())
	}
	return w, nil
}

func (w *webSocket) url() url.URL {
	return url.URL{Scheme: "unix", Path: fmt.Sprintf("/proc/self/fd/%d/%s", w.dir.Fd(), webName)}
}

func (w *webSocket) remove() error {
	if err := os.Remove(w.path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove socket: %w", err)
	}
	return nil
}

func (w *webSocket) close() error {
	if w == nil {
		return nil
	}
	return errors.Join(w.remove(), w.dir.Close())
}
