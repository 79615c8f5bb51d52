package kernel

import (
	"testing"

	"golang.org/x/sys/unix"
)

// Shrink makes the monitor lose messages.
func (m *Monitor) Shrink(t *testing.T) {
	t.Helper()
	raw, err := m.route.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	err = raw.Control(func(fd uintptr) { _ = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUF, 1) })
	if err != nil {
		t.Fatal(err)
	}
}
