package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"

	"github.com/coreos/go-systemd/v22/daemon"

	"github.com/ovlnet/ovl/internal/wholefile"
)

// writePID writes this process's ID to path, if there is one, so that a whole
// file is there or none.
func writePID(path string) error {
	if path == "" {
		return nil
	}
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o755); err != nil { //nolint:gosec // holds the socket too, whose own mode guards it
		return fmt.Errorf("write --pid-file: %w", err)
	}
	if err := wholefile.Replace(path, []byte(strconv.Itoa(os.Getpid())+"\n"), 0o644); err != nil {
		return fmt.Errorf("write --pid-file: %w", err)
	}
	return nil
}

// daemonReady tells systemd, if that started us (Type=notify), that the sockets
// answer.
func daemonReady() (bool, error) { return daemon.SdNotify(false, daemon.SdNotifyReady) }
